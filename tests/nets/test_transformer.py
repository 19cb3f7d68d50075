"""The style network: the published size, and its fast form, which is the same function."""

import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ifrp_bench.ground.compiler import compiled
from ifrp_bench.nets.fast_transformer import FastTransformer
from ifrp_bench.nets.transformer import NormalizedConv, ReflectConv, Transformer, reflect_pad


@pytest.fixture
def net() -> Transformer:
    """A transformer with every parameter away from its initial value, so that a forgotten one shows."""
    torch.manual_seed(0)
    net = Transformer(16).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.InstanceNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
        if isinstance(module, torch.nn.Conv2d):
            module.bias.data.normal_(0, 0.1)
    return net


def test_parameter_counts_are_the_published_ones():
    assert sum(p.numel() for p in Transformer(32).parameters()) == 1_679_235   # "1.68 M at w = 32"
    assert sum(p.numel() for p in Transformer(16).parameters()) == 424_899   # 0.85 MB in float16


@pytest.mark.parametrize("size, stride", [(9, 1), (3, 1), (3, 2)])
def test_convolutions_equal_their_definition_there_and_back(size, stride):
    conv, x = ReflectConv(3, 4, size, stride).double(), torch.rand(
        2, 3, 16, 20, dtype=torch.float64, requires_grad=True
    )
    assert same_function(conv, conv.forward, conv.plain, x)


def test_a_convolution_after_upsampling_equals_its_definition_there_and_back():
    conv, x = ReflectConv(3, 4, 3).double(), torch.rand(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    assert same_function(
        conv, conv.upsampled, lambda x: conv.plain(F.interpolate(x, scale_factor=2, mode="nearest")), x
    )


def same_function(conv, one, other, x) -> bool:
    """Results and every gradient."""
    weights = torch.rand_like(other(x))
    outs = [function(x) for function in (one, other)]
    gradients = [torch.autograd.grad((out * weights).sum(), [x, conv.weight, conv.bias]) for out in outs]
    return torch.allclose(*outs) and all(torch.allclose(a, b) for a, b in zip(*gradients))


@pytest.mark.parametrize("shape", [(1, 3, 256, 256), (3, 3, 64, 80), (2, 3, 32, 32)])
def test_fast_form_equals_the_plain_network(net, shape):
    faces = torch.rand(shape)
    with torch.no_grad():
        plain = net(faces).clamp(0, 1)
    assert (FastTransformer(net)(faces) - plain).abs().max() < 2e-5


def test_the_batched_form_of_a_gpu_equals_the_plain_network(net):
    """A GPU takes pictures together, through code that the CPU passes by; it is held to the definition here.
    """
    faces = torch.rand(3, 3, 64, 48)
    with torch.no_grad():
        plain = net(faces).clamp(0, 1)
    assert (FastTransformer(net)._stylize(faces) - plain).abs().max() < 2e-5


def test_bfloat16_form_differs_by_few_grey_levels(net):
    faces = torch.rand(2, 3, 64, 64)
    off = (FastTransformer(net, torch.bfloat16)(faces) - FastTransformer(net)(faces)).abs() * 255
    assert 0 < off.mean() < 3


def test_fast_form_treats_every_picture_alone(net):
    faces = torch.rand(7, 3, 64, 64)
    fast = FastTransformer(net, torch.bfloat16)
    alone = torch.cat([fast(face[None]) for face in faces])
    assert torch.equal(fast(faces), alone)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_cpus_pixels_to_one_grey_level():
    from ifrp_bench.data.styles import NAMES, Stylizer, pick_styles

    windows = np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), dtype=np.uint8)
    for name in NAMES:
        cpu, gpu = (
            Stylizer(pick_styles((name,)), precision="float32", device=device, batch_size=4)(
                name, windows, 128
            )
            for device in ("cpu", "cuda")
        )
        assert np.abs(cpu.astype(int) - gpu).max() <= 1


def test_gradient_reaches_every_parameter(net):
    net(torch.rand(1, 3, 32, 32)).square().sum().backward()
    # a bias before instance normalisation has no effect, all else has
    assert all(
        p.grad is not None and p.grad.abs().max() > 0
        for name, p in net.named_parameters()
        if "conv.bias" not in name and "second.bias" not in name
    )


@pytest.mark.parametrize("size", [1, 4])
def test_reflection_padding_is_torchs(size):
    x = torch.rand(2, 3, 9, 11)
    assert torch.equal(reflect_pad(x, size), F.pad(x, (size,) * 4, mode="reflect"))


@pytest.mark.parametrize("size", [1, 4])
def test_the_gradient_of_padding_is_torchs(size):
    x = torch.randn(
        2, 3, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    weight = torch.randn(
        2, 3, 9 + 2 * size, 7 + 2 * size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    ours, = torch.autograd.grad((reflect_pad(x, size) * weight).sum(), x)
    theirs, = torch.autograd.grad((F.pad(x, (size,) * 4, mode="reflect") * weight).sum(), x)
    assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_an_upsampling_layer_compiled_on_a_cpu_gives_the_same_gradients():
    """In channels last, as training runs: torch's own replication padding ends the first step there."""
    torch.manual_seed(0)
    layer = NormalizedConv(4, 4, 3, upsample=True).to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    parts = (x, *layer.parameters())
    wish = torch.randn(2, 4, 16, 16)
    plain = torch.autograd.grad((layer(x) * wish).sum(), parts)
    fast = torch.autograd.grad((compiled(layer, "cpu")(x) * wish).sum(), parts)
    for one, other in zip(plain, fast):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
