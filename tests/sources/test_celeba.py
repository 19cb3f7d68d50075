"""CelebA as its authors distribute it, in miniature."""

import pickle
import shutil
import zipfile

import numpy as np
import pytest

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.images import write_png
from ifrp_bench.sources.celeba import open_celeba


def test_identities_and_partition_are_celebas(celeba):
    source = open_celeba(celeba)
    assert source.official and len(source.faces()) == 12
    assert [(face.identity, face.partition) for face in source.faces()[::3]] == [
        (100, "train"),
        (101, "train"),
        (102, "val"),
        (103, "test"),
    ]
    assert source.read(source.faces()[0]).shape == (218, 178, 3)


@pytest.mark.parametrize("inside", ["img_align_celeba/", "", "img_align_celeba/img_align_celeba/"])
def test_the_zip_is_read_in_place_and_gives_the_same_pixels(celeba, tmp_path, inside):
    for path in celeba.glob("*.txt"):
        shutil.copy(path, tmp_path)
    with zipfile.ZipFile(tmp_path / "img_align_celeba.zip", "w") as archive:
        for path in (celeba / "img_align_celeba").iterdir():
            archive.write(path, inside + path.name)
    loose, zipped = open_celeba(celeba), open_celeba(tmp_path)
    again = pickle.loads(pickle.dumps(zipped))   # as it travels to a worker
    for face in zipped.faces()[:3]:
        assert np.array_equal(zipped.read(face), loose.read(face)) and np.array_equal(
            again.read(face), loose.read(face)
        )
        assert zipped.digest(face) == loose.digest(face)
    assert not (tmp_path / "img_align_celeba").exists()


def test_attributes_filter_and_are_named(celeba):
    source = open_celeba(celeba, exclude_attributes=("Eyeglasses",))
    assert len(source.faces()) == 11
    assert source.skipped()[0].name == "000005.jpg" and "Eyeglasses" in source.skipped()[0].reason
    with pytest.raises(InputError, match="no attribute 'Hat'; it has Blurry, Eyeglasses"):
        open_celeba(celeba, exclude_attributes=("Hat",))


def test_a_list_that_ends_early_is_refused(celeba, tmp_path):
    """Or faces that it does not name would pass a filter, or be left out, without a word."""
    whole = (celeba / "list_attr_celeba.txt").read_text()
    cut = {
        "no more lines": ("\n".join(whole.splitlines()[:8]), "6 pictures are listed, its first line says 12"),
        "half a line": (whole[:-4], "line 14 has 1 values, the header has 2"),
        "another count": (
            "\n".join(["11", *whole.splitlines()[1:-1]]), r"lacks 1 pictures of the other lists \(000012.jpg"
        ),
    }
    for number, (text, message) in enumerate(cut.values()):
        root = damaged(celeba, tmp_path / str(number), "list_attr_celeba.txt", text)
        with pytest.raises(InputError, match=message):
            open_celeba(root, exclude_attributes=("Eyeglasses",))
    partition = (celeba / "list_eval_partition.txt").read_text().splitlines()[:-2]
    with pytest.raises(InputError, match="lacks 2 pictures of identity_CelebA.txt"):
        open_celeba(damaged(celeba, tmp_path / "p", "list_eval_partition.txt", "\n".join(partition)))


def test_a_mark_that_an_editor_left_is_read_over(celeba, tmp_path):
    text = (celeba / "identity_CelebA.txt").read_text()
    assert len(open_celeba(damaged(celeba, tmp_path, "identity_CelebA.txt", "\ufeff" + text)).faces()) == 12


def test_a_folder_within_the_folder_is_named(celeba, tmp_path):
    root = damaged(celeba, tmp_path, "identity_CelebA.txt", (celeba / "identity_CelebA.txt").read_text())
    (root / "img_align_celeba").rename(root / "inner")
    (root / "img_align_celeba").mkdir()
    (root / "inner").rename(root / "img_align_celeba" / "img_align_celeba")
    with pytest.raises(InputError, match="img_align_celeba/img_align_celeba: a folder within the folder"):
        open_celeba(root)


def damaged(celeba, tmp_path, name, text):
    root = tmp_path / "celeba"
    shutil.copytree(celeba, root)
    (root / name).unlink() if text is None else (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("identity_CelebA.txt", None, "missing"),
        ("list_eval_partition.txt", "000001.jpg 7\n", "expected 0, 1 or 2"),
        ("identity_CelebA.txt", "000001.jpg one\n", "line 1"),
        (
            "list_landmarks_align_celeba.txt",
            "1\na b\n000001.jpg " + "5 " * 10,
            "px from CelebA's aligned frame",
        ),
        ("list_landmarks_align_celeba.txt", "nothing", "CelebA's list"),
    ],
)
def test_files_that_are_not_celebas_are_named(celeba, tmp_path, name, text, message):
    with pytest.raises(InputError, match=message) as error:
        open_celeba(damaged(celeba, tmp_path, name, text))
    assert name in str(error.value)


def test_a_truncated_zip_or_an_empty_folder_is_named(celeba, tmp_path):
    with pytest.raises(InputError, match="neither img_align_celeba/, its .zip nor"):
        open_celeba(tmp_path)
    (tmp_path / "img_align_celeba.zip").write_bytes(b"PK\x03\x04 half a download")
    with pytest.raises(InputError, match="not a complete zip"):
        open_celeba(tmp_path)


def test_a_picture_of_another_size_is_broken(celeba, tmp_path):
    root = tmp_path / "celeba"
    shutil.copytree(celeba, root)
    from PIL import Image

    Image.new("RGB", (64, 64)).save(root / "img_align_celeba" / "000001.jpg")
    (root / "img_align_celeba" / "000002.jpg").unlink()
    source = open_celeba(root)
    assert (
        "178x218" in source.broken(source.faces()[0])
        and "not a regular file" in source.broken(source.faces()[1])
        and not source.broken(source.faces()[2])
    )


def test_the_png_form_is_read_under_the_lists_names(celeba, tmp_path):
    """``img_align_celeba_png``; the lists name every picture .jpg."""
    for path in celeba.glob("*.txt"):
        shutil.copy(path, tmp_path)
    (tmp_path / "img_align_celeba_png").mkdir()
    loose = open_celeba(celeba)
    for face in loose.faces():
        write_png(tmp_path / "img_align_celeba_png" / face.name.replace(".jpg", ".png"), loose.read(face))
    source = open_celeba(tmp_path)
    assert [face.name for face in source.faces()] == [face.name for face in loose.faces()]
    for face in source.faces()[:3]:
        assert np.array_equal(source.read(face), loose.read(face)) and not source.broken(face)


def test_pictures_in_several_folders_of_a_zip_are_refused(celeba, tmp_path):
    for path in celeba.glob("*.txt"):
        shutil.copy(path, tmp_path)
    with zipfile.ZipFile(tmp_path / "img_align_celeba.zip", "w") as archive:
        for number, path in enumerate(sorted((celeba / "img_align_celeba").iterdir())):
            archive.write(path, f"part{number % 2}/{path.name}")
    with pytest.raises(InputError, match="pictures in 2 folders"):
        open_celeba(tmp_path)
