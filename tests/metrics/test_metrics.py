"""SSIM against scikit-image; retrieval on embeddings whose answers are known."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from ifrp_bench.ground.ranks import match_characteristic, rank_queries, verification_rate
from ifrp_bench.ground.warp import Misalignment, face_window
from ifrp_bench.metrics.residual import residual
from ifrp_bench.metrics.ssim import ssim, ssim_rgb

SETTINGS = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """64 pairs of small pictures: smooth, noisy, flat, equal."""
    draws = np.random.default_rng(0)
    real = draws.integers(0, 256, (64, 40, 36, 3)).astype(np.float64)
    for number in range(0, 64, 2):   # smooth ones
        ramp = np.add.outer(np.arange(40) * draws.uniform(-3, 3), np.arange(36) * draws.uniform(-3, 3))
        real[number] = 128 + ramp[:, :, None] * draws.uniform(0, 1, 3)
    real[5] = 255
    recovered = real + draws.normal(0, 20, real.shape)
    recovered[7] = real[7]
    return tuple(np.clip(np.rint(faces), 0, 255).astype(np.uint8) for faces in (recovered, real))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-6), (torch.float32, 2e-5)])
def test_ssim_equals_scikit_image(pairs, dtype, tolerance):
    recovered, real = pairs
    luma = [faces @ np.array([0.299, 0.587, 0.114]) for faces in pairs]
    wanted = [structural_similarity(x, y, **SETTINGS) for x, y in zip(*luma)]
    assert ssim(torch.from_numpy(recovered), torch.from_numpy(real), dtype).tolist() == pytest.approx(
        wanted, abs=tolerance
    )
    wanted = [structural_similarity(x, y, channel_axis=2, **SETTINGS) for x, y in zip(recovered, real)]
    assert ssim_rgb(torch.from_numpy(recovered), torch.from_numpy(real), dtype).tolist() == pytest.approx(
        wanted, abs=tolerance
    )


def test_ssim_does_not_depend_on_batch_or_order(pairs):
    recovered, real = (torch.from_numpy(faces) for faces in pairs)
    whole = ssim(recovered, real)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ssim(recovered[order], real[order]), whole[order])
    assert torch.allclose(
        torch.cat([ssim(recovered[i : i + 1], real[i : i + 1]) for i in range(64)]), whole, atol=1e-12
    )


def test_equal_faces_have_an_ssim_of_one(pairs):
    real = torch.from_numpy(pairs[1])
    assert torch.allclose(ssim(real, real), torch.ones(64, dtype=torch.double))


def unit(rows: list) -> np.ndarray:
    rows = np.array(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_ranks_by_hand():
    gallery = unit([[1, 0], [0, 1], [-1, 0], [1, 1]])
    found = rank_queries(unit([[1, 0.1], [0.1, 1], [0.2, 1]]), gallery, np.array([0, 0, 1]))
    assert found.rank.tolist() == [1, 3, 1] and found.ties == 0
    assert found.cosine[0] == pytest.approx(1 / np.hypot(1, 0.1))


def test_ties_are_broken_by_index_and_counted():
    gallery = unit([[1, 0], [1, 0], [0, 1]])
    found = rank_queries(unit([[1, 0], [1, 0]]), gallery, np.array([1, 0]))
    assert found.rank.tolist() == [2, 1] and found.ties == 2


def test_equal_faces_are_all_found_and_random_ones_by_chance():
    draws = np.random.default_rng(0)
    gallery = unit(draws.normal(size=(1000, 32)))
    assert rank_queries(gallery, gallery, np.arange(1000)).hit.all()
    hits = rank_queries(unit(draws.normal(size=(20_000, 32))), gallery, np.arange(20_000) % 1000).hit
    assert abs(hits.mean() - 0.005) < 4 * np.sqrt(0.005 * 0.995 / 20_000)


def test_the_answer_does_not_depend_on_the_chunk(monkeypatch):
    import ifrp_bench.ground.ranks as retrieval

    draws = np.random.default_rng(0)
    queries, gallery = unit(draws.normal(size=(50, 16))), unit(draws.normal(size=(40, 16)))
    ranks = []
    for chunk in (1, 7, 64):
        monkeypatch.setattr(retrieval, "CHUNK", chunk)
        ranks.append(rank_queries(queries, gallery, np.arange(50) % 40).rank.tolist())
    assert ranks[0] == ranks[1] == ranks[2]


def test_cmc_and_verification_by_hand():
    assert match_characteristic(np.array([1, 2, 2, 7]), 3).tolist() == [0.25, 0.75, 0.75]
    impostor = np.arange(1000) / 1000
    rate, threshold = verification_rate(np.array([0.9995, 0.999, 0.5]), impostor)
    assert threshold == 0.998 and rate == pytest.approx(2 / 3)   # one impostor of a thousand is above it


@pytest.mark.parametrize("angle", [-40.0, -12.0, -1.0, 0.0, 5.0, 25.0, 44.0])
def test_the_residual_of_a_known_misalignment_is_found(frames, angle):
    real = face_window(frames[0])
    known = Misalignment(angle, 0.92, 0.03, -0.02)
    found = residual(face_window(frames[0], known), real)
    assert abs(found.angle_deg - angle) < 0.3 and abs(found.scale - 0.92) < 0.01
    assert abs(found.shift_px - np.hypot(0.03 * 107, 0.02 * 133)) < 0.5


def test_where_two_pictures_have_nothing_in_common_no_residual_is_found(frames):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    flat = np.full((128, 128, 3), 128, np.uint8)
    assert np.isnan(residual(noise, face_window(frames[0])).angle_deg) and np.isnan(
        residual(flat, face_window(frames[0])).angle_deg
    )
