"""Perceptual features: the layers that papers name, from the files that people have."""

import pytest
import torch
import torchvision

from ifrp_bench.ground.errors import InputError
from ifrp_bench.nets.vgg import gram, open_features


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    return torch.rand(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name, layers", [
    ("vgg16", {"relu1_2": 3, "relu2_2": 8, "relu3_3": 15, "relu4_3": 22}),
    ("vgg19", {"relu1_1": 1, "relu3_2": 13, "relu4_2": 22}),
])
def test_layers_are_torchvisions(tmp_path, faces, name, layers):
    torch.manual_seed(1)
    reference = getattr(torchvision.models, name)(weights=None).eval()
    torch.save(reference.state_dict(), tmp_path / f"{name}.pth")
    features = open_features(tmp_path / f"{name}.pth")
    assert features.name == name
    found = features(faces, tuple(layers))
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    with torch.no_grad():
        for layer, index in layers.items():
            expected = reference.features[:index + 1]((faces - mean) / std)
            assert torch.allclose(found[layer], expected, atol=1e-4), layer


def test_normalised_files_are_read_as_their_authors_run_them(tmp_path, faces):
    torch.manual_seed(2)
    channels = [(3, 3, 1), (3, 64, 3), (64, 64, 3), (64, 128, 3)]
    state = {}
    for number, (inputs, outputs, size) in zip((0, 2, 5, 9), channels):
        state[f"{number}.weight"] = torch.randn(outputs, inputs, size, size) / (inputs * size)
        state[f"{number}.bias"] = torch.randn(outputs) / 10
    torch.save(state, tmp_path / "normalised.pth")
    features = open_features(tmp_path / "normalised.pth")
    assert features.layers == ["relu1_1", "relu1_2", "relu2_1"]

    def conv(x, number):
        pad = torch.nn.ReflectionPad2d(1)
        return torch.relu(torch.conv2d(pad(x), state[f"{number}.weight"], state[f"{number}.bias"]))

    x = torch.conv2d(faces, state["0.weight"], state["0.bias"])
    first = conv(x, 2)
    second = conv(torch.max_pool2d(conv(first, 5), 2, ceil_mode=True), 9)
    found = features(faces, ("relu1_1", "relu2_1"))
    assert torch.allclose(found["relu1_1"], first, atol=1e-5) and torch.allclose(
        found["relu2_1"], second, atol=1e-5
    )
    with pytest.raises(InputError, match="relu4_1"):
        features(faces, ("relu4_1",))


def test_named_weights_are_fetched_checked_and_opened(tmp_path, monkeypatch):
    from ifrp_bench.ground.files import sha256_of
    from ifrp_bench.ground.weights import DOWNLOADS, fetch_weights

    monkeypatch.setenv("IFRP_BENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="ifrp-bench fetch vgg19"):
        open_features("vgg19")
    torch.save(
        torchvision.models.vgg19(weights=None).features.state_dict(prefix="features."), tmp_path / "mine.pth"
    )
    with pytest.raises(InputError, match="not vgg19-dcbb9e9d.pth: its sha256 is"):
        fetch_weights("vgg19", str(tmp_path / "mine.pth"))
    monkeypatch.setitem(
        DOWNLOADS, "vgg19", f"https://example.org/vgg19-{sha256_of(tmp_path / 'mine.pth')[:8]}.pth"
    )
    fetch_weights("vgg19", str(tmp_path / "mine.pth"))
    assert open_features("vgg19").name == "vgg19"
    with pytest.raises(InputError, match="'vgg11' is none of vgg16, vgg19"):
        fetch_weights("vgg11")


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="vgg_normalised"):
        open_features(tmp_path / "other.pth")


def test_gram_matrix_by_hand():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])   # two channels of 1x2
    assert torch.allclose(gram(features), torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4)


def test_the_gradient_of_gram_matrices():
    features = torch.randn(
        2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    weight = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1))   # not symmetric
    ours, = torch.autograd.grad((gram(features) * weight).sum(), features)
    plain = torch.einsum("nahw,nbhw->nab", features, features) / 60
    theirs, = torch.autograd.grad((plain * weight).sum(), features)
    assert torch.allclose(ours, theirs, atol=1e-6)   # Gram matrices are float32
    with torch.autocast("cpu", torch.bfloat16):
        # the product is taken in bfloat16, the gradient comes back in float32
        gram(features.float()).sum().backward()
    assert features.grad is not None and features.grad.isfinite().all()
