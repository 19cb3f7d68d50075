"""Recognisers: what goes in is the fixed crop, files that are none are one line."""

import json

import numpy as np
import pytest

from ifrp_bench.data.styles import NAMES
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.warp import TEMPLATE_PX, face_window, similarity
from ifrp_bench.nets.embedder import FOLDER, load_embedder
from ifrp_bench.nets import dlib_face
from ifrp_bench.nets.recogniser import best_installed, open_recogniser, probe_face
from tests.conftest import CARD

pytest.importorskip("onnxruntime")


def test_the_crop_is_the_cards_template_with_the_anisotropy_undone(pixels, frames):
    """A frame painted with its own coordinates: the crop's coordinates
    are the template's similarity of the pixel's.
    """
    y, x = np.mgrid[:218, :178]
    frame = np.stack([x, y, np.full_like(x, 128)], 2).astype(np.uint8)
    embedded = open_recogniser(str(pixels)).embed(face_window(frame)[None])[0].reshape(3, 14, 12)
    # the blue plane holds 128: its value gives the norm
    crop = embedded / embedded[2].mean() * np.float32(0.5 / 128) * 128 + 127.5
    to_frame = similarity(np.array(CARD["template"]), TEMPLATE_PX)
    rows, columns = np.mgrid[2:12, 2:10]
    wanted = np.stack([columns, rows], 2) @ to_frame[:, :2].T + to_frame[:, 2]
    assert (
        np.abs(crop[0, 2:12, 2:10] - wanted[..., 0]).max() < 2.5
        and np.abs(crop[1, 2:12, 2:10] - wanted[..., 1]).max() < 2.5
    )


def test_embeddings_have_length_one_and_do_not_depend_on_the_batch(pixels, frames):
    faces = np.stack([face_window(frame) for frame in np.tile(frames, (4, 1, 1, 1))])
    recogniser = open_recogniser(str(pixels))
    whole = recogniser.embed(faces)
    assert whole.shape == (48, 504) and np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    assert np.array_equal(np.concatenate([recogniser.embed(faces[i:i + 7]) for i in range(0, 48, 7)]), whole)


@pytest.mark.parametrize(
    "change, word", [({"mean": None}, "'mean' is missing"), ({"template": [[1, 2]]}, "expected five points")]
)
def test_a_card_that_is_wrong_is_one_line(pixels, change, word):
    card = {key: value for key, value in (CARD | change).items() if value is not None}
    pixels.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=word):
        open_recogniser(str(pixels))


def test_files_that_are_no_recogniser_are_one_line(pixels, tmp_path):
    pixels.write_bytes(b"<!doctype html>")
    with pytest.raises(InputError, match="not an ONNX model"):
        open_recogniser(str(pixels))
    pixels.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="has a card beside it"):
        open_recogniser(str(pixels))
    with pytest.raises(InputError, match="expected builtin, facenet, dlib, or an .onnx file"):
        open_recogniser("vggface")


def test_a_similarity_takes_points_to_points():
    points = np.random.default_rng(0).normal(size=(5, 2))
    turn = 3 * np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    found = similarity(points, points @ turn.T + [4, 5])
    assert np.allclose(found, np.column_stack([turn, [4, 5]]))


def test_the_embedded_recogniser_tells_rendered_people_apart(frames):
    """Twelve pictures of four people whom it was not trained on."""
    recogniser = open_recogniser("builtin")
    embedded = recogniser.embed(np.stack([face_window(frame) for frame in frames]))
    same = np.arange(12)[:, None] // 3 == np.arange(12)[None] // 3
    scores, other = embedded @ embedded.T, ~np.eye(12, dtype=bool)
    assert embedded.shape == (12, 128) and scores[same & other].min() > scores[~same].max()


def test_the_embedded_recogniser_is_as_its_card_says():
    _, sha256, card = load_embedder()
    assert card["net"]["sha256"] == sha256 and (FOLDER / "net.safetensors").stat().st_size < 5_000_000
    assert card["auc"]["real"] >= 0.995 and card["auc"]["people"] == 200
    assert all(card["auc"][style] < card["auc"]["real"] - 0.05 for style in NAMES)


@pytest.mark.parametrize("name", ["builtin", "pixels"])
def test_embeddings_are_the_same_to_the_last_bit_in_any_batch(name, pixels, frames):
    recogniser = open_recogniser(name if name == "builtin" else str(pixels))
    faces = np.tile(np.stack([face_window(frame) for frame in frames]), (6, 1, 1, 1))[:64]
    whole = recogniser.embed(faces)
    for size in (1, 7):
        assert np.array_equal(
            np.concatenate([recogniser.embed(faces[i : i + size]) for i in range(0, 64, size)]), whole
        )


def test_a_recogniser_that_gives_something_else_fails_its_self_test(pixels):
    expected = open_recogniser(str(pixels)).embed(probe_face())[0]
    card = json.loads(pixels.with_suffix(".json").read_text())
    pixels.with_suffix(".json").write_text(json.dumps(card | {"expected": expected.tolist()}))
    open_recogniser(str(pixels))
    pixels.with_suffix(".json").write_text(
        json.dumps(card | {"expected": expected.tolist(), "channels": "BGR"})
    )
    with pytest.raises(InputError, match="fails its self-test: cosine 0.5"):
        open_recogniser(str(pixels))


def test_a_model_of_another_input_is_one_line(pixels, frames):
    card = json.loads(pixels.with_suffix(".json").read_text())
    pixels.with_suffix(".json").write_text(json.dumps(card | {"height_px": 20}))
    with pytest.raises(InputError, match="does not take"):
        open_recogniser(str(pixels)).embed(face_window(frames[0])[None])


def test_dlibs_network_gives_what_dlib_gives(frames):
    """On faces, and on the picture of the self-test that its card was written with."""
    dlib = pytest.importorskip("dlib")
    if best_installed(rendered=False) == "builtin":
        pytest.skip("the extra dlib is not installed")
    theirs = dlib.face_recognition_model_v1(str(dlib_face.weights_path()))
    ours = open_recogniser("dlib")
    faces = np.concatenate([np.stack([face_window(frame) for frame in frames[:4]]), probe_face()])
    for face, embedding in zip(faces, ours.embed(faces)):
        wanted = np.array(theirs.compute_face_descriptor(ours.crop(face)))
        assert embedding @ (wanted / np.linalg.norm(wanted)) > 0.999999


def test_the_best_recogniser_installed_is_taken_for_photographs(monkeypatch, tmp_path):
    monkeypatch.setenv("IFRP_BENCH_CACHE", str(tmp_path))   # no facenet
    assert best_installed(rendered=True) == "builtin"
    monkeypatch.setattr(dlib_face, "PACKAGE", "a_package_that_is_not_there")
    assert best_installed(rendered=False) == "builtin"
    with pytest.raises(InputError, match=r"needs the extra dlib: pip install 'ifrp-bench\[dlib\]'"):
        open_recogniser("dlib")


def test_other_weights_of_dlib_are_one_line(monkeypatch, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "__init__.py").touch()
    (tmp_path / dlib_face.FILE).write_bytes(b"other")
    monkeypatch.syspath_prepend(str(tmp_path.parent))
    monkeypatch.setattr(dlib_face, "PACKAGE", tmp_path.name)
    assert best_installed(rendered=False) in ("dlib", "facenet")
    with pytest.raises(InputError, match="its sha256 is .*install .* 0.3.0"):
        open_recogniser("dlib")
