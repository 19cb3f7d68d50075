"""What comes from other systems: pairs of photographs and drawings, and faces that others recovered."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ifrp_bench.data.exchange import import_pairs, import_recovered
from ifrp_bench.data.format import open_dataset, read_recovered, read_shard
from ifrp_bench.data.split import load_split
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.images import read_picture, write_png
from ifrp_bench.ground.warp import undo_warp
from tests.conftest import hashes, run


@pytest.fixture(scope="module")
def drawings(photographs, tmp_path_factory) -> tuple[Path, Path]:
    """Four photographs in one flat folder, and pencil drawings of them under the same names."""
    root = tmp_path_factory.mktemp("drawings")
    for number, path in enumerate(sorted(photographs.rglob("*_0000.jpg"))):
        picture = read_picture(path)
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        pencil = np.clip(grey / np.maximum(cv2.GaussianBlur(grey, None, 9), 1) * 225, 0, 255).astype(np.uint8)
        for folder, made in (("photos", picture), ("sketches", np.repeat(pencil[:, :, None], 3, 2))):
            (root / folder).mkdir(exist_ok=True)
            write_png(root / folder / f"{number:03d}.png", made)
    return root / "photos", root / "sketches"


@pytest.fixture(scope="module")
def sketches(drawings, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sketches") / "data"
    run(
        "import-pairs",
        "--real",
        drawings[0],
        "--stylized",
        drawings[1],
        "--out",
        out,
        "--workers",
        0,
        "--quiet",
    )
    return out


def test_pairs_of_drawings_make_a_data_set_for_testing(sketches):
    data = open_dataset(sketches)
    shard = read_shard(data.shards("test")[0], sha256=data.info["shards"]["test-00000.h5"]["sha256"])
    assert (
        data.info["counts"]["test"] == {"faces": 4, "pairs": 4} and data.info["counts"]["train"]["pairs"] == 0
    )
    assert set(shard.style) == {b"sketch"} and len(set(shard.identity)) == 4
    assert "good" in run("verify", sketches, "--quiet") and (sketches / "preview.png").is_file()


def test_a_drawing_turned_back_lies_on_its_photograph(sketches):
    shard = read_shard(open_dataset(sketches).shards("test")[0])
    for stylized, real, warp in zip(shard.stylized, shard.real, shard.warp):
        upright = undo_warp(stylized, warp)[32:96, 32:96].mean(2)
        edges = [
            cv2.GaussianBlur(np.abs(cv2.Laplacian(np.float32(plane), cv2.CV_32F)), None, 2).ravel()
            for plane in (upright, real[32:96, 32:96].mean(2))
        ]
        turned = np.abs(cv2.Laplacian(np.float32(stylized[32:96, 32:96].mean(2)), cv2.CV_32F))
        assert (
            np.corrcoef(*edges)[0, 1] > np.corrcoef(cv2.GaussianBlur(turned, None, 2).ravel(), edges[1])[0, 1]
        )
        assert np.corrcoef(*edges)[0, 1] > 0.4


def test_what_has_no_partner_or_no_face_is_named(drawings, tmp_path):
    photos, sketched = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in drawings)
    (sketched / "000.png").unlink()
    Image.new("RGB", (300, 320), "grey").save(photos / "001.png")
    Image.new("RGB", (300, 320), "grey").save(sketched / "002.png")
    data = import_pairs([sketched], [photos], tmp_path / "out", quiet=True)
    reasons = pd.read_csv(tmp_path / "out" / "skipped.csv", dtype=str).set_index("name")["reason"].to_dict()
    assert reasons["000"] == "no drawing of this name" and reasons["001"] == "no face found"
    assert reasons["002"] == "used: no face found in the drawing, the photograph's eyes taken"
    assert data.info["counts"]["test"]["pairs"] == 2


def test_where_no_pair_is_left_the_reasons_are_kept(drawings, tmp_path):
    photos, sketched = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in drawings)
    for file in sketched.iterdir():
        file.rename(sketched / f"other-{file.name}")
    with pytest.raises(InputError, match="no pair of a photograph and a drawing.*skipped.csv"):
        import_pairs([sketched], [photos], tmp_path / "out", quiet=True)
    reasons = pd.read_csv(tmp_path / "out" / "skipped.csv")["reason"]
    assert set(reasons) == {"no drawing of this name", "no photograph of this name"}
    assert not (tmp_path / "out" / "dataset.json").exists()

    # beside an earlier import they are named, and its own list is kept
    import_pairs([drawings[1]], [drawings[0]], tmp_path / "out", quiet=True)
    kept = (tmp_path / "out" / "skipped.csv").read_bytes()
    with pytest.raises(InputError, match=r"8 left out \(000: no drawing of this name, .*, \.\.\.\)"):
        import_pairs([sketched], [photos], tmp_path / "out", quiet=True)
    assert (tmp_path / "out" / "skipped.csv").read_bytes() == kept


def test_files_of_one_stem_are_not_taken_for_one_face(drawings, tmp_path):
    photos, sketched = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in drawings)
    shutil.copy(photos / "003.png", photos / "000.webp.png")
    (photos / "000.webp.png").rename(photos / "000.webp")   # another person's, under the stem of 000.png
    for root in (photos, sketched):
        (root / "x").mkdir()
        shutil.copy(root / "001.png", root / "x" / "y.png")
        shutil.copy(root / "002.png", root / "x_y.png")
    data = import_pairs([sketched], [photos], tmp_path / "out", quiet=True)
    skipped = pd.read_csv(tmp_path / "out" / "skipped.csv", dtype=str).set_index("name")["reason"].to_dict()
    assert skipped == {"000": "more than one photograph of this name: 000.png, 000.webp"}
    shard = read_shard(data.shards("test")[0])
    faces = dict(zip(shard.face, shard.real))
    assert set(faces) == {b"001", b"002", b"003", b"x/y", b"x_y"}
    assert np.array_equal(faces[b"x/y"], faces[b"001"]) and np.array_equal(faces[b"x_y"], faces[b"002"])


def test_files_whose_names_are_not_ascii_go_all_the_way(drawings, tmp_path):
    photos, sketched = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in drawings)
    for root in (photos, sketched):
        (root / "000.png").rename(root / "Zoë $_^ñ.png")
    data = import_pairs([sketched], [photos], tmp_path / "out", quiet=True)
    assert load_split(data, "test", "cpu").style.tolist() == ["sketch"] * 4
    run("eval", "--data", data.root, "--metrics", "psnr", "--out", tmp_path / "results", "--quiet")
    assert "Zoë $_^ñ" in set(pd.read_csv(tmp_path / "results" / "scores.csv", dtype=str)["face"])


def test_a_synthesized_data_set_is_not_written_over(drawings, tiny, tmp_path):
    kept = Path(shutil.copytree(tiny, tmp_path / "data"))
    before = hashes(kept)
    with pytest.raises(InputError, match="holds the data set demo of procedural.*choose another --out"):
        import_pairs([drawings[1]], [drawings[0]], kept, quiet=True)
    assert {name: digest for name, digest in hashes(kept).items() if name in before} == before
    for _ in range(2):   # its own, again
        import_pairs([drawings[1]], [drawings[0]], tmp_path / "own", quiet=True)


def test_folders_that_do_not_go_together_are_one_line(drawings, tmp_path):
    with pytest.raises(InputError, match="as many of each"):
        import_pairs([drawings[1], drawings[1]], [drawings[0]], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture"):
        import_pairs([tmp_path / "empty"], [drawings[0]], tmp_path / "out", quiet=True)


def test_sketches_have_columns_of_their_own(tiny, sketches, pixels, tmp_path):
    out = tmp_path / "results"
    run("eval", "--data", tiny, "--recogniser", pixels, "--sketches", sketches, "--out", out, "--quiet")
    first = pd.read_csv(out / "tables" / "table1.csv")
    assert set(first["column"]) == {
        f"{score} {group}" for score in ("psnr", "ssim") for group in ("seen", "unseen", "sketches")
    }
    # the difficulty rows, mean-face from the training split of the main data set; hair alone of sketches only
    assert len(pd.read_csv(out / "sketches" / "scores.csv")) == 4 * 4
    assert "hair-only" not in set(pd.read_csv(out / "scores.csv")["method"])
    assert "hair-only (raw)" in (out / "tables" / "table2.md").read_text()
    assert (
        "sketches" in (out / "report.html").read_text()
        and "frr sketches" in (out / "tables" / "table2.md").read_text()
    )
    run("eval", "--data", tiny, "--metrics", "psnr", "--out", out, "--quiet")
    assert set(pd.read_csv(out / "tables" / "table1.csv")["column"]) == {"psnr seen", "psnr unseen"}


def test_a_data_set_for_testing_is_evaluated_by_itself(sketches, tmp_path):
    """Only the rows that need no training split."""
    run("eval", "--data", sketches, "--metrics", "psnr,vr", "--out", tmp_path / "out", "--quiet")
    assert pd.read_csv(tmp_path / "out" / "scores.csv")["method"].tolist() == ["copy"] * 4 + ["hair-only"] * 4


@pytest.fixture()
def theirs(tiny, tmp_path) -> Path:
    """The SFs as pictures, as another system might return them."""
    run("pictures", tiny, "--out", tmp_path / "pictures", "--quiet")
    return tmp_path / "pictures" / "stylized"


def test_faces_of_another_system_are_scored_as_ones_own(tiny, theirs, tmp_path):
    printed = run(
        "eval",
        "--data",
        tiny,
        "--metrics",
        "psnr",
        "--recovered",
        f"theirs={theirs}",
        "--out",
        tmp_path / "out",
        "--quiet",
    )
    frame = pd.read_csv(tmp_path / "out" / "scores.csv").set_index("method")
    assert "theirs (given)" in printed
    # both are the SFs themselves
    assert frame.loc["theirs", "psnr_db"].tolist() == frame.loc["copy", "psnr_db"].tolist()


def test_two_systems_of_one_name_are_refused_before_any_work(tiny, theirs, tmp_path):
    real, out = theirs.parent / "real", tmp_path / "out"
    words = ("eval", "--data", tiny, "--metrics", "psnr", "--out", out, "--quiet")
    for names in (("ours=", "ours="), ("", "")):
        folders = [Path(shutil.copytree(folder, tmp_path / f"{folder.name}{len(names[0])}" / "images"))
                   for folder in (real, theirs)]
        given = [word for name, folder in zip(names, folders) for word in ("--recovered", f"{name}{folder}")]
        said = run(*words, *given, exit_code=1)
        assert "2 rows would be" in said and all(str(folder) in said for folder in folders)
    for name in ("../../x", "", "a/b", ".hidden", "a\nb"):
        assert "a folder's name in the results" in run(
            *words, "--recovered", f"{name}={theirs}", exit_code=1
        )
    assert not out.exists()


def test_a_name_that_is_not_ascii_goes_all_the_way(tiny, theirs, tmp_path):
    name = "Zoë $_^ñ"
    run(
        "eval", "--data", tiny, "--metrics", "psnr", "--recovered", f"{name}={theirs}",
        "--out", tmp_path / "out", "--quiet",
    )
    assert name in set(pd.read_csv(tmp_path / "out" / "scores.csv")["method"])
    assert name in (tmp_path / "out" / "report.html").read_text()


def test_a_picture_under_two_suffixes_is_named(tiny, theirs, tmp_path):
    shutil.copy(theirs / "test-00000-00001.png", theirs / "test-00000-00001.webp")
    with pytest.raises(InputError, match=r"1 there a second time with another suffix \(test-00000-00001"):
        import_recovered(theirs, open_dataset(tiny), tmp_path / "made")


def test_pictures_that_are_missing_too_many_or_of_another_size_are_counted_and_named(tiny, theirs, tmp_path):
    data = open_dataset(tiny)
    (theirs / "test-00000-00000.png").unlink()
    write_png(theirs / "face.png", np.zeros((128, 128, 3), np.uint8))
    write_png(theirs / "test-00000-00001.png", np.zeros((64, 128, 3), np.uint8))
    (theirs / "test-00000-00002.png").write_bytes(b"<html>")
    with pytest.raises(
        InputError,
        match=(
            r"1 missing \(test-00000-00000\); 1 extra \(face\); 1 broken \(.*a web page.*1 not 128x128"
            r" \(.*128x64\)"
        ),
    ):
        import_recovered(theirs, data, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_pictures_come_upright_where_asked(tiny, tmp_path):
    run("pictures", tiny, "--out", tmp_path, "--condition", "oracle", "--quiet")
    path = open_dataset(tiny).shards("test")[0]
    shard = read_shard(path)
    assert np.array_equal(
        read_picture(tmp_path / "stylized" / f"{path.stem}-00003.png"),
        undo_warp(shard.stylized[3], shard.warp[3]),
    )
    assert np.array_equal(
        read_picture(tmp_path / "real" / f"{path.stem}-00003.png"), shard.real[shard.real_index[3]]
    )
    folder = import_recovered(tmp_path / "real", open_dataset(tiny), tmp_path / "back")
    assert np.array_equal(
        read_recovered(folder / path.name, rows=len(shard.stylized)), shard.real[shard.real_index]
    )


@pytest.mark.parametrize("around", [True, False])
def test_fs2k_is_read_as_it_is_published(drawings, tmp_path, around):
    """Three styles, names that differ, and the list of what is tested."""
    root = tmp_path / "FS2K"
    for number in (1, 2, 3):
        for kind, word, source in (("photo", "image", drawings[0]), ("sketch", "sketch", drawings[1])):
            folder = (root / kind if around else root) / f"{kind}{number}"
            folder.mkdir(parents=True)
            shutil.copy(source / f"{number:03d}.png", folder / f"{word}{number:04d}.png")
    command = "import-pairs", "--fs2k", root, "--workers", 0, "--quiet"
    run(*command, "--out", tmp_path / "all")
    assert open_dataset(tmp_path / "all").pairs("test") == 3
    names = [{"image_name": "photo1/image0001"}, {"image_name": "photo3/image0003"}]
    (root / "anno_test.json").write_text(json.dumps(names))
    run(*command, "--out", tmp_path / "tested")
    data = open_dataset(tmp_path / "tested")
    shard = data.read(data.shards("test")[0])
    assert shard.face.tolist() == [b"0-0001", b"2-0003"] and shard.identity.tolist() == [0, 1]
    assert "1-0002,not in the list of pairs to test" in (tmp_path / "tested" / "skipped.csv").read_text()
    (root / "anno_test.json").write_text("[1]")
    assert "not FS2K's list" in run(*command, "--out", tmp_path / "none", exit_code=1)
    shutil.rmtree(root / "photo" / "photo2" if around else root / "photo2")
    assert "--fs2k wants FS2K's" in run(*command, "--out", tmp_path / "none", exit_code=1)


CUFS_NAMES = {   # of each part: a photograph's name, and its sketch's
    "CUHK-student-dataset": [("f-005-01", "f2-005-01-sz1"), ("m1-002-01", "M1-002-01-sz1")],
    "AR": [("m-002-1", "Mp-002-1-sz1")],
    "xm2vts": [("000_1_1", "000_1_1_sz1")],
}


def copy_pairs(drawings: tuple[Path, Path], named: list[tuple[Path, Path]]) -> None:
    """Photographs and drawings of different people under these names."""
    for number, names in enumerate(named):
        for source, name in zip(drawings, names):
            name.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / f"{number:03d}.png", name)


def test_cufs_is_read_as_it_is_published(drawings, tmp_path):
    root = tmp_path / "CUFS"
    copy_pairs(drawings, [
        (root / part / "photo" / f"{photograph}.png", root / part / "sketch" / f"{sketch}.png")
        for part, names in CUFS_NAMES.items() for photograph, sketch in names
    ])
    command = "import-pairs", "--cufs", root, "--workers", 0, "--quiet"
    run(*command, "--out", tmp_path / "all")
    data = open_dataset(tmp_path / "all")
    shard = data.read(data.shards("test")[0])
    assert sorted(shard.face.tolist()) == [b"0-m-002-1", b"1-f-005-01", b"1-m1-002-01", b"2-000_1_1"]

    # one of its parts, sketches and photographs as some mirrors call them, cropped and not
    part = tmp_path / "AR"
    for form in ("cropped", "original"):
        names = part / f"{form}_photos" / "m-002-1.png", part / f"{form}_sketches" / "Mp-002-1-sz1.png"
        copy_pairs(drawings, [names])
    run("import-pairs", "--cufs", part, "--workers", 0, "--quiet", "--out", tmp_path / "part")
    assert open_dataset(tmp_path / "part").pairs("test") == 1
    (part / "cropped_photos").rename(part / "smaller_photos")
    (part / "cropped_sketches").rename(part / "smaller_sketches")
    command = "import-pairs", "--cufs", part, "--out", tmp_path / "none"
    assert "several folders of photographs (original_photos, smaller_photos)" in run(*command, exit_code=1)
    shutil.rmtree(part)
    part.mkdir()
    assert "--cufs wants photo/ and sketch/" in run(*command, exit_code=1)


def test_cufsf_is_read_as_it_is_published_and_its_protocol_draws_the_same_people_anywhere(drawings, tmp_path):
    root = tmp_path / "CUFSF"
    poses = ["00001fb010_930831", "00002fa010_930831", "00043fb001d_931230", "00086fa010_930422"]
    copy_pairs(drawings, [
        (root / "photo" / f"{pose}.png", root / "sketch" / f"{pose[:5]}.png") for pose in poses
    ])
    command = "import-pairs", "--cufsf", root, "--workers", 0, "--quiet"
    run(*command, "--out", tmp_path / "all")
    assert open_dataset(tmp_path / "all").pairs("test") == 4

    def people(count: int) -> set[bytes]:
        run(*command, "--people", count, "--out", tmp_path / f"of-{count}")
        data = open_dataset(tmp_path / f"of-{count}")
        return set(data.read(data.shards("test")[0]).face.tolist())

    assert people(2) < people(3)
    assert {name.decode() for name in people(2)} == {"00002", "00086"}
    assert "4 people, 5 asked for" in run(*command, "--people", 5, "--out", tmp_path / "none", exit_code=1)


def test_of_several_photographs_of_a_person_the_one_that_cufsf_lists_is_taken(drawings, tmp_path):
    """All of FERET beside the sketches: grey and colour, other poses and days of the same people."""
    root = tmp_path / "CUFSF"
    shots = {
        "00001/00001fb010_930831": "00001", "00001/00001fa010_930831": "00003",
        "00002/00002_940128_fa": "00004", "00002/00002_930831_fa_a": "00002",
    }
    copy_pairs(drawings, [
        (root / "photo" / f"{shot}.png", root / "sketch" / f"{sketch}.png") for shot, sketch in shots.items()
    ])
    names = root / "names_of_photos_used_for_drawing_sketches.txt"
    names.write_text("\ufeff00001fb010_930831.tif\r\n00002fa010_930831.tif\r\n\r\n", encoding="utf-8")
    command = "import-pairs", "--cufsf", root, "--workers", 0, "--quiet", "--out", tmp_path / "pairs"
    run(*command)
    data = open_dataset(tmp_path / "pairs")
    assert data.read(data.shards("test")[0]).face.tolist() == [b"00001", b"00002"]
    skipped = pd.read_csv(tmp_path / "pairs" / "skipped.csv").set_index("name")["reason"]
    assert skipped["00001_00001fa010_930831"] == skipped["00002_00002_940128_fa"] == "no drawing of this name"

    # without the list nobody can say which was drawn
    names.rename(tmp_path / "names.txt")
    before = hashes(tmp_path / "pairs")
    said = run(*command, exit_code=1)
    assert "no pair of a photograph and a drawing" in said
    assert "00001: more than one photograph of this name: 00001/00001fa010_930831.png, " in said
    assert hashes(tmp_path / "pairs") == before   # what was imported with it stands as it was

    names.write_text("a list of something else\n")
    assert f"{names}: expected names of FERET's photographs" in run(*command, exit_code=1)


def test_pairs_are_named_in_one_of_two_ways(drawings, tmp_path):
    both = "--fs2k", tmp_path, "--real", drawings[0], "--stylized", drawings[1]
    assert "leave --stylized, --real and the others out" in run("import-pairs", *both, exit_code=2)
    assert "--people goes with --cufsf" in run("import-pairs", "--fs2k", tmp_path, "--people", 3, exit_code=2)
    assert "name --stylized and --real" in run("import-pairs", exit_code=2)
