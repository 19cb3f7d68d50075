"""Photographs: faces found, eyes on the template, and every file that is not used named with its reason."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from ifrp_bench.data.pairs import open_faces
from ifrp_bench.data.recipe import load_recipe
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.warp import TEMPLATE_PX
from ifrp_bench.nets.detector import find_faces
from ifrp_bench.sources.folder import open_folder


@pytest.fixture(scope="module")
def source(photographs, tmp_path_factory):
    return open_folder(photographs, landmarks=tmp_path_factory.mktemp("cache") / "landmarks.csv", quiet=True)


def test_every_photograph_of_a_face_is_used_and_people_are_folders(source):
    faces = source.faces()
    assert len(faces) == 12 and not source.skipped()
    assert [face.identity for face in faces] == sorted([0, 1, 2, 3] * 3)


def test_eyes_land_within_two_pixels_of_the_template(source):
    """Found anew on the aligned pictures, so the detector's own error counts
    twice; 95 % of the eyes, as the specification asks.
    """
    off = []
    for face in source.faces():
        found = find_faces(source.read(face))
        assert found, face.name
        off += np.hypot(*(found[0].landmarks_px[:2] - TEMPLATE_PX[:2]).T).tolist()
    assert np.mean(np.array(off) <= 2.0) >= 0.95, sorted(off)[-5:]


def test_a_second_look_takes_the_cache_and_searches_nothing(photographs, tmp_path, monkeypatch):
    cache = tmp_path / "landmarks.csv"
    first = open_folder(photographs, landmarks=cache, quiet=True)
    monkeypatch.setattr("ifrp_bench.nets.detector.find_faces", lambda picture: pytest.fail("searched again"))
    before = cache.read_bytes()
    assert open_folder(photographs, landmarks=cache, quiet=True).found == first.found
    assert cache.read_bytes() == before


def test_a_line_that_a_killed_run_left_unfinished_is_searched_again(photographs, tmp_path):
    cache = tmp_path / "landmarks.csv"
    first = open_folder(photographs, landmarks=cache, quiet=True)
    cache.write_bytes(cache.read_bytes()[:-25])
    assert open_folder(photographs, landmarks=cache, quiet=True).found == first.found
    assert len(cache.read_text().splitlines()) == 13


def test_a_changed_photograph_is_searched_again(photographs, tmp_path):
    root = tmp_path / "photos"
    shutil.copytree(photographs, root)
    files = sorted(root.rglob("*.jpg"))
    before = open_folder(root, landmarks=tmp_path / "landmarks.csv", quiet=True).found
    shutil.copy(files[5], files[0])
    after = open_folder(root, landmarks=tmp_path / "landmarks.csv", quiet=True).found
    key = files[0].relative_to(root).as_posix()
    assert after[key].sha256 != before[key].sha256 and after[key].left_eye_x != before[key].left_eye_x


def test_the_most_central_of_several_faces_is_taken_and_noted(frames, tmp_path):
    wide = Image.new("RGB", (620, 260), (80, 80, 80))
    wide.paste(Image.fromarray(frames[0]), (10, 20))
    wide.paste(Image.fromarray(frames[3]), (230, 20))
    (tmp_path / "photos").mkdir()
    wide.save(tmp_path / "photos" / "two.png")
    source = open_folder(tmp_path / "photos", landmarks=tmp_path / "l.csv", quiet=True)
    face, = source.faces()
    assert face.note == "2 faces, the most central taken"
    assert 230 + 60 < source.found["two.png"].left_eye_x < 230 + 80


def test_bad_files_end_in_skipped_with_their_reason_and_good_ones_are_all_there(photographs, tmp_path):
    root = tmp_path / "photos"
    good, other = sorted(photographs.rglob("*.jpg"))[:2]
    for name, picture in (("with space", good), ("Ångström_日本", other)):
        (root / name).mkdir(parents=True)
        shutil.copy(picture, root / name / "ünï code.jpg")
    bad = root / "bad"
    bad.mkdir()
    (bad / "truncated.jpg").write_bytes(good.read_bytes()[:3000])
    (bad / "zero.jpg").touch()
    (bad / "page.jpg").write_text("<!DOCTYPE html><html></html>")
    Image.new("RGB", (1, 1)).save(bad / "dot.png")
    Image.new("RGB", (300, 300), "gray").save(bad / "nobody.png")
    Image.open(good).resize((60, 64)).save(bad / "tiny.png")
    os.symlink("/etc/hostname", bad / "link.jpg")
    os.symlink(good, bad / "leads_out.jpg")
    source = open_folder(root, landmarks=tmp_path / "l.csv", quiet=True)
    assert len(source.faces()) == 2 and all(face.name.isascii() for face in source.faces())
    for face in source.faces():
        assert source.read(face).shape == (218, 178, 3)
    reasons = {skipped.name.split("/")[-1]: skipped.reason for skipped in source.skipped()}
    assert reasons.keys() == {
        "truncated.jpg",
        "zero.jpg",
        "page.jpg",
        "dot.png",
        "nobody.png",
        "tiny.png",
        "link.jpg",
        "leads_out.jpg",
    }
    for name, reason in (
        ("truncated.jpg", "broken"),
        ("zero.jpg", "empty"),
        ("page.jpg", "web page"),
        ("dot.png", "1x1"),
        ("nobody.png", "no face"),
        ("link.jpg", "out of the folder"),
        ("leads_out.jpg", "out of the folder"),
    ):
        assert reason in reasons[name], (name, reasons[name])


def test_a_flat_folder_is_one_person_a_photograph(photographs, tmp_path):
    for number, path in enumerate(sorted(photographs.rglob("*.jpg"))[:3]):
        shutil.copy(path, tmp_path / f"{number}.jpg")
    source = open_folder(tmp_path, landmarks=tmp_path / "cache" / "l.csv", quiet=True)
    assert len({face.identity for face in source.faces()}) == 3


def test_worker_processes_find_what_this_process_finds(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr("ifrp_bench.sources.folder.FEW_PHOTOGRAPHS", 4)   # or twelve are searched here
    here = open_folder(photographs, landmarks=tmp_path / "a.csv", workers=0, quiet=True)
    there = open_folder(photographs, landmarks=tmp_path / "b.csv", workers=2, quiet=True)
    assert here.found == there.found


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_folder(tmp_path / "none", landmarks=tmp_path / "l.csv")
    with pytest.raises(InputError, match="no picture"):
        open_folder(tmp_path, landmarks=tmp_path / "l.csv")
    (tmp_path / "l.csv").write_text("a,b\n")
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InputError, match="not a landmarks file"):
        open_folder(tmp_path, landmarks=tmp_path / "l.csv")


def photos(photographs, root, *names):
    """A folder of photographs of the fixture's people under other names."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sorted(photographs.rglob("*.jpg"))[number], root / name)
    return root


def as_source(root, cache):
    """The folder as recipe ``photos`` opens it."""
    where = {"landmarks": cache / "landmarks.csv", "workers": 0, "device": "cpu", "quiet": True}
    return open_faces(load_recipe("photos"), root, **where)


def test_a_cache_that_was_killed_before_its_first_line_is_new(photographs, tmp_path):
    root = photos(photographs, tmp_path / "photos", "a/1.jpg")
    for text in ("", "file,sha25"):
        (tmp_path / "landmarks.csv").write_text(text)
        assert len(open_folder(root, landmarks=tmp_path / "landmarks.csv", quiet=True).faces()) == 1
        assert len((tmp_path / "landmarks.csv").read_text().splitlines()) == 2


def test_what_is_known_is_read_without_writing(photographs, tmp_path):
    root, cache = photos(photographs, tmp_path / "photos", "a/1.jpg"), tmp_path / "cache" / "landmarks.csv"
    open_folder(root, landmarks=cache, quiet=True)
    before = cache.stat().st_mtime_ns
    cache.chmod(0o444)
    cache.parent.chmod(0o555)
    try:
        open_folder(root, landmarks=cache, quiet=True)
    finally:
        cache.parent.chmod(0o755)
    assert cache.stat().st_mtime_ns == before


def test_two_searches_do_not_write_into_one_cache(photographs, tmp_path):
    import fcntl

    root, cache = photos(photographs, tmp_path / "photos", "a/1.jpg"), tmp_path / "landmarks.csv"
    with cache.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another search is writing there"):
            open_folder(root, landmarks=cache, quiet=True)


def test_a_file_system_without_locks_is_said_and_used(photographs, tmp_path, monkeypatch, capsys):
    import errno

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    root = photos(photographs, tmp_path / "photos", "a/1.jpg")
    assert open_folder(root, landmarks=tmp_path / "landmarks.csv", quiet=True).faces()
    assert "no locks on this file system" in capsys.readouterr().err


def test_what_this_project_made_is_no_photograph(photographs, tmp_path):
    root = photos(photographs, tmp_path, "a/1.jpg", "data/photos/preview.jpg", "runs/x/pictures/step.jpg")
    (root / "data" / "photos" / "dataset.json").touch()
    (root / "runs" / "x" / "run.json").touch()
    source = open_folder(root, landmarks=tmp_path / "landmarks.csv", quiet=True)
    assert [face.name for face in source.faces()] == ["a/1.jpg"] and not source.skipped()


def test_links_and_formats_that_are_not_read_are_named(photographs, tmp_path):
    root = photos(photographs, tmp_path / "photos", "a/1.jfif", "b/1.heic")
    (root / "b" / "1.heic").write_bytes(b"\0\0\0\x18ftypheic")
    photos(photographs, tmp_path / "elsewhere", "1.jpg")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    source = open_folder(root, landmarks=tmp_path / "landmarks.csv", quiet=True)
    assert [face.name for face in source.faces()] == ["a/1.jfif"]   # a JPEG by another name
    reasons = {entry.name: entry.reason for entry in source.skipped()}
    assert reasons.keys() == {"b/1.heic", "c"} and "not followed" in reasons["c"]


def test_a_person_is_one_in_train_and_test(photographs, tmp_path):
    root = photos(photographs, tmp_path / "photos", "train/zoe/1.jpg", "test/zoe/1.jpg", "test/ann/1.jpg")
    source = open_folder(root, landmarks=tmp_path / "landmarks.csv", quiet=True)
    people = {face.name: face.identity for face in source.faces()}
    assert people["train/zoe/1.jpg"] == people["test/zoe/1.jpg"] != people["test/ann/1.jpg"]


def test_parts_of_a_data_set_are_not_people(photographs, tmp_path):
    root = photos(photographs, tmp_path / "photos", "train/1.jpg", "test/2.jpg")
    with pytest.raises(InputError, match="test, train would be a person each"):
        as_source(root, tmp_path)


def test_one_picture_under_two_names_is_taken_once(photographs, tmp_path):
    root = photos(photographs, tmp_path / "photos", "ann/1.jpg")
    (root / "bob").mkdir()
    shutil.copy(root / "ann" / "1.jpg", root / "bob" / "7.jpg")
    source = as_source(root, tmp_path)
    assert [face.name for face in source.faces()] == ["ann/1.jpg"]
    assert source.skipped()[0].reason == "the same picture as ann/1.jpg, under another name"


def test_a_strip_in_which_no_face_has_room_is_left_out(tmp_path):
    Image.new("RGB", (40000, 16), "grey").save(tmp_path / "strip.png")
    source = open_folder(tmp_path, landmarks=tmp_path / "landmarks.csv", quiet=True)
    assert [entry.reason for entry in source.skipped()] == ["no face found"]
