"""Batches are functions of (seed, step); augmentation keeps pairs pairs."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ifrp_bench.data.format import ShardError, open_dataset
from ifrp_bench.data.split import load_split
from ifrp_bench.methods import Pairs
from ifrp_bench.nets.stn import IDENTITY, frame_maps, inverse, transform
from ifrp_bench.training import cutmix
from ifrp_bench.training.batches import Batches, Unpaired, draw_colour_maps, hue_and_saturation
from ifrp_bench.training.cutmix import DRAWS as CUTMIX_DRAWS, partners, put_together
from ifrp_bench.training.distortions import COMMON_GAMMA, GAINS, WAVE, with_gains, with_tones


@pytest.fixture(scope="module")
def split(tiny):
    return load_split(open_dataset(tiny), "train", "cpu")


def test_an_epoch_has_every_pair_once_and_the_next_another_order(split):
    batches = Batches(split, 6, 0)
    epochs = [np.concatenate([batches.rows(step) for step in range(3 * e, 3 * e + 3)]) for e in range(2)]
    for rows in epochs:
        assert sorted(rows) == list(range(18))
    assert list(epochs[0]) != list(epochs[1])


def test_batches_depend_on_seed_and_step_alone(split):
    one, other = Batches(split, 6, 5, True, 0.5), Batches(split, 6, 5, True, 0.5)
    for _ in range(4):
        other.at(1)
    assert torch.equal(one.at(2).stylized, other.at(2).stylized)
    assert not torch.equal(one.at(2).stylized, Batches(split, 6, 6, True, 0.5).at(2).stylized)


def test_processes_share_a_batch_without_overlap(split):
    whole = Batches(split, 6, 0, True, 0.5).at(1)
    parts = [Batches(split, 6, 0, True, 0.5, rank, 2).at(1) for rank in range(2)]
    assert torch.equal(torch.stack([part.stylized for part in parts], 1).flatten(0, 1), whole.stylized)
    assert torch.equal(torch.stack([part.warp for part in parts], 1).flatten(0, 1), whole.warp)


def test_a_batch_larger_than_the_split_is_the_split(split):
    assert len(Batches(split, 64, 0).at(7).real) == 18


def test_the_stored_warp_brings_a_stylized_face_upright_mirrored_or_not(split):
    """Upright, stylized faces differ less from their real faces than
    as they are: for plain and for mirrored pairs.
    """
    for mirror in (False, True):
        pairs = Batches(split, 18, 0, mirror).at(0)
        grid = F.affine_grid(pairs.warp, [18, 3, 128, 128], align_corners=True)
        upright = F.grid_sample(pairs.stylized, grid, align_corners=True)

        def edges(faces):
            return F.avg_pool2d(faces.mean(1, keepdim=True), 4).diff(dim=3)[:, :, 8:24, 8:24].flatten(1)

        gain = F.cosine_similarity(edges(upright), edges(pairs.real)) - F.cosine_similarity(
            edges(pairs.stylized), edges(pairs.real)
        )
        assert float(gain.mean()) > 0.1


def test_mirroring_mirrors_both_faces_of_a_pair(split):
    plain, mirrored = Batches(split, 18, 0).at(0), Batches(split, 18, 0, True).at(0)
    turned = [not torch.equal(a, b) for a, b in zip(plain.stylized, mirrored.stylized)]
    assert 3 < sum(turned) < 15
    for number, was in enumerate(turned):
        assert torch.equal(mirrored.real[number], plain.real[number].flip(2) if was else plain.real[number])
        assert torch.equal(
            mirrored.stylized[number], plain.stylized[number].flip(2) if was else plain.stylized[number]
        )


def test_weaker_stylizations_lie_between_the_stylized_face_and_its_photograph(split):
    plain, weaker = Batches(split, 18, 0).at(0), Batches(split, 18, 0, strengths=0.5).at(0)
    apart = (weaker.stylized - plain.stylized).abs().amax((1, 2, 3))
    unchanged = apart == 0
    assert 2 < int(unchanged.sum()) < 16 and torch.equal(plain.real, weaker.real)

    # upright, where the photograph reaches, every one of them is nearer to the real face
    def upright(pairs):
        return transform(pairs.stylized, pairs.warp)[:, :, 24:104, 24:104]

    real = plain.real[:, :, 24:104, 24:104]
    far, near = ((upright(pairs) - real).abs().mean((1, 2, 3)) for pairs in (plain, weaker))
    assert bool((near[~unchanged] < far[~unchanged]).all())
    assert float((near / far)[~unchanged].min()) < 0.5


def test_colour_maps_leave_real_faces_and_the_given_share_alone(split):
    plain, mapped = Batches(split, 18, 0).at(0), Batches(split, 18, 0, colour_maps=0.5).at(0)
    assert torch.equal(plain.real, mapped.real)
    changed = sum(not torch.equal(a, b) for a, b in zip(plain.stylized, mapped.stylized))
    assert 3 < changed < 15
    assert 0 <= float(mapped.stylized.min()) and float(mapped.stylized.max()) <= 1


def test_distortions_leave_real_faces_and_the_given_share_alone(split):
    plain, distorted = Batches(split, 18, 0).at(0), Batches(split, 18, 0, distort=0.3).at(0)
    assert torch.equal(plain.real, distorted.real) and torch.equal(plain.warp, distorted.warp)
    apart = (distorted.stylized - plain.stylized).abs().amax((1, 2, 3))
    assert 3 < int((apart > 1e-5).sum()) < 16
    assert 0 <= float(distorted.stylized.min()) and float(distorted.stylized.max()) <= 1

    # processes share them, and other settings draw as they did without
    halves = [Batches(split, 18, 0, rank=rank, world=2, distort=0.3).at(0).stylized for rank in range(2)]
    assert torch.allclose(torch.stack(halves, 1).flatten(0, 1), distorted.stylized, atol=1e-6)
    coloured = [Batches(split, 18, 0, colour_maps=0.5, distort=share).at(0) for share in (0.0, 1e-9)]
    assert torch.equal(coloured[0].stylized, coloured[1].stylized)


def test_gains_of_one_leave_a_face_and_of_fine_structure_alone_its_coarse(split):
    face = split.pairs(torch.arange(4)).real * 0.5 + 0.25   # nothing leaves [0, 1]
    least, most = np.log(GAINS).T
    ones = torch.from_numpy(-least / (most - least)).float().expand(4, -1)
    assert torch.allclose(with_gains(face, ones), face, atol=1e-5)

    weaker = ones.clone()
    weaker[:, -1] = 0   # the finest band, by its least gain
    softened = with_gains(face, weaker)
    coarse = [F.avg_pool2d(faces, 8) for faces in (face, softened)]
    assert float((coarse[0] - coarse[1]).abs().mean()) < 0.001
    fine = [faces - F.interpolate(F.avg_pool2d(faces, 2), 128) for faces in (face, softened)]
    assert float(fine[1].square().mean()) < 0.7 * float(fine[0].square().mean())


def test_tones_in_the_middle_of_their_draws_are_those_that_were_and_others_keep_no_order():
    ramp = torch.linspace(0, 1, 128).expand(2, 3, 128, 128)
    middle = torch.full((2, 4), 0.5)
    assert torch.allclose(with_tones(ramp, middle, middle), ramp, atol=2e-4)
    darker = with_tones(ramp, torch.tensor([[1.0, 0.5, 0.5, 0.5]]).expand(2, -1), middle)
    assert torch.allclose(darker, ramp ** math.exp(COMMON_GAMMA), atol=1e-3)
    waved = with_tones(ramp, middle, torch.tensor([[1.0, 1.0, 1.0, 0.99]]).expand(2, -1))
    assert float(waved[0, 0, 0].diff().min()) < 0 and float((waved - ramp).abs().max()) <= WAVE + 1e-4


def test_a_hue_turned_by_120_degrees_permutes_colours_and_greys_stay():
    third = hue_and_saturation(2 * np.pi / 3, 1.0)
    assert np.allclose(third @ [1, 0, 0], [0, 1, 0])
    assert np.allclose(hue_and_saturation(1.0, 0.3) @ [0.4, 0.4, 0.4], 0.4)
    assert np.allclose(hue_and_saturation(1.0, 0.0) @ [0.9, 0.3, 0.0], 0.4)
    maps = draw_colour_maps(100, 1.0, np.random.default_rng(0))
    # mid-grey moves by the brightness alone
    assert np.abs(maps[:, :, :3].sum(2) * 0.5 + maps[:, :, 3] - 0.5).max() < 0.151


def test_the_mean_face_is_the_mean_of_the_real_faces(split):
    assert abs(split.mean_face.float().mean() - split.real.float().mean()) < 0.5
    assert split.mean_face.shape == (128, 128, 3)


def test_a_changed_shard_is_refused(tiny, tmp_path):
    import shutil

    shutil.copytree(tiny, tmp_path / "data")
    path = next((tmp_path / "data").glob("train-*.h5"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match="sha256 differs"):
        load_split(open_dataset(tmp_path / "data"), "train", "cpu")


def test_the_other_one_is_of_the_same_style(split):
    styles = np.array(["candy", "udnie", "candy", "mosaic", "udnie", "candy"])
    other = partners(styles, np.random.default_rng(0))
    assert list(styles[other]) == list(styles) and sorted(other) == list(range(6))
    assert [int(at) for at in np.flatnonzero(other == np.arange(6))] == [3]   # mosaic has no other


def test_both_faces_of_a_pair_are_continued_beyond_the_same_line():
    """Smooth faces, "stylized" by moving them alone: brought upright, the SF put together is the RF put
    together, whichever way the two of them lay.
    """
    draws = torch.Generator().manual_seed(3)
    faces = F.interpolate(torch.rand(16, 3, 6, 6, generator=draws), (128, 128), mode="bicubic").clamp(0, 1)
    moves = torch.rand(16, 4, generator=draws) * torch.tensor([0.6, 0.2, 0.1, 0.1])
    warp = frame_maps(torch.tensor(IDENTITY) + moves - moves.mean(0))
    one, other = (
        Pairs(transform(part, inverse(maps)), part, maps) for part, maps in zip(faces.split(8), warp.split(8))
    )
    made = put_together(one, other, 1.0, torch.rand(8, CUTMIX_DRAWS, generator=draws))
    assert torch.equal(made.warp, one.warp)

    # in the middle, which lies inside of all of them
    middle = (slice(None), slice(None), slice(40, 88), slice(40, 88))
    upright = transform(made.stylized, made.warp)
    assert float((upright - made.real)[middle].abs().max()) < 0.02
    for face in (one.real, other.real):
        assert float((made.real - face)[middle].abs().max()) > 0.2

    # of the one face here, of the other there, and somewhere in between
    kept = (made.real - other.real) / (one.real - other.real)
    kept = kept[(one.real - other.real).abs() > 0.2]
    assert -1e-3 < float(kept.min()) < 0.01 and 0.99 < float(kept.max()) < 1.001


def test_a_given_share_is_put_together_and_processes_share_it(split):
    plain, made = (Batches(split, 18, 0, mirror=True, cutmix=share).at(0) for share in (0.0, 0.5))
    changed = (plain.real != made.real).flatten(1).any(1)
    assert 3 < int(changed.sum()) < 15
    assert torch.equal(changed, (plain.stylized - made.stylized).abs().amax((1, 2, 3)) > 1e-5)
    assert torch.equal(plain.warp, made.warp)

    halves = [Batches(split, 18, 0, mirror=True, rank=rank, world=2, cutmix=0.5).at(0) for rank in range(2)]
    assert torch.equal(torch.stack([half.real for half in halves], 1).flatten(0, 1), made.real)
    stylized = torch.stack([half.stylized for half in halves], 1).flatten(0, 1)
    assert torch.allclose(stylized, made.stylized, atol=1e-6)


def test_unpaired_faces_are_put_together_in_the_style_that_they_have(split, monkeypatch):
    asked = []
    monkeypatch.setattr(
        cutmix, "partners", lambda styles, draws: asked.extend(styles) or partners(styles, draws)
    )
    batches = Unpaired(split, 18, 0, cutmix=1.0)
    shown, _ = batches.halves
    made = batches.at(0)
    assert asked == list(split.style[shown[batches.rows(0) % len(shown)]])
    assert not torch.equal(made.real, Unpaired(split, 18, 0).at(0).real)
