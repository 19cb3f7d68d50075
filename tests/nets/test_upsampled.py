"""Rewritten convolutions are the plain ones."""

import pytest
import torch
from torch.nn import functional as F

from ifrp_bench.nets.blocks import block_kernel
from ifrp_bench.nets.upsampled import UpsampledConv, interleave, pixels_first


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (5, 7)])
def test_a_convolution_after_upsampling_equals_its_definition(size, shape):
    torch.manual_seed(0)
    conv = UpsampledConv(4, 6, size)
    x = torch.randn(3, 4, *shape)
    assert conv(x).shape == (3, 6, 2 * shape[0], 2 * shape[1])
    assert torch.allclose(conv(x), conv.plain(x), atol=1e-5)
    plain = conv.plain(x)
    conv.freeze()
    assert torch.allclose(conv(x), plain, atol=1e-5)


@pytest.mark.parametrize("size", [3, 5])
def test_its_gradients_are_those_of_the_definition(size):
    torch.manual_seed(0)
    conv = UpsampledConv(3, 2, size).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.double, requires_grad=True)
    wanted = torch.autograd.grad(conv.plain(x).square().sum(), [x, conv.weight, conv.bias])
    got = torch.autograd.grad(conv(x).square().sum(), [x, conv.weight, conv.bias])
    for one, other in zip(got, wanted):
        assert torch.allclose(one, other, atol=1e-10)


def test_it_is_stored_as_a_plain_convolution():
    assert {name: tuple(value.shape) for name, value in UpsampledConv(3, 2, 5).state_dict().items()} == {
        "weight": (2, 3, 5, 5),
        "bias": (2,),
    }


def test_a_5x5_on_blocks_is_the_5x5_on_pixels():
    torch.manual_seed(0)
    kernel, x = torch.randn(3, 4, 5, 5), torch.randn(2, 4, 8, 6)
    blocks = F.pixel_unshuffle(x, 2)
    assert torch.allclose(
        F.pixel_shuffle(F.conv2d(blocks, block_kernel(kernel), padding=1), 2),
        F.conv2d(x, kernel, padding=2),
        atol=1e-4,
    )


def test_interleave_and_its_order_of_channels():
    blocks = torch.arange(8.0).view(1, 8, 1, 1)   # (row, column, 2 channels)
    assert interleave(blocks)[0, 0].tolist() == [[0, 2], [4, 6]]
    assert interleave(blocks)[0, 1].tolist() == [[1, 3], [5, 7]]
    kernel = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 4, 1, 1)
    assert pixels_first(kernel)[:, 0, 0, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
