"""What the identity loss compares: the embedded features, VGG files, FaceNet."""

import tomllib

import pytest
import torch
from facenet_pytorch import InceptionResnetV1

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of
from ifrp_bench.ground.weights import HASHES
from ifrp_bench.nets.identity import open_identity
from ifrp_bench.nets.vgg import BUILTIN, open_features
from tests.conftest import run


@pytest.fixture(scope="module")
def faces(frames) -> torch.Tensor:
    from ifrp_bench.ground.images import to_faces
    from ifrp_bench.ground.warp import face_window

    return to_faces(face_window(frames[0])[None].repeat(2, 0))


def test_the_embedded_features_are_small_and_what_their_card_says():
    card = tomllib.loads((BUILTIN.parent / "card.toml").read_text())
    assert BUILTIN.stat().st_size <= 2.5e6
    assert sha256_of(BUILTIN) == card["net"]["sha256"]
    assert min(card["explained_variance"].values()) >= 0.9
    features = open_features("builtin")
    assert features.name == "builtin" and features.layers == [
        "relu1_1",
        "relu1_2",
        "relu2_1",
        "relu2_2",
        "relu3_1",
    ]
    assert [conv.out_channels for conv in features.convs] == card["net"]["widths"]
    assert sum(p.numel() for p in features.parameters()) == card["net"]["parameters"]


def test_the_embedded_features_tell_faces_apart(frames):
    """Two pictures of a person are nearer than pictures of two people, by a margin no untrained features of
    chance have on all pairs.
    """
    import numpy as np

    from ifrp_bench.ground.images import to_faces
    from ifrp_bench.ground.warp import face_window

    features = open_identity("builtin")(to_faces(np.stack([face_window(frame) for frame in frames]))).flatten(
        1
    )
    distances = torch.cdist(features, features)
    same = torch.tensor([[i // 3 == j // 3 for j in range(12)] for i in range(12)])
    off = ~torch.eye(12, dtype=torch.bool)
    assert distances[same & off].mean() < 0.9 * distances[~same].mean()


def test_the_deepest_known_layer_up_to_the_papers_is_taken(tmp_path):
    import torchvision

    torch.save(torchvision.models.vgg19(weights=None).state_dict(), tmp_path / "vgg19.pth")
    assert open_identity(tmp_path / "vgg19.pth").layer == "relu3_2"
    assert open_identity("builtin").layer == "relu3_1"


def test_gradients_reach_the_faces_and_not_the_features(faces):
    identity = open_identity("builtin")
    faces = faces.clone().requires_grad_()
    identity(faces).square().mean().backward()
    assert faces.grad.abs().sum() > 0
    assert all(p.grad is None for p in identity.parameters())


@pytest.fixture()
def facenet(tmp_path, monkeypatch):
    """Random weights in the published layout, classifier included, placed by `fetch`."""
    torch.manual_seed(0)
    state = InceptionResnetV1(pretrained=None, classify=False).state_dict() | {
        "logits.weight": torch.zeros(8631, 512),
        "logits.bias": torch.zeros(8631),
    }
    torch.save(state, tmp_path / "mine.pt")
    monkeypatch.setenv("IFRP_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(HASHES, "facenet", sha256_of(tmp_path / "mine.pt"))
    run("fetch", "facenet", "--from", tmp_path / "mine.pt")
    return state


def test_facenets_embeddings_are_facenet_pytorchs(facenet, faces):
    identity = open_identity("facenet")
    assert (identity.name, identity.layer) == ("facenet", "embedding")
    reference = InceptionResnetV1(pretrained=None, classify=False).eval()
    reference.load_state_dict(
        {name: value for name, value in facenet.items() if not name.startswith("logits")}
    )
    with torch.no_grad():
        square = identity.features.square(faces)
        assert square.shape == (2, 3, 160, 160)
        assert torch.allclose(identity(faces), reference((square * 255 - 127.5) / 128), atol=1e-6)
    assert torch.allclose(identity(faces).norm(dim=1), torch.ones(2), atol=1e-5)
    assert not identity.train().features.training   # frozen, batch statistics never


def test_facenet_that_was_not_fetched_says_how(tmp_path, monkeypatch):
    monkeypatch.setenv("IFRP_BENCH_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="ifrp-bench fetch facenet"):
        open_identity("facenet")


def test_another_file_in_facenets_place_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("IFRP_BENCH_CACHE", str(tmp_path))
    (tmp_path / "other.pt").write_bytes(b"<!doctype html>")
    assert "a web page in its place" in run("fetch", "facenet", "--from", tmp_path / "other.pt", exit_code=1)
