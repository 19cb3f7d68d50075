"""The drawing with the face masked out, hair and outline left: how far a recogniser gets without a face.

A difficulty row where drawings are judged: artists draw hair and outline faithfully, and a method that
scores no higher has brought back no more than these.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ifrp_bench.ground.warp import FACE_PX
from ifrp_bench.methods import Fixed, Method, Setup

# of the upright window, in parts of its size: from above the brows to the chin, from cheek to cheek
CENTRE = (0.5, 0.6)   # x, y
HALF_AXES = (0.36, 0.37)
GREY = 0.5


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


def build(config: Config, setup: Setup) -> Fixed:
    """The method."""
    return Fixed(masked)


def masked(stylized: Tensor) -> Tensor:
    """Faces (N, 3, H, W) with an ellipse of grey where an upright face lies."""
    return torch.where(face_mask(stylized.device), GREY, stylized)


def face_mask(device: torch.device | str = "cpu") -> Tensor:
    """Where an upright face lies in the window, bool (H, W)."""
    places = (torch.arange(FACE_PX, device=device) + 0.5) / FACE_PX
    across = (places[None] - CENTRE[0]) / HALF_AXES[0]
    down = (places[:, None] - CENTRE[1]) / HALF_AXES[1]
    return across**2 + down**2 <= 1


METHOD = Method(
    Config, build,
    use="fixed",
    headline="oracle",
    of_sketches=True,
    notes=lambda config: ("the mask lies where an upright face does, so the condition oracle says most",),
)
