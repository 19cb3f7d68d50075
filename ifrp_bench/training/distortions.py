"""Stylized faces as no style of the training has them: an option of this project for styles that nobody
trained on.

A network that saw three styles trusts what those three agree on: how much darker a cheek is than a forehead,
how strong an edge. Another style does not keep to it. So a part of the faces has its structure made stronger
or weaker, coarse and fine apart, and a part has other tones; what is left to go by is what most styles keep.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

STEPS_PX = (16, 4, 2)   # what separates the bands: means over so many pixels, coarse to fine
GAINS = ((0.25, 1.4), (0.5, 1.6), (0.5, 2.0), (0.3, 2.0))   # of each band, least and most
COMMON_GAMMA, OWN_GAMMA = 0.7, 0.35   # logarithms, at most: of all channels, and of each in addition
WAVE = 0.12   # at most, that a wave along the tones adds
WAVES = 3   # halves of it from black to white, at most
# uniform numbers that a face takes: whether each kind is done, gains, gammas, waves
DRAWS = 2 + len(GAINS) + 4 + 4


def distorted(stylized: Tensor, share: float, draws: Tensor) -> Tensor:
    """SFs (N, 3, H, W) in [0, 1], each with its bands changed with the probability ``share``, and with its
    tones changed with the same; ``draws`` is float32 (N, DRAWS), uniform in [0, 1).
    """
    done, gains, gammas, waves = draws.split((2, len(GAINS), 4, 4), 1)
    done = done < share
    stylized = torch.where(done[:, :1, None, None], with_gains(stylized, gains), stylized)
    stylized = torch.where(done[:, 1:, None, None], with_tones(stylized, gammas, waves), stylized)
    return stylized.contiguous(memory_format=torch.channels_last)


def with_gains(faces: Tensor, draws: Tensor) -> Tensor:
    """Faces (N, 3, H, W) with each band of their structure times a gain of its own; means stay, but for what
    leaves [0, 1]. ``draws`` is (N, 4).
    """
    least, most = faces.new_tensor(GAINS).log().T
    gains = torch.exp(least + (most - least) * draws)   # (N, 4)
    mean = faces.mean((2, 3), keepdim=True)
    levels = [mean, *(_smoothed(faces, step) for step in STEPS_PX), faces]
    changed = mean
    for band, (coarse, fine) in enumerate(zip(levels, levels[1:])):
        changed = changed + gains[:, band, None, None, None] * (fine - coarse)
    return changed.clamp(0, 1)


def with_tones(faces: Tensor, gammas: Tensor, waves: Tensor) -> Tensor:
    """Faces (N, 3, H, W) through a curve of each channel: a power, and a wave around it that may make dark
    what was light. ``gammas`` are (N, 4) draws, for all channels and for each, ``waves`` (N, 4) for each
    channel's height and for how many.
    """
    common, own = gammas.split((1, 3), 1)
    gamma = torch.exp(COMMON_GAMMA * (2 * common - 1) + OWN_GAMMA * (2 * own - 1))[:, :, None, None]
    height, number = waves.split((3, 1), 1)
    heights = WAVE * (2 * height - 1)[:, :, None, None]
    halves = (1 + torch.floor(WAVES * number))[:, :, None, None]
    powers = faces.clamp_min(1e-4) ** gamma
    return (powers + heights * torch.sin(math.pi * halves * powers)).clamp(0, 1)


def _smoothed(faces: Tensor, step_px: int) -> Tensor:
    """Means over squares, and smoothly between them."""
    means = F.avg_pool2d(faces, step_px)
    return F.interpolate(means, faces.shape[2:], mode="bilinear", align_corners=False)
