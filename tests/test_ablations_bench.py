"""benchmarks/ablations.py: `align-restore` with one part taken out or put in."""

import pytest
import torch
from torch import Tensor

from benchmarks.ablations import CHANGES, METHOD, Ablation, Config, changed, similarity
from ifrp_bench.ground.errors import InputError
from ifrp_bench.methods import Pairs, Setup
from ifrp_bench.metrics.ssim import ssim_rgb


@pytest.fixture
def pairs() -> Pairs:
    faces = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    return Pairs(faces, faces.flip(3), torch.eye(2, 3).repeat(4, 1, 1))


@pytest.mark.parametrize("change", ["", *CHANGES])
def test_every_change_learns_and_is_used(change, pairs):
    method = Ablation(Config(change=change, critic_from=0.0), Setup(steps=10))
    before = {name: value.clone() for name, value in method.network.named_parameters()}
    losses = [method.step(pairs) for _ in range(2)][-1]
    assert all(bool(value.isfinite()) for value in losses.values())
    moved = {name for name, value in method.network.named_parameters() if not value.equal(before[name])}
    # what a change leaves out says nothing, and what it puts in learns
    assert any(name.startswith("restorer.detail") for name in moved) == (
        change not in ("detail", "shortcuts", "full-size")
    )
    assert any(name.startswith("restorer.at_full") for name in moved) == (change == "full-size")
    faces = method.recover(pairs.stylized)
    assert faces.shape == (4, 3, 128, 128) and 0 <= float(faces.min()) and float(faces.max()) <= 1

    # its state holds all of it
    again = Ablation(method.config, Setup(steps=10))
    again.restore(method.state())
    assert again.recover(pairs.stylized).equal(faces)


def test_without_standardized_pictures_contrast_counts(pairs):
    flat = (pairs.stylized - 0.5) / 2 + 0.5
    inputs = changed("standardized").inputs
    assert torch.allclose(inputs(flat), inputs(pairs.stylized) / 2, atol=1e-6)
    whole = changed("").inputs
    assert torch.allclose(whole(flat)[:, 3:], whole(pairs.stylized)[:, 3:], atol=1e-2)


def test_similarity_is_ssim_of_the_channels(pairs):
    noise = torch.randn(pairs.real.shape, generator=torch.Generator().manual_seed(2))
    real = (255 * pairs.real).round()
    recovered = (real + 40 * noise).clamp(0, 255).round()

    def pictures(faces: Tensor) -> Tensor:
        return faces.permute(0, 2, 3, 1).byte()

    wanted = float(ssim_rgb(pictures(recovered), pictures(real)).mean())
    assert float(similarity(recovered / 255, real / 255)) == pytest.approx(wanted, abs=1e-5)


def test_the_critic_pulls_at_faces_no_harder_than_its_share(pairs):
    method = Ablation(Config(change="critic", critic_share=0.1), Setup(steps=10))
    recovered = pairs.stylized.clone().requires_grad_()
    losses, others = method.compare(recovered, pairs.real, pairs.real)
    assert "critic" not in losses   # it begins at seven tenths
    without, = torch.autograd.grad(others, recovered)

    method.at(7)
    losses, total = method.compare(recovered, pairs.real, pairs.real)
    assert {"critic", "adversarial"} <= set(losses)
    of_all, = torch.autograd.grad(total, recovered)
    assert float((of_all - without).norm()) == pytest.approx(0.1 * float(without.norm()), rel=1e-3)


def test_a_change_that_there_is_none_of():
    with pytest.raises(InputError, match="change 'hair': one of standardized, detail"):
        Config(change="hair")


def test_its_presets_are_the_methods_own():
    assert METHOD.presets["cpu"]["looks"] == 2
