"""Minimal filtering is the convolution it stands for, there and back, and stays where it belongs."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ifrp_bench.methods import Setup, cyclegan
from ifrp_bench.nets import winograd
from ifrp_bench.nets.winograd import Conv2d, convolve, pays
from ifrp_bench.recovery.trained import recover, recover_shard

CASES = [
    # maps, channels in and out, height, width, kernel, padding
    (8, 64, 96, 16, 16, 3, 1),
    (8, 96, 64, 18, 14, 3, 0),
    (3, 128, 96, 33, 21, 3, 1),
    (16, 64, 48, 8, 8, 5, 2),
    (2, 64, 64, 31, 17, 5, 2),
    (8, 192, 160, 17, 17, 2, 1),
    (4, 96, 96, 16, 16, 4, 1),
]


def tensors(case: tuple[int, ...], layout: torch.memory_format) -> tuple[torch.Tensor, ...]:
    n, inputs, outputs, height, width, side, _ = case
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(n, inputs, height, width, generator=draws).contiguous(memory_format=layout)
    weight = torch.randn(outputs, inputs, side, side, generator=draws) / (side * inputs**0.5)
    bias = torch.randn(outputs, generator=draws)
    return tuple(tensor.requires_grad_() for tensor in (x, weight, bias))


@pytest.mark.parametrize("at_once", [2**24, 1])   # all maps, and map by map
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_the_convolution_there_and_back(case, layout, at_once, monkeypatch):
    """Against torch's in float64, to 2e-5 of the largest value; a direct one in float32 has 1e-6."""
    monkeypatch.setattr(winograd, "MOVED_AT_ONCE", at_once)
    ours = tensors(case, layout)
    exact = [tensor.detach().double().requires_grad_() for tensor in ours]
    assert pays(ours[0], ours[1], case[-1])

    made, wanted = convolve(*ours, case[-1]), F.conv2d(*exact, padding=case[-1])
    assert made.shape == wanted.shape and made.is_contiguous(memory_format=layout)
    gradient = torch.randn(made.shape, generator=torch.Generator().manual_seed(1))
    made.backward(gradient)
    wanted.backward(gradient.double())
    for found, right in [(made, wanted), *((one.grad, other.grad) for one, other in zip(ours, exact))]:
        assert (found.double() - right).abs().max() < 2e-5 * right.abs().max()


def test_frozen_kernels_and_no_bias_have_no_gradient():
    x, weight, _ = tensors(CASES[0], torch.channels_last)
    weight.requires_grad_(False)
    convolve(x, weight, padding=1).sum().backward()
    assert x.grad is not None and weight.grad is None


def test_its_place_is_training_on_a_cpu_in_float32_and_where_it_saves_time(monkeypatch):
    x, weight, bias = tensors(CASES[0], torch.channels_last)
    assert pays(x, weight, 1)
    with torch.no_grad():
        assert not pays(x, weight, 1)   # use: a face must not depend on those beside it
    with torch.autocast("cpu", torch.bfloat16):
        assert not pays(x, weight, 1)
    assert not pays(x.detach(), weight.detach(), 1)
    with monkeypatch.context() as compiling:
        compiling.setattr(torch.compiler, "is_compiling", lambda: True)
        assert not pays(x, weight, 1)
    assert not pays(x[:1], weight, 1)   # 16 tiles: transforming the kernels takes longer
    assert not pays(x, weight[:8], 1)   # eight channels
    assert not pays(x.double(), weight.double(), 1)
    assert not pays(x, torch.zeros(96, 64, 1, 1, requires_grad=True), 0)

    # and what does not pay is torch's own, bit for bit
    few = x[:1].detach()
    assert torch.equal(convolve(few, weight, bias, 1), F.conv2d(few, weight, bias, padding=1))


def test_a_layer_with_a_stride_is_torchs():
    layer = Conv2d(64, 64, 3, 2, 1)
    x = torch.randn(16, 64, 32, 32)
    assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, 2, 1))


def test_the_tables_are_lavins_and_grays():
    """F(2x2, 3x3) and F(4x4, 3x3) are determined by their points up to a scale of each row."""
    by = winograd.transforms(3)
    assert by.picture.shape == (36, 36) and by.kernel.shape == (36, 9) and by.output.shape == (16, 36)
    # one tile by the definition: A^T [(G g) * (B^T d)]
    tile, kernel = torch.randn(6, 6).double(), torch.randn(3, 3).double()
    values = (by.kernel.double() @ kernel.flatten()) * (by.picture.double() @ tile.flatten())
    wanted = F.conv2d(tile[None, None], kernel[None, None]).flatten()
    assert torch.allclose(by.output.double() @ values, wanted, atol=1e-5)


def test_faces_of_a_shard_are_recovered_by_it_and_those_for_use_are_not(monkeypatch):
    """CycleGAN's residual blocks, eight faces in parts; a face differs by a grey level at most."""
    method = cyclegan.build(cyclegan.Config(width=32, blocks=2), Setup(trains=False))
    faces = np.random.default_rng(0).integers(0, 256, (8, 128, 128, 3), dtype=np.uint8)
    asked, taken = [], winograd._at_points
    monkeypatch.setattr(winograd, "_at_points", lambda x, *rest: asked.append(len(x)) or taken(x, *rest))
    plain = recover(method, faces)
    assert not asked
    monkeypatch.setattr(winograd, "MOVED_AT_ONCE", 3_000_000)
    of_shard = recover_shard(method, faces)
    assert sum(asked) == 4 * 8 and max(asked) < 8
    assert np.abs(of_shard.astype(int) - plain).max() <= 1
    assert np.array_equal(recover_shard(method, faces), of_shard)
