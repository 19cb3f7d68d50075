"""Pictures and folders as people have them: structure kept, resumed, every face, put back, in a pipe."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ifrp_bench
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.images import PictureError, read_picture
from ifrp_bench.recovery.faces import frame_faces, put_back
from tests.conftest import run, sets


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> Path:
    """A run of four steps: what it recovers is blurred, where it puts it is right."""
    out = tmp_path_factory.mktemp("runs") / "srn"
    words = ("--method", "srn", "--data", tiny, "--out", out, "--preset", "smoke", "--quiet")
    run("train", *words, *sets(steps=4, batch_size=4, validations=1, ema=0.5))
    return out


@pytest.fixture(scope="module")
def two_people(photographs, tmp_path_factory) -> Path:
    """A picture with two people side by side, the right one turned."""
    left, right = (read_picture(path) for path in sorted(photographs.rglob("*.jpg"))[1::3][:2])
    turned = np.array(Image.fromarray(right).rotate(25, Image.Resampling.BICUBIC, fillcolor=(90, 90, 90)))
    path = tmp_path_factory.mktemp("group") / "group.png"
    Image.fromarray(np.hstack([left, turned])).save(path)
    return path


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "recovered.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_comes_out_as_it_went_in(trained, photographs, tmp_path):
    run("destylize", trained, photographs, "--out", tmp_path / "faces", "--quiet")
    out = tmp_path / "faces"
    there = {path.relative_to(photographs).with_suffix("") for path in photographs.rglob("*.jpg")}
    made = {path.relative_to(out).with_suffix("") for path in out.rglob("*.png")}
    assert made == there and len(rows_of(out)) == len(there)


def test_a_second_time_only_what_is_missing_or_changed_is_done(trained, photographs, tmp_path):
    pictures, out = sorted(photographs.rglob("*.jpg"))[:3], tmp_path / "faces"
    run("destylize", trained, *pictures, "--out", out)
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    first, second, third = (out / f"{path.stem}.png" for path in pictures)
    second.unlink()
    run("destylize", trained, *pictures, "--out", out)
    assert second.is_file() and first.stat().st_mtime_ns == stamps[first]

    # other wishes are other faces; rows of pictures that are not named this time stay
    run("destylize", trained, pictures[0], "--crop", "centre", "--out", out)
    assert first.stat().st_mtime_ns != stamps[first] and third.stat().st_mtime_ns == stamps[third]
    notes = {row["file"]: row["note"] for row in rows_of(out)}
    assert notes[str(pictures[0])] == "the middle" and notes[str(pictures[2])] == "face found"


def test_rows_are_kept_now_and_then_and_whenever_it_ends(trained, photographs, tmp_path, monkeypatch):
    """Written after every batch, a large folder's rows would take longer than its faces."""
    from ifrp_bench.data.runs import open_run
    from ifrp_bench.recovery import pictures
    from ifrp_bench.recovery.trained import load_trained

    written: list[Path] = []
    original = pictures.write_rows
    monkeypatch.setattr(pictures, "PICTURES_AT_ONCE", 1)
    monkeypatch.setattr(pictures, "default_workers", lambda: 1)
    monkeypatch.setattr(pictures, "KEEPING", 1e9)
    monkeypatch.setattr(pictures, "write_rows", lambda out, rows: (written.append(out), original(out, rows)))

    jobs = pictures.find_pictures(sorted(photographs.rglob("*.jpg"))[:5], tmp_path)
    method = load_trained(open_run(trained)).method
    going = pictures.Recovery(method, tmp_path, pictures.Wishes(crop="centre")).rows(jobs)
    for _ in range(3):
        next(going)
    assert len(written) == 1 and len(rows_of(tmp_path)) == 1
    going.close()   # stopped
    assert len(written) == 2 and len(rows_of(tmp_path)) == 3


def test_faces_written_into_the_folder_that_is_searched_are_not_searched(trained, photographs, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "one.jpg").write_bytes(next(photographs.rglob("*.jpg")).read_bytes())
    for _ in range(2):
        run("destylize", trained, folder, "--out", folder / "faces")
    assert [row["file"] for row in rows_of(folder / "faces")] == [str(folder / "one.jpg")]


def test_what_a_folder_holds_and_is_not_read_has_its_line(trained, photographs, tmp_path):
    """Other formats and linked folders; a phone's photographs are HEIC."""
    folder, elsewhere = tmp_path / "album", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "one.jpe").write_bytes(next(photographs.rglob("*.jpg")).read_bytes())
    (folder / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (folder / "notes.txt").write_text("of the album")
    (folder / "more").symlink_to(elsewhere)
    printed = run("destylize", trained, folder, "--out", tmp_path / "out", exit_code=1)
    assert "phone.HEIC: HEIC, which is not read" in printed
    notes = {Path(row["file"]).name: row["note"] for row in rows_of(tmp_path / "out")}
    assert notes.keys() == {"one.jpe", "phone.HEIC", "more"}
    assert notes["one.jpe"] == "face found" and "linked folder is not followed" in notes["more"]


def test_every_face_has_its_file_box_and_angle(trained, two_people, tmp_path):
    run("destylize", trained, two_people, "--faces", "all", "--out", tmp_path)
    rows = rows_of(tmp_path)
    assert [row["face"] for row in rows] == ["group-face1.png", "group-face2.png"]
    middles = sorted((float(row["left"]) + float(row["right"])) / 2 for row in rows)
    assert middles[0] < 300 < middles[1]
    angles = {float(row["left"]) > 300: float(row["angle_deg"]) for row in rows}
    assert abs(angles[False]) < 6 and angles[True] == pytest.approx(25, abs=6)   # counter-clockwise
    assert all(float(row["probability"]) > 0.9 for row in rows)

    run("destylize", trained, two_people, "--out", tmp_path / "one")
    assert [row["face"] for row in rows_of(tmp_path / "one")] == ["group.png"]


def test_a_face_is_put_back_where_it_was_and_nothing_else_is_touched(two_people):
    picture = read_picture(two_people)
    for framed in frame_faces(picture, every=True):
        marked = np.zeros((128, 128, 3), np.uint8)
        marked[:, :, 0] = 255
        pasted = put_back(picture, marked, framed.place)
        red = (pasted[:, :, 0] > 250) & (pasted[:, :, 1] < 5)
        # the nose and both eyes are under it; the other half of the picture is as it was
        middle = framed.place @ [63.5, 63.5, 1]
        assert red[int(middle[1]), int(middle[0])]
        other = np.s_[:, 300:] if middle[0] < 300 else np.s_[:, :300]
        assert np.array_equal(pasted[other], picture[other])


def test_what_is_put_back_upside_up_fits_its_surroundings(photographs):
    """The real face, framed upright and put back, is the picture again but for resampling."""
    from ifrp_bench.ground.warp import resample

    picture = read_picture(sorted(photographs.rglob("*.jpg"))[2])   # turned
    framed, = frame_faces(picture)
    again = put_back(picture, resample(picture, framed.place, (128, 128)), framed.place)
    apart = np.abs(again.astype(int) - picture)
    assert apart.mean() < 1.5 and np.percentile(apart, 99) < 30


def test_a_name_as_long_as_a_file_systems_is_shortened(trained, photographs, tmp_path):
    picture = tmp_path / ("é" * 120 + ".jpg")
    picture.write_bytes(next(photographs.rglob("*.jpg")).read_bytes())
    run("destylize", trained, picture, "--compare", "--out", tmp_path / "out")
    made = [path.stem for path in (tmp_path / "out").glob("*.png")]
    assert len(made) == 2 and all(name.startswith("é" * 90) for name in made)


def test_a_pasted_picture_is_as_large_as_it_was(trained, two_people, tmp_path):
    run("destylize", trained, two_people, "--paste", "--faces", "all", "--out", tmp_path)
    pasted, before = read_picture(tmp_path / "group-pasted.png"), read_picture(two_people)
    assert pasted.shape == before.shape and (pasted != before).any()


def test_a_contact_sheet_shows_every_comparison(trained, photographs, tmp_path):
    printed = run("destylize", trained, photographs, "--compare", "--out", tmp_path, "--quiet")
    assert "contact-sheet.png" in printed
    width, height = Image.open(tmp_path / "contact-sheet.png").size
    assert (width, height) == (8 * 216 + 7 * 4, 2 * 133 + 4)


def test_a_pipe_takes_a_picture_and_gives_a_face(trained, photographs):
    picture = next(photographs.rglob("*.jpg"))
    done = subprocess.run(
        [sys.executable, "-m", "ifrp_bench", "destylize", str(trained), "-"],
        input=picture.read_bytes(), capture_output=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    face = np.array(Image.open(io.BytesIO(done.stdout)))
    assert np.array_equal(face, ifrp_bench.destylize(picture, trained))


def test_one_call_takes_files_bytes_pictures_and_arrays(trained, photographs):
    path = next(photographs.rglob("*.jpg"))
    wanted = ifrp_bench.destylize(path, trained)
    assert wanted.shape == (266, 214, 3) and wanted.dtype == np.uint8
    data, pixels = path.read_bytes(), read_picture(path)
    opaque = np.dstack([pixels, np.full_like(pixels[:, :, :1], 255)])
    for picture in (str(path), data, io.BytesIO(data), pixels, opaque, Image.open(path)):
        assert np.array_equal(ifrp_bench.destylize(picture, trained), wanted)
    grey = Image.open(path).convert("L")
    of_grey = ifrp_bench.destylize(grey, trained)
    assert np.array_equal(ifrp_bench.destylize(np.asarray(grey), trained), of_grey)
    assert ifrp_bench.destylize(Image.open(path).convert("CMYK"), trained).shape == wanted.shape


@pytest.mark.parametrize("picture, reason", [
    (np.zeros((40, 40, 3)), "an array of float64 .* expected .* array of uint8"),
    (np.zeros((3, 40, 40), np.uint8), r"uint8 \(3, 40, 40\), expected"),
    (np.zeros((1, 3000, 3), np.uint8), "3000x1 is less than 16 px"),
    (np.zeros((0, 5, 3), np.uint8), "5x0 is less than 16 px"),
    (["a.png", "b.png"], "got list, expected a path"),
    (None, "got NoneType, expected"),
    ("nowhere.png", "nowhere.png: not a regular file"),
    (b"text", "not a picture"),
])
def test_what_holds_no_picture_is_said_in_one_line(picture, reason):
    with pytest.raises(PictureError, match=reason):
        ifrp_bench.destylize(picture)


def test_a_crop_that_there_is_not_is_refused(photographs):
    with pytest.raises(InputError, match="crop 'center': expected one of auto, face, centre, none"):
        ifrp_bench.destylize(next(photographs.rglob("*.jpg")), crop="center")


def test_nothing_else_is_in_the_package():
    with pytest.raises(AttributeError):
        ifrp_bench.nothing


def test_what_cannot_be_is_said_in_one_line(trained, tmp_path, photographs):
    picture = next(photographs.rglob("*.jpg"))
    (tmp_path / "file").write_text("")
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, told, code in (
        ((empty,), "no run here (no run.json), and no picture", 1),
        ((tmp_path / "gone", picture), "no run", 1),
        ((trained, picture, "--out", tmp_path / "file"), "the folder that faces are written into", 1),
        ((trained, picture, picture, "--out", "-"), "--out - takes one picture", 2),
    ):
        printed = run("destylize", *words, exit_code=code)
        assert told in printed and "Traceback" not in printed
