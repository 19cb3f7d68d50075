"""PSNR against scikit-image, value by value."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from ifrp_bench.metrics.psnr import psnr_db


def test_it_equals_scikit_image_face_by_face():
    draws = np.random.default_rng(0)
    real = draws.integers(0, 256, (8, 128, 128, 3), dtype=np.uint8)
    recovered = np.clip(real + draws.integers(-30, 31, real.shape), 0, 255).astype(np.uint8)
    wanted = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(real, recovered)]
    assert psnr_db(torch.from_numpy(recovered), torch.from_numpy(real)).tolist() == pytest.approx(
        wanted, abs=1e-9
    )


def test_equal_faces_have_infinite_psnr():
    faces = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    assert psnr_db(faces, faces).tolist() == [float("inf")] * 2


def test_black_against_white_is_0_db():
    assert psnr_db(
        torch.zeros(1, 128, 128, 3, dtype=torch.uint8), torch.full((1, 128, 128, 3), 255, dtype=torch.uint8)
    ).tolist() == [0.0]
