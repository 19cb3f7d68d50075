"""Align, then restore: one network, small, whose parts do what they say."""

import pytest
import torch
from torch.nn import functional as F

from ifrp_bench.ground.errors import InputError
from ifrp_bench.methods import Pairs, Setup
from ifrp_bench.methods.align_restore import (
    METHOD, Config, Context, Network, Recovering, as_shown, build, fine, lattice, stages, standardized,
)
from ifrp_bench.nets.stn import composed, frame_maps, inverse, transform


def pairs(count: int = 4) -> Pairs:
    """Smooth faces, turned by as many known maps."""
    draws = torch.Generator().manual_seed(0)
    real = F.interpolate(torch.rand(count, 3, 8, 8, generator=draws), size=128, mode="bilinear")
    numbers = torch.rand(count, 4, generator=draws) * torch.tensor([1.0, 0.1, 0.1, 0.1]) + torch.tensor(
        [-0.5, 0.9, 0, 0]
    )
    maps = frame_maps(numbers)
    return Pairs(transform(real, maps).flip(1), real, maps)


def test_it_is_one_network_of_less_than_five_million_parameters():
    assert sum(parameter.numel() for parameter in Network().parameters()) < 5e6


def test_attention_and_context_can_be_left_out_and_nothing_else_changes_its_name():
    whole, lean = set(Network().state_dict()), set(Network(attention=False, context=False).state_dict())
    assert lean < whole
    assert all(".context." in name or name.startswith(("restorer.at_8.1.", "restorer.at_8.4."))
               for name in whole - lean)

    torch.manual_seed(0)
    method, batch = build(Config(attention=False, context=False), Setup(steps=4)), pairs()
    for _ in range(2):
        method.step(batch)
    network = method.network.eval()
    with torch.no_grad():
        assert torch.allclose(method.recover(batch.stylized), network(batch.stylized).clamp(0, 1), atol=1e-4)


def test_it_starts_from_the_upright_face():
    maps = Network(looks=2).aligner(torch.rand(2, 3, 128, 128))
    assert torch.allclose(maps, torch.eye(2, 3).expand(2, 2, -1, -1), atol=1e-6)


def test_a_further_look_sees_what_the_one_before_made_of_the_face_and_corrects_it():
    torch.manual_seed(0)
    network, batch = Network(looks=2).eval(), pairs()
    for aligner in (network.aligner, network.aligner.further):
        torch.nn.init.normal_(aligner.out.weight, std=0.5)
    first, second = network.aligner(batch.stylized)
    again = network.aligner.further(transform(batch.stylized, first))[0]
    assert torch.allclose(second, composed(first, again), atol=0.02)   # resampled at half the size there
    assert not torch.allclose(second, first, atol=0.05)

    # each is taught for itself
    second.sum().backward()
    assert not network.aligner.out.weight.grad.any() and network.aligner.further.out.weight.grad.any()


def test_palette_and_contrast_do_not_matter_to_the_aligner():
    network, faces = Network().eval(), torch.rand(2, 3, 128, 128)
    torch.nn.init.normal_(network.aligner.out.weight, std=0.1)
    shifted = 0.3 * faces + torch.tensor([0.1, 0.4, 0.6])[:, None, None]
    assert torch.allclose(network.aligner(faces), network.aligner(shifted), atol=2e-3)
    assert not torch.allclose(network.aligner(faces), network.aligner(faces.flip(3)), atol=2e-3)


def test_mean_and_contrast_are_taken_out():
    flat = standardized(torch.full((1, 3, 8, 8), 0.7))
    assert float(flat.abs().max()) < 1e-2   # nothing is divided by nothing
    faces = standardized(torch.rand(2, 3, 64, 64) * 0.2 + 0.5)
    assert torch.allclose(faces.mean((2, 3)), torch.zeros(2, 3), atol=1e-5)
    assert torch.allclose(faces.std((2, 3)), torch.ones(2, 3), atol=1e-2)


def test_a_context_starts_as_nothing_and_then_reaches_everywhere():
    context, maps = Context(8), torch.rand(1, 8, 4, 4)
    assert torch.equal(context(maps), maps)
    torch.nn.init.normal_(context.write.weight)
    other = maps.clone()
    other[0, :, 3, 3] += 5
    assert not torch.equal(context(maps)[0, :, 0, 0], context(other)[0, :, 0, 0])


def test_a_context_does_not_square_what_it_reads():
    context, maps = Context(8), torch.rand(1, 8, 4, 4)
    torch.nn.init.normal_(context.write.weight, std=10.0)
    assert float(context(1e6 * maps).detach().abs().max()) < 3e6


@pytest.mark.parametrize("looks", [1, 2])
def test_folded_for_use_it_is_the_same_function(looks):
    method = build(Config(looks=looks), Setup(steps=4))
    for _ in range(2):
        method.step(pairs())
    network = method.network.eval()
    with torch.no_grad():
        wanted = network(pairs().stylized).clamp(0, 1)
        assert torch.allclose(Recovering(network)(pairs().stylized), wanted, atol=1e-5)


def test_the_restorer_sees_stored_maps_first_and_the_networks_own_later():
    method = build(Config(own_from=0.2, own_until=0.5, jitter=0.0), Setup(steps=100))
    found, stored = torch.zeros(64, 2, 3), torch.ones(64, 2, 3)
    shares = []
    for done in (0, 20, 35, 50, 99):
        method.at(done)
        shares.append(float((method._maps(found, stored) == 0).float().mean()))
    assert shares[0] == shares[1] == 0 and 0.3 < shares[2] < 0.7 and shares[3] == shares[4] == 1


def test_what_is_drawn_is_a_function_of_seed_and_step():
    stored = torch.eye(2, 3).expand(8, -1, -1)
    one, other = (build(Config(), Setup(steps=100, seed=seed)) for seed in (0, 1))
    first = one._maps(stored, stored)
    assert torch.equal(first, one._maps(stored, stored)) and not torch.equal(
        first, other._maps(stored, stored)
    )


def test_the_learning_rate_is_warmed_up_and_falls_to_nothing():
    method = build(Config(learning_rate=1.0), Setup(steps=1000))
    rates = []
    for done in (0, 25, 50, 500, 1000):
        method.at(done)
        rates.append(method.learning_rate())
    assert rates[0] == pytest.approx(0.02) and rates[0] < rates[1] < rates[2]
    assert rates[3] == pytest.approx(0.5) and rates[4] == pytest.approx(0, abs=1e-9)


def test_it_learns_where_a_face_lies_and_what_it_is():
    config = Config(
        learning_rate=4e-3, own_from=0.0, own_until=0.1, lattice_weight=0.0, feature_weight=0.1,
        features_from=0.4,
    )
    method = build(config, Setup(steps=80))
    batch = pairs()
    first = method.step(batch)
    for _ in range(39):
        last = method.step(batch)
    assert float(last["align"]) < float(first["align"]) / 4
    assert float(last["pixel"]) < float(first["pixel"]) / 4


def test_what_is_fine_is_what_halving_does_not_see():
    coarse = F.interpolate(torch.rand(2, 3, 64, 64), scale_factor=2, mode="nearest")
    assert float(fine(coarse)) < 1e-12
    grid = torch.tensor([0.1, -0.1]).repeat(64).expand(2, 3, 128, 128)
    assert float(fine(coarse + grid)) == pytest.approx(0.01, rel=1e-4)

    # and with it a step tells of it, without it none
    assert "fine" not in build(Config(), Setup(steps=10)).step(pairs())
    assert "fine" in build(Config(fine_weight=20.0), Setup(steps=10)).step(pairs())


def test_the_lattice_is_what_repeats_every_four_pixels():
    error = torch.rand(2, 3, 32, 32).repeat_interleave(4, 2).repeat_interleave(4, 3) - 0.5
    assert float(lattice(error)) < 1e-12   # however large: every place of a block has as much of it
    for period in (2, 4):
        grid = torch.zeros(1, 3, 128, 128)
        grid[:, :, ::period] = 0.1
        wanted = pytest.approx(0.01 * (1 - 1 / period) / period, rel=1e-3)
        assert float(lattice(error + grid)) == wanted and float(lattice(error + grid, 16)) == wanted

        # one that turns over from one half of a face to the other is seen in squares alone
        grid[..., :64] *= -1
        assert float(lattice(grid)) < 1e-12 and float(lattice(grid, 16)) == wanted
    assert float(lattice(torch.rand(1, 3, 128, 128))) < 1e-3   # of what repeats by chance


def test_squares_that_do_not_tile_a_face_are_one_line():
    with pytest.raises(InputError, match="lattice_px 6: one of 4, 8, 16, 32, 64, 128"):
        Config(lattice_px=6)


def test_for_use_alone_nothing_of_a_training_is_built():
    used, trained = build(Config(), Setup(trains=False)), build(Config(), Setup())
    assert not used.optimizers and used.identity is None and trained.optimizers and trained.identity
    used.restore(trained.state())
    batch = pairs()
    assert torch.equal(used.recover(batch.stylized), trained.recover(batch.stylized))


def test_features_are_counted_from_when_they_say():
    method = build(Config(features_from=0.5), Setup(steps=10))
    method.at(4)
    assert "features" not in method.step(pairs()) and "features" in method.step(pairs())
    early, late = stages(Config(features_from=0.25), 100)
    assert (early.middle, early.share, late.middle, late.share) == (12, 0.25, 62, 0.75)
    assert len(stages(Config(feature_weight=0.0), 100)) == 1


def test_a_face_is_moved_to_where_a_map_that_is_off_shows_it():
    real, stored = pairs().real, pairs().warp
    stylized = transform(real, inverse(stored), "border")
    found = stored + torch.tensor([[0.02, -0.03, 0.08], [0.03, 0.02, -0.06]])
    undone, shown = transform(stylized, found, "border"), as_shown(real, stored, found)
    inner = (..., slice(32, -32), slice(32, -32))   # what has never left the picture
    assert float((shown - undone)[inner].abs().max()) < 0.02 < 0.2 < float((real - undone)[inner].abs().max())
    assert torch.allclose(as_shown(real, stored, stored), real, atol=1e-4)


def test_features_and_pixels_are_compared_where_the_restorer_sees_the_face():
    batch, off = pairs(), torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.0, 0.0]])

    def losses(**registered):
        method = build(Config(**registered), Setup(steps=10))
        method._maps = lambda found, stored: stored + off
        # a restorer that gives back the real face as it sees it
        method.restore_face = lambda _: as_shown(batch.real, batch.warp, batch.warp + off).requires_grad_()
        return method.step(batch)

    neither, features, both = losses(), losses(registered=True), losses(registered_pixels=True)
    assert float(features["features"]) < 1e-6 < 0.01 < float(neither["features"])
    assert features["l1"] == neither["l1"] > 0.01   # pixels are the real face's where it lies
    assert float(both["features"]) < 1e-6 and float(both["l1"]) == 0
    assert all(preset["registered"] for preset in METHOD.presets.values())


def test_parts_of_a_training_that_are_out_of_order_are_one_line():
    with pytest.raises(InputError, match="own_from 0.6 and own_until 0.5"):
        Config(own_from=0.6, own_until=0.5)
