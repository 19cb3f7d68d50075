"""The contract of a method, over the catalogue: each is tested the moment it exists."""

import numpy as np
import pytest
import torch

from ifrp_bench import parts
from ifrp_bench.data.runs import start_run
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.images import as_faces, as_pictures
from ifrp_bench.ground.warp import face_window
from ifrp_bench.methods import Pairs, Setup, restore_optimizer
from ifrp_bench.metrics.psnr import psnr_db
from tests.conftest import run

PARTS = parts.trainables()
ALL = sorted(PARTS)
METHODS = [name for name in ALL if PARTS[name].use == "trained"]
# for time
SMALLER = {
    "cyclegan": {"width": 16, "blocks": 2},
    "johnson": {"width": 16},
    "pix2pix": {"width": 16},
    "gatys": {"steps_per_face": 3},
    "gatys-oracle": {"steps_per_face": 3},
}
OVERFIT_STEPS = {"johnson": 60, "mgan": 25, "pix2pix": 30}
OVERFIT_SETTINGS = {"pix2pix": {"learning_rate": 2e-3}}


def pairs(n: int = 4) -> Pairs:
    faces = torch.rand(2, n, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    return Pairs(faces[0], faces[1], torch.tensor([[0.9, 0.3, 0.1], [-0.3, 0.9, -0.1]]).expand(n, -1, -1))


class FourFaces:
    """A training split of four pairs."""

    stylized, real = (
        torch.randint(
            0, 256, (4, 128, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
        )
        for seed in (1, 2)
    )
    real_index = torch.tensor([1, 0, 3, 2])
    mean_face = real.double().mean(0).round().byte()

    def stylized_parts(self):
        return iter(self.stylized.split(3))


def built(name: str, steps: int = 8, *, trains: bool = True, **settings):
    part = PARTS[name]
    config = part.declared.config(**part.settings | SMALLER.get(name, {}) | settings)
    setup = Setup(steps=steps, validation=pairs(2), training=FourFaces(), trains=trains)
    return part.declared.build(config, setup)


def recovered_by(method, batch: Pairs) -> torch.Tensor:
    return method.recover(batch.stylized, batch.real)


@pytest.mark.parametrize("name", METHODS)
def test_steps_give_finite_losses_and_change_the_weights(name):
    method = built(name)
    before = [p.detach().clone() for p in method.network.parameters()]
    for _ in range(4):   # a gate may let the network that destylizes wait for a step
        losses = method.step(pairs(2))
    assert losses and all(
        value.ndim == 0 and bool(torch.isfinite(value)) and not value.requires_grad
        for value in losses.values()
    )
    assert any(not torch.equal(a, b) for a, b in zip(before, method.network.parameters()))


@pytest.mark.parametrize("name", ALL)
def test_recovered_faces_are_faces(name):
    recovered = recovered_by(built(name), pairs(2))
    assert (
        recovered.shape == (2, 3, 128, 128)
        and recovered.dtype == torch.float32
        and not recovered.requires_grad
    )
    assert 0 <= float(recovered.min()) and float(recovered.max()) <= 1


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_result(name):
    one, other = built(name), built(name)
    for method in (one, other):
        if name in METHODS:
            method.step(pairs(2))
    assert torch.equal(recovered_by(one, pairs(2)), recovered_by(other, pairs(2)))


@pytest.mark.parametrize("name", ALL)
def test_a_recovered_face_does_not_depend_on_its_batch(name):
    method = built(name)
    whole = recovered_by(method, pairs())
    batch = pairs()
    alone = recovered_by(method, Pairs(batch.stylized[1:2], batch.real[1:2], batch.warp[1:2]))
    assert float((whole[1:2] - alone).abs().max()) < (2 / 255 if PARTS[name].use == "optimised" else 1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_state_holds_everything(name, tmp_path):
    """Written to disk and taken up by a fresh method, the next steps are the same to the last bit."""
    method = built(name)
    for _ in range(2):
        method.step(pairs(2))
    folder = start_run(tmp_path, {"method": name, "config": {}, "loop": {}, "data_sha256": ""})
    folder.save("last", method.state())
    # used, without what it is trained with
    used = built(name, trains=False)
    used.restore(folder.load("last"))
    assert used.optimizers == {}
    assert torch.equal(used.recover(pairs(2).stylized), method.recover(pairs(2).stylized))

    # and trained on
    other = built(name)
    other.restore(folder.load("last"))
    for _ in range(2):
        wanted, got = method.step(pairs(2)), other.step(pairs(2))
        assert {key: float(value) for key, value in got.items()} == {
            key: float(value) for key, value in wanted.items()
        }
    assert torch.equal(method.recover(pairs(2).stylized), other.recover(pairs(2).stylized))


PAIRED_NETWORKS = ["ifrp", "johnson", "mgan", "pix2pix"]   # an ablation has its method's networks


@pytest.mark.parametrize("name", PAIRED_NETWORKS)
def test_two_pairs_are_learned_by_heart(name, frames):
    """PSNR on them rises by at least 6 dB."""
    real = as_faces(torch.from_numpy(np.stack([face_window(frame) for frame in frames[:6:3]])))
    # other colours, much noise
    stylized = (real.flip(1) * 0.7 + 0.3 * as_faces(FourFaces.stylized[:2])).contiguous(
        memory_format=torch.channels_last
    )
    batch = Pairs(stylized, real, torch.eye(2, 3).expand(2, -1, -1))
    method = built(name, steps=OVERFIT_STEPS.get(name, 60), **OVERFIT_SETTINGS.get(name, {}))
    before = psnr(recovered_by(method, batch), real)
    for _ in range(method.setup.steps):
        method.step(batch)
    assert psnr(recovered_by(method, batch), real) >= before + 6


def psnr(recovered: torch.Tensor, real: torch.Tensor) -> float:
    return float(psnr_db(as_pictures(recovered), as_pictures(real)).mean())


@pytest.mark.parametrize("name", METHODS)
def test_presets_name_settings_that_exist(name):
    from ifrp_bench.training.resolve import resolve

    presets = PARTS[name].declared.presets
    assert {"paper", "short", "smoke"} <= set(presets)
    for preset in presets:
        resolve(name, preset, {})


def test_restored_moments_lie_in_memory_as_their_parameter_does():
    conv = torch.nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(conv.parameters(), fused=True)
    conv(torch.randn(1, 4, 5, 5)).sum().backward()
    optimizer.step()
    state = {
        number: {key: value.clone().contiguous() for key, value in values.items()}
        for number, values in optimizer.state_dict()["state"].items()
    }
    restore_optimizer(optimizer, state)
    moment = optimizer.state[conv.weight]["exp_avg"]
    assert moment.stride() == conv.weight.stride() and torch.equal(moment, state[0]["exp_avg"])


def test_the_difficulty_rows_are_what_they_say():
    stylized = as_faces(FourFaces.stylized)
    assert torch.equal(built("copy").recover(stylized), stylized)
    assert torch.equal(as_pictures(built("mean-face").recover(stylized))[2], FourFaces.mean_face)
    assert torch.equal(
        as_pictures(built("nearest-face").recover(stylized)), FourFaces.real[FourFaces.real_index]
    )


def test_rows_that_are_not_trained_say_so(tiny):
    with pytest.raises(InputError, match="not trained"):
        built("copy").step(pairs())
    assert "not trained" in run("train", "--method", "mean-face", "--data", tiny, exit_code=1)
