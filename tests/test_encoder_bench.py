"""benchmarks/encoder.py: principal components of real faces, and SRN's code read as them."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.encoder import CODE, COMPONENTS, METHOD, Eigenfaces
from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.runs import open_run
from ifrp_bench.data.split import load_split
from ifrp_bench.methods import Pairs, Setup
from ifrp_bench.recovery.trained import load_trained
from tests.conftest import run

PATTERNS = 5


@pytest.fixture(scope="module")
def faces() -> Tensor:
    """Sixty faces, uint8 (60, 128, 128, 3), that differ by five smooth patterns."""
    generator = torch.Generator().manual_seed(2)
    small = torch.rand(PATTERNS, 3, 8, 8, generator=generator) - 0.5
    patterns = F.interpolate(small, size=128, mode="bilinear").flatten(1)
    amounts = torch.randn(60, PATTERNS, generator=generator) * torch.tensor([40.0, 30, 20, 15, 10])
    pictures = (128 + amounts @ patterns).round().clamp(0, 255)
    return pictures.byte().view(-1, 3, 128, 128).permute(0, 2, 3, 1).contiguous()


def learned(faces: Tensor) -> Eigenfaces:
    found = Eigenfaces()
    found.learn(faces)
    return found


def half_size(faces: Tensor) -> Tensor:
    """Float32 in [-1, 1], at half the size: (N, 3, 64, 64)."""
    return F.avg_pool2d(faces.permute(0, 3, 1, 2).float() / 127.5 - 1, 2)


def test_components_hold_what_faces_differ_by(faces):
    found, real = learned(faces), half_size(faces).flatten(1)
    sizes = found.components[:PATTERNS].square().sum(1)
    amounts = (real - found.mean) @ found.components[:PATTERNS].T / sizes
    # in standard deviations; five are all there is: the rest is rounding to grey levels
    assert amounts.std(0, correction=0).tolist() == pytest.approx([1] * PATTERNS, rel=0.01)
    back = torch.addmm(found.mean, amounts, found.components[:PATTERNS])
    assert float((back - real).abs().max()) < 0.01


def test_what_is_read_is_in_standard_deviations_and_nothing_is_the_mean_face(faces):
    found, code = learned(faces), torch.randn(2, 512, 2, 2)
    mean = F.interpolate(half_size(faces).mean(0, keepdim=True), scale_factor=2, mode="bilinear")
    assert torch.allclose(found(code), mean.expand(2, -1, -1, -1), atol=1e-6)
    torch.nn.init.constant_(found.read.bias[:1], 2.0)
    turned = F.interpolate(found.components[0].view(1, 3, 64, 64), scale_factor=2, mode="bilinear")
    assert torch.allclose(found(code) - mean, 2 * turned.expand(2, -1, -1, -1), atol=1e-5)


def test_few_faces_leave_the_last_components_at_zero(faces):
    assert int(learned(faces[:4]).components.any(1).sum()) == 3 < COMPONENTS
    alone = learned(faces[:1])
    assert not alone.components.any()
    assert torch.allclose(alone.mean, half_size(faces[:1]).flatten())


def test_equal_faces_have_equal_components_whatever_was_drawn_before(faces):
    one = learned(faces)
    torch.manual_seed(77)
    assert torch.equal(one.components, learned(faces).components)


def test_the_encoder_learns_by_what_is_read_and_the_decoder_does_not(faces):
    config = METHOD.config(optimizer="adam", learning_rate=1e-4, warm_up=False, network="srn-0stn")
    method = METHOD.build(config, Setup(steps=100, training=SimpleNamespace(real=faces)))
    real = (faces[:4].permute(0, 3, 1, 2).float() / 255).contiguous()
    pairs = Pairs(real, real, torch.eye(2, 3).expand(4, -1, -1))
    srn = method.network
    before = [srn.encoder["e1"].conv.weight.clone(), srn.d8.weight.clone()]
    losses = [float(method.step(pairs)["pixel"]) for _ in range(10)]
    assert losses[-1] < losses[0] / 4
    assert not torch.equal(srn.encoder["e1"].conv.weight, before[0])
    assert torch.equal(srn.d8.weight, before[1])

    # and what is recovered is what is read, by weights that travel with the network
    assert srn.state_dict()["eigenfaces.read.weight"].shape == (COMPONENTS, CODE)
    recovered = method.recover(real)
    with torch.no_grad():
        code, *_ = srn.bottleneck(2 * real - 1)
        assert torch.allclose(recovered, (method.eigenfaces(code) / 2 + 0.5).clamp(0, 1), atol=1e-6)


def test_its_components_are_those_of_the_faces_it_is_trained_on(tiny, tmp_path):
    file = Path(__file__).parent.parent / "benchmarks" / "encoder.py"
    run(
        "train", "--method", file, "--data", tiny, "--preset", "smoke", "--set", "steps=1", "--set",
        "batch_size=2", "--set", "validations=1", "--out", tmp_path / "encoder", "--quiet",
    )
    network = load_trained(open_run(tmp_path / "encoder")).method.network
    wanted = learned(load_split(open_dataset(tiny), "train", "cpu").real)
    assert wanted.components.any()
    assert torch.equal(network.eigenfaces.components, wanted.components)
