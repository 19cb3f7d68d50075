"""IFRP: the networks of the tables, the losses by value, the schedules, growing."""

import math
from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ifrp_bench.ground.errors import InputError
from ifrp_bench.methods import Pairs, Setup
from ifrp_bench.methods.ifrp.fast import Destylizer, FastSRN, folded
from ifrp_bench.methods.ifrp.growing import Grown, stages
from ifrp_bench.methods.ifrp.method import Config, build
from ifrp_bench.methods.ifrp.network import DN, NETWORKS, SRN
from ifrp_bench.nets.stn import (
    LEGACY, SpatialTransformer, matrices, misplacement, nearest_similarity, transform,
)

WIDTHS = {
    "srn-3stn": 8_364_451,
    "srn-4stn": 8_398_367,
    "srn-2stn": 8_336_067,
    "srn-0stn": 7_476_675,
    "srn-4x4": 4_430_755,
    "srn-skips": 9_323_203,
}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def batch(n: int = 4) -> Pairs:
    generator = torch.Generator().manual_seed(1)
    faces = torch.rand(2, n, 3, 128, 128, generator=generator)
    return Pairs(faces[0], faces[1], torch.tensor([[0.0, -1.0, 0.1], [1.0, 0.0, 0.0]]).expand(n, -1, -1))


def plain(srn: SRN, faces: torch.Tensor) -> torch.Tensor:
    """SRN as the tables say it, layer by layer, with no rewriting."""
    x = faces
    maps = {}
    for name, layer in srn.encoder.items():
        x = F.leaky_relu(layer.norm(layer.conv(x)), 0.2)
        x = x if layer.stn is None else layer.stn(x)
        maps[name] = x = F.max_pool2d(x, 2) if layer.pools else x
    wide = isinstance(srn.fc, nn.Conv2d)   # 4x4 places, each by itself
    x = srn.fc(x) if wide else srn.fc(x.flatten(1)).view(-1, 512, 2, 2)
    for number, layer in enumerate(srn.decoder.values(), 1):
        if number in srn.skips:
            x = torch.cat([x, maps[srn.skips[number]]], 1)
        x = F.interpolate(x, scale_factor=2) if layer.doubles else x
        x = x if layer.stn is None else layer.stn(x)
        x = F.relu(layer.norm(F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=layer.conv.padding)))
    return F.conv2d(x, srn.d8.weight, srn.d8.bias, padding=2)


@pytest.fixture(scope="module")
def lively() -> FastSRN:
    """An SRN whose STNs turn and whose running statistics are those of faces."""
    torch.manual_seed(3)
    srn = FastSRN()
    with torch.no_grad():
        for module in srn.modules():
            if isinstance(module, SpatialTransformer):
                module.out.weight.normal_(std=0.1)
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.2)
        for _ in range(3):
            srn.train()(torch.randn(4, 3, 128, 128))
    return srn.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_the_published_number_of_parameters(name):
    assert count(SRN(name)) == count(FastSRN(name)) == WIDTHS[name]


def test_the_released_network_and_dn_have_8_36_and_6_66_million_parameters():
    assert round(count(SRN()) / 1e6, 2) == 8.36
    assert round(count(DN()) / 1e6, 2) == 6.66


@pytest.mark.parametrize("name", NETWORKS)
def test_the_rewritten_network_equals_the_plain_one(name):
    torch.manual_seed(0)
    srn, published = FastSRN(name), SRN(name)
    published.load_state_dict(srn.state_dict())
    faces = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        for wanted in (published.eval(), plain):
            expected = wanted(faces) if wanted is published else plain(srn.eval(), faces)
            assert torch.allclose(srn.eval()(faces), expected, atol=1e-5)
        assert torch.allclose(srn.train()(faces), plain(srn, faces), atol=1e-5)   # by batch statistics
        assert torch.allclose(srn(faces), published.train()(faces), atol=1e-5)


def test_folded_for_inference_it_is_the_same_function(lively):
    faces = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        wanted, got = lively(faces), folded(lively)(faces)
    assert wanted.std() > 0.01
    assert torch.allclose(got, wanted, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded(lively).modules())


def test_recovered_faces_do_not_depend_on_their_neighbours(lively):
    faces = torch.rand(3, 3, 128, 128)
    destylizer = Destylizer(lively)
    assert torch.allclose(destylizer(faces)[1:2], destylizer(faces[1:2]), atol=1e-6)


@pytest.mark.parametrize("name, stns", [("srn-3stn", 3), ("srn-4stn", 4), ("srn-2stn", 2), ("srn-0stn", 0)])
def test_gradient_reaches_every_stn(name, stns):
    torch.manual_seed(0)
    srn = FastSRN(name)
    srn(torch.randn(2, 3, 128, 128)).square().mean().backward()
    transformers = [module for module in srn.modules() if isinstance(module, SpatialTransformer)]
    assert len(transformers) == stns
    for module in transformers:
        assert module.out.bias.grad.abs().sum() > 0 and module.out.weight.grad.abs().sum() > 0


def test_the_decoder_stn_stands_behind_the_upsampling():
    sizes = []
    srn = FastSRN()
    hook = srn.decoder["d3"].stn.register_forward_hook(
        lambda module, given, made: sizes.append(tuple(given[0].shape))
    )
    srn(torch.randn(2, 3, 128, 128))
    hook.remove()
    assert sizes == [(2, 128, 8, 8)]


@pytest.mark.parametrize(
    "wrong",
    [{"network": "srn-5stn"}, {"losses": "all"}, {"optimizer": "sgd"}, {"grow_32": 0.6, "grow_64": 0.4}],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError):
        Config(**wrong)


def test_schedules_end_where_the_papers_245_epochs_end():
    method = build(Config(losses="srn", warm_up=False), Setup(steps=2450))
    assert (method.learning_rate(), method.fade()) == (1e-3, 1.0)
    method.done = 1000
    assert method.epoch() == 100
    assert method.learning_rate() == pytest.approx(1e-3 * 0.99**100)
    assert method.fade() == pytest.approx(0.995**100)
    method.done = 2449
    assert (method.epoch(), method.fade()) == (244, 0.5)   # 0.995^244 is below the floor of a half


def test_the_warm_up_is_the_releases():
    method = build(Config(losses="srn"), Setup(steps=10**6))
    rates = []
    for method.done in (0, 49, 50, 99, 100):
        rates.append(method.learning_rate())
    assert rates == pytest.approx([2e-5, 2e-5, 2e-4, 2e-4, 1e-3])


def test_a_cooldown_ends_at_zero():
    method = build(
        Config(losses="srn", warm_up=False, learning_rate_decay=1.0, cooldown=0.5), Setup(steps=100)
    )
    rates = []
    for method.done in (0, 50, 75, 99):
        rates.append(method.learning_rate())
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 2e-5])


@pytest.mark.parametrize(
    "real, recovered, updates",
    [
        (0.5, 0.5, (True, True)),
        (0.2, 0.5, (False, True)),
        (0.5, 0.9, (True, False)),
        (0.2, 0.9, (True, True)),
        (0.71, 0.31, (True, False)),
    ],
)
def test_the_gate_lets_the_weaker_network_learn(real, recovered, updates):
    method = build(Config(losses="srn-dn"), Setup(steps=10))
    assert method._gate(torch.tensor(real), torch.tensor(recovered)) == updates


def test_the_losses_by_hand():
    method = build(Config(losses="ifrp", identity_weight=2.0), Setup(steps=10))
    pairs = batch()
    with torch.no_grad():
        recovered = method.grown.train()(2 * pairs.stylized - 1, 128, None)[0].float()
        real = 2 * pairs.real - 1
        features = method.identity
        wanted, got = features((real + 1) / 2), features((recovered + 1) / 2)
    losses = build(Config(losses="ifrp", identity_weight=2.0), Setup(steps=10)).step(pairs)
    assert float(losses["pixel"]) == pytest.approx(float((recovered - real).square().mean()), rel=0.02)
    # bfloat16 against float32
    assert float(losses["identity"]) == pytest.approx(float((got - wanted).square().mean()), rel=0.05)
    assert {
        "pixel",
        "identity",
        "identity_weight",
        "adversarial",
        "dn_real",
        "dn_recovered",
        "skip_srn",
        "skip_dn",
    } == set(losses)


def test_a_step_of_rmsprop_by_hand():
    """One update with gradient g moves a weight by lr * g /
    (sqrt(0.1 g^2) + eps): sqrt(10) * lr, whatever g is.
    """
    method = build(Config(losses="srn", warm_up=False), Setup(steps=10))
    before = method.network.d8.bias.detach().clone()
    method.step(batch())
    assert torch.allclose(
        (method.network.d8.bias - before).abs(), torch.full((3,), 1e-3 * math.sqrt(10)), rtol=1e-3
    )


def test_srn_hears_of_it_when_dn_tells_its_faces_from_real_ones():
    """DN normalises by batch statistics: judged in a batch of their
    own, recovered faces would all pass for real.
    """
    method = build(Config(losses="srn-dn", gate=False, warm_up=False, learning_rate=1e-4), Setup(steps=100))
    for _ in range(12):
        losses = method.step(batch(8))
    assert max(float(losses["dn_real"]), float(losses["dn_recovered"])) < 0.5
    assert float(losses["adversarial"]) > 0.5


@pytest.mark.parametrize("share, held", [(0.1, True), (1e9, False)])
def test_where_its_share_is_bounded_dn_pulls_no_harder_than_that(share, held):
    """In the direction of the term as it is, by the weight that is smaller: the paper's, or the bound's."""
    pairs = batch()
    method = build(Config(losses="srn-dn", adversarial_weight=5.0, adversarial_share=share), Setup(steps=10))
    recovered, real = (2 * pairs.stylized - 1).requires_grad_(), 2 * pairs.real - 1
    loss, weighted = method._adversarial_term(real, recovered)
    bounded, = torch.autograd.grad(weighted, recovered)
    again = method._adversarial(real, recovered)
    plain, = torch.autograd.grad(5.0 * again, recovered)
    pixel, = torch.autograd.grad(F.mse_loss(recovered, real), recovered)
    # two passes in bfloat16
    assert loss.item() == pytest.approx(again.item(), rel=0.02)
    assert float(F.cosine_similarity(bounded.flatten(), plain.flatten(), 0)) == pytest.approx(1, abs=0.05)
    wanted, apart = (share * pixel.norm(), 1e-3) if held else (plain.norm(), 0.05)
    assert float(bounded.norm()) == pytest.approx(float(wanted), rel=apart)
    assert (plain.norm() > 0.1 * pixel.norm()).item()   # or the bound would bind nothing


@pytest.mark.parametrize(
    "losses, dn, identity", [("srn", False, False), ("srn-dn", True, False), ("ifrp", True, True)]
)
def test_ablations_have_the_parts_of_their_row(losses, dn, identity):
    method = build(Config(losses=losses), Setup(steps=10))
    assert (method.dn is not None, method.identity is not None) == (dn, identity)


def test_the_identity_weight_is_calibrated_once_when_the_first_epoch_is_over():
    method = build(Config(losses="ifrp", gate=False), Setup(steps=490, validation=batch(2)))
    assert "identity" not in method.step(batch()) and method.identity_weight == 0
    method.step(batch())
    assert "identity" in method.step(batch())
    weight = method.identity_weight
    assert weight > 0
    method.step(batch())
    assert method.identity_weight == weight


def test_the_calibrated_identity_term_pulls_at_three_tenths_of_the_pixel_term():
    pairs = batch(2)
    method = build(Config(losses="ifrp", gate=False), Setup(steps=10, validation=pairs))
    assert not method._calibration_is_due()
    method.done = 1
    assert method._calibration_is_due()
    method.identity_weight = method._calibrated_identity_weight(pairs)
    assert not method._calibration_is_due()
    recovered, real = (2 * method.recover(pairs.stylized) - 1).requires_grad_(), 2 * pairs.real - 1
    pixel, = torch.autograd.grad(F.mse_loss(recovered, real), recovered)
    (identity,) = torch.autograd.grad(
        method.identity_weight * method._identity_loss(recovered, real), recovered
    )
    assert float(identity.norm() / pixel.norm()) == pytest.approx(0.3, rel=0.02)


def test_growing_goes_from_32_to_64_to_128_and_blends():
    method = build(Config(losses="srn", grow_32=0.5, grow_64=0.25, blend=0.4), Setup(steps=100))
    stages = []
    for method.done in (0, 49, 50, 55, 61, 75, 84, 90):
        px, share = method.stage()
        stages.append((px, None if share is None else round(float(share), 2)))
    assert stages == [
        (32, None),
        (32, None),
        (64, 0.0),
        (64, 0.5),
        (64, None),
        (128, 0.0),
        (128, 0.9),
        (128, None),
    ]


@pytest.mark.parametrize("network", ["srn-3stn", "srn-skips"])
def test_a_stage_that_begins_to_blend_in_gives_the_stage_before_enlarged(network):
    torch.manual_seed(0)
    grown = Grown(FastSRN(network)).eval()
    faces = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        before, _ = grown(faces, 32, None)
        begun, _ = grown(faces, 64, torch.tensor(0.0))
        done, _ = grown(faces, 128, torch.tensor(1.0))
        assert torch.allclose(begun, F.interpolate(before, scale_factor=2, mode="bilinear"), atol=1e-6)
        assert torch.allclose(done, grown.srn(faces), atol=1e-6)


def test_growing_ends_with_the_network_of_the_tables():
    method = build(Config(losses="srn", grow_32=0.4, grow_64=0.3), Setup(steps=4))
    assert [tuple(method.step(batch())) for _ in range(4)] == [("pixel",)] * 4
    assert count(method.network) == WIDTHS["srn-3stn"]
    assert method.recover(batch().stylized).shape == (4, 3, 128, 128)


def test_the_legacy_bias_turns_by_57_degrees():
    stn = SpatialTransformer(32, (64, 128, 256, 20), legacy_bias=True)
    assert stn.parameters_of(torch.randn(1, 32, 64, 64)).detach().tolist()[0] == pytest.approx(LEGACY)


def test_misplacement_is_the_mean_squared_distance_of_the_points():
    torch.manual_seed(0)
    one, other = matrices(torch.randn(3, 4)), matrices(torch.randn(3, 4))
    points = torch.rand(200_000, 2) * 2 - 1
    apart = points @ (one - other)[:, :, :2].transpose(1, 2) + (one - other)[:, None, :, 2]
    assert float(misplacement(one, other)) == pytest.approx(float(apart.square().sum(2).mean()), rel=0.01)


def test_the_aligning_option_teaches_stn1_the_stored_misalignment():
    torch.manual_seed(0)
    method = build(
        Config(losses="srn", optimizer="adam", align_weight=100.0, warm_up=False, grow_32=0.9),
        Setup(steps=60),
    )
    pairs = batch(2)
    first = float(method.step(pairs)["align"])
    for _ in range(30):
        last = float(method.step(pairs)["align"])
    assert first > 0.3 and last < first / 3


def similarities(n: int, *, sheared: float = 0.0) -> torch.Tensor:
    """So many maps that turn, scale and shift, and shear."""
    generator = torch.Generator().manual_seed(5)
    maps = matrices(torch.tensor([0.0, 1.0, 0.0, 0.0]) + 0.3 * torch.randn(n, 4, generator=generator))
    return maps + sheared * torch.tensor([[1.0, 0.5, 0.0], [0.5, -1.0, 0.0]])


def test_the_nearest_similarity_is_what_an_stn_can_make_of_a_map():
    assert torch.allclose(nearest_similarity(similarities(3)), similarities(3), atol=1e-6)
    sheared = similarities(3, sheared=0.2)
    nearest = nearest_similarity(sheared)
    assert torch.allclose(nearest, similarities(3), atol=1e-6)   # what shears is orthogonal to what turns
    for step in (matrices(torch.tensor([[0.01, 1.0, 0, 0]])), matrices(torch.tensor([[0.0, 1.01, 0, 0]]))):
        moved = nearest[:, :, :2] @ step[:, :, :2]
        assert (moved - sheared[:, :, :2]).norm() > (nearest - sheared)[:, :, :2].norm()


@pytest.mark.parametrize("network", ["srn-3stn", "srn-skips"])
def test_told_maps_stand_in_for_the_encoders_stns(network):
    """Told what STN1 would have found, a network whose STN2 does not move gives the same face."""
    torch.manual_seed(0)
    srn = FastSRN(network).eval()
    nn.init.normal_(srn.encoder["e2"].stn.out.weight, std=0.02)
    faces = torch.rand(5, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        code, found, passed = srn.bottleneck(faces)
        told, read, told_passed = srn.bottleneck(faces, matrices(found))
        away, _, _ = srn.bottleneck(faces, similarities(5))
    assert found.std(0).min() > 0
    assert torch.allclose(told, code, atol=1e-5) and not torch.allclose(away, code, atol=1e-3)
    assert torch.allclose(read, found[:2], atol=1e-6)   # a quarter of the faces, and the rest of one
    assert all(torch.allclose(told_passed[number], passed[number], atol=1e-5) for number in passed)


def test_trained_apart_then_together():
    """STN1 learns aside from the first step on, STN2 from when the parts are joined."""
    torch.manual_seed(0)
    config = Config(
        losses="srn", optimizer="adam", align_weight=4.0, warm_up=False, grow_32=0.8, apart=0.5, jitter=0.1
    )
    method = build(config, Setup(steps=8))
    pairs = replace(batch(), warp=similarities(4))
    stns = [cast(SpatialTransformer, method.network.encoder[name].stn) for name in ("e2", "e3")]

    def moved() -> list[bool]:
        before = [stn.out.bias.detach().clone() for stn in stns]
        told = method.told(pairs.warp)
        assert set(method.step(pairs)) == {"pixel", "align"}
        assert (told is None) == (method.done > 4)
        return [not torch.equal(stn.out.bias, old) for stn, old in zip(stns, before)]

    first = method.told(pairs.warp)
    assert torch.equal(first, method.told(pairs.warp))   # a function of seed and step
    assert 0.02 < float((first - pairs.warp).std()) < 0.2
    assert [moved() for _ in range(4)] == [[True, False]] * 4
    assert not torch.equal(first, nearest_similarity(pairs.warp))
    assert [moved() for _ in range(4)] == [[True, True]] * 4


def test_what_is_trained_apart_is_timed_apart():
    config = Config(grow_32=0.5, grow_64=0.3, apart=0.6, align_weight=1.0)
    timed = stages(config, 100)
    assert [round(stage.share, 2) for stage in timed] == [0.5, 0.1, 0.2, 0.2]
    assert [stage.middle < 60 for stage in timed] == [True, True, False, False]


@pytest.mark.parametrize("amiss", [{"align_weight": 0.0}, {"align_weight": 4.0, "network": "srn-0stn"}])
def test_parts_are_not_trained_apart_where_nobody_tells_stn1(amiss):
    with pytest.raises(InputError, match="apart 0.5 wants an STN1 that is told"):
        Config(apart=0.5, **amiss)


def test_an_stn_starts_as_the_identity():
    x = torch.randn(2, 64, 32, 32)
    assert torch.allclose(SpatialTransformer(64, (128, 256, 20))(x), x, atol=1e-5)


def test_an_stn_turns_scales_and_shifts_in_that_order():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 1, 2] = 1   # above the middle
    quarter = transform(x, matrices(torch.tensor([[math.pi / 2, 1.0, 0.0, 0.0]])))
    assert quarter[0, 0, 2].tolist() == pytest.approx(
        [1 if c == 1 else 0 for c in range(5)], abs=1e-6
    ) or quarter[0, 0, 2, 3] == pytest.approx(1, abs=1e-6)
    half = transform(x, matrices(torch.tensor([[0.0, 0.5, 0.0, 0.0]])))
    assert half[0, 0, 0, 2] == pytest.approx(1, abs=1e-6)   # zooming in moves it outwards
    right = transform(x, matrices(torch.tensor([[0.0, 1.0, 0.5, 0.0]])))
    assert right[0, 0, 1, 1] == pytest.approx(1, abs=1e-6)   # the output looks half a side to the right


def test_an_stns_grid_is_float32_under_bfloat16():
    stn = SpatialTransformer(32, (64, 128, 256, 20))
    with torch.autocast("cpu", torch.bfloat16):
        assert stn.parameters_of(torch.randn(1, 32, 64, 64)).dtype == torch.float32
