"""The batch of each step, as a function of (seed, step) alone, from a split that is resident in memory or on
the device.

Augmentation is chosen by the loop: mirrored pairs; random colour maps of the stylized face, an option of this
project without which a network reads an unseen style's palette as the face's colours; stylizations of less
than full strength, for portraits that are closer to a photograph than any style network's; distortions
(``distortions.py``), for styles that nobody trained on; and pairs put together from two (``cutmix.py``), for
few faces.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from ifrp_bench.data.split import Split
from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.errors import InputError
from ifrp_bench.methods import Pairs
from ifrp_bench.nets.stn import inverse, transform
from ifrp_bench.training import cutmix
from ifrp_bench.training.distortions import DRAWS, distorted


def steps_per_epoch(pairs: int, batch_size: int) -> int:
    """Whole batches in so many pairs, at least one; what is left of a permutation is not used."""
    return max(1, pairs // batch_size)


def on_device(values: np.ndarray, device: torch.device) -> Tensor:
    """The values there, without waiting for what a GPU still has to do."""
    return torch.from_numpy(values).to(device, non_blocking=True)


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, rows: int) -> np.ndarray:
    return generator(seed, "epoch", epoch).permutation(rows)


@dataclass(frozen=True)
class Batches:
    """Shuffled epochs of a split.

    ``rank`` of ``world`` processes takes every ``world``-th row of each batch.
    """

    split: Split
    batch_size: int
    seed: int
    mirror: bool = False
    colour_maps: float = 0.0
    rank: int = 0
    world: int = 1
    strengths: float = 0.0
    distort: float = 0.0
    cutmix: float = 0.0

    @property
    def steps_per_epoch(self) -> int:
        """Steps that see every pair at most once."""
        return steps_per_epoch(len(self.split), self.batch_size)

    def at(self, step: int) -> Pairs:
        """The batch of a step."""
        # everything that is drawn is a function of seed and step, drawn for the whole batch and then shared
        # by the processes
        pairs = self._put_together(step) if self.cutmix else self._pairs(self.rows(step))
        draws = generator(self.seed, "augmentation", step)
        stylized, real, warp = pairs.stylized, pairs.real, pairs.warp

        # both faces of a pair are mirrored, and so is how the one was misaligned
        if self.mirror:
            mirrored = on_device(self._mine(draws.random(self._size) < 0.5), stylized.device)
            stylized, real = _mirror(stylized, mirrored), _mirror(real, mirrored)
            warp = _mirror_warp(warp, mirrored)

        # some stylizations are weaker than others, down to none
        if self.strengths:
            chosen, amounts = draws.random((2, self._size))
            amounts = np.where(chosen < self.strengths, amounts, 0.0).astype(np.float32)
            stylized = _weaker(stylized, real, warp, self._mine(amounts))

        # only the stylized face changes its colours: what the real one looks like must not follow from a
        # palette
        if self.colour_maps:
            maps = draw_colour_maps(self._size, self.colour_maps, draws)
            stylized = _map_colours(stylized, self._mine(maps))

        # and, apart from that, how strong its structure is and how light its tones are
        if self.distort:
            drawn = draws.random((self._size, DRAWS), dtype=np.float32)
            stylized = distorted(stylized, self.distort, on_device(self._mine(drawn), stylized.device))
        return Pairs(stylized, real, warp)

    def _put_together(self, step: int) -> Pairs:
        """The pairs of a step, a part of them continued by another one of the batch in the same style."""
        rows = self._rows(step)
        draws = generator(self.seed, "cutmix", step)
        others = rows[cutmix.partners(self._styles(rows), draws)]
        drawn = draws.random((self._size, cutmix.DRAWS), dtype=np.float32)
        pairs, continued = self._pairs(self._mine(rows)), self._pairs(self._mine(others))
        return cutmix.put_together(
            pairs, continued, self.cutmix, on_device(self._mine(drawn), pairs.real.device)
        )

    def _pairs(self, rows: np.ndarray) -> Pairs:
        return self.split.pairs(on_device(rows, self.split.stylized.device))

    def _styles(self, rows: np.ndarray) -> np.ndarray:
        """Of the SFs of ``_pairs``."""
        return self.split.style[rows]

    def rows(self, step: int) -> np.ndarray:
        """The rows of this process's part of a step's batch."""
        return self._mine(self._rows(step))

    def _rows(self, step: int) -> np.ndarray:
        # an epoch is a permutation; what is left of it after whole batches is not used
        epoch, number = divmod(step, self.steps_per_epoch)
        order = _order(self.seed, epoch, len(self.split))
        return order[number * self._size:(number + 1) * self._size]

    @property
    def _size(self) -> int:
        size = min(self.batch_size, len(self.split))
        return size - size % self.world   # equal parts

    def _mine(self, values: np.ndarray) -> np.ndarray:
        return values[self.rank::self.world].copy()


class Unpaired(Batches):
    """Batches in which nobody is both stylized and real: SFs of one half of the people, RFs of the other."""

    @cached_property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows whose SFs are shown, and the rows whose RFs are."""
        # people are halved, not pictures
        people = np.unique(self.split.identity)
        if len(people) < 2:
            raise InputError(
                f"unpaired training wants at least two people, the training split has {len(people)}"
            )

        # a draw of its own, so that a seed's halves stay the same whatever else is drawn
        first = generator(self.seed, "unpaired").permutation(people)[:len(people) // 2]
        shown = np.isin(self.split.identity, first)
        return np.flatnonzero(shown), np.flatnonzero(~shown)

    def _pairs(self, rows: np.ndarray) -> Pairs:
        """Row numbers of the whole split, folded into each half."""
        stylized, real = (on_device(_folded(rows, half), self.split.stylized.device) for half in self.halves)
        # a pair of two people: what is known of the misalignment is that of the SF
        of_stylized, of_real = self.split.pairs(stylized), self.split.pairs(real)
        return Pairs(of_stylized.stylized, of_real.real, of_stylized.warp)

    def _styles(self, rows: np.ndarray) -> np.ndarray:
        return self.split.style[_folded(rows, self.halves[0])]


def _folded(rows: np.ndarray, half: np.ndarray) -> np.ndarray:
    return half[rows % len(half)]   # type: ignore[no-any-return]


def draw_colour_maps(count: int, share: float, draws: np.random.Generator) -> np.ndarray:
    """float32 (count, 3, 4): affine maps of RGB; the identity but for ``share`` of them.

    A map turns the hue by any angle, scales saturation (0 to 1.5) and contrast (0.6 to 1.4) around mid-grey,
    and moves the brightness (within 0.15).
    """
    # drawn for every face, so that a share changes no other map
    angle, saturation, contrast, brightness, chosen = draws.random((count, 5)).T
    linear = (0.6 + 0.8 * contrast)[:, None, None] * hue_and_saturation(2 * math.pi * angle, 1.5 * saturation)
    # around mid-grey: its own brightness is what the last draw moves
    offset = 0.5 - linear.sum(2) / 2 + 0.3 * (brightness - 0.5)[:, None]
    mapped = np.concatenate([linear, offset[:, :, None]], 2)   # (count, 3, 4)
    return np.where((chosen < share)[:, None, None], mapped, np.eye(3, 4)).astype(np.float32)


def hue_and_saturation(angle: np.ndarray | float, saturation: np.ndarray | float) -> np.ndarray:
    """(..., 3, 3): turns colours around the grey axis by ``angle`` in radians and scales their distance from
    it.

    Greys stay.
    """
    # Rodrigues' formula about the axis of equal red, green and blue
    grey = np.full((3, 3), 1 / 3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turned = saturation * np.cos(angle), saturation * np.sin(angle)
    along, across = (np.asarray(part)[..., None, None] for part in turned)
    return grey + along * (np.eye(3) - grey) + across * cross   # type: ignore[no-any-return]


def _map_colours(faces: Tensor, maps: np.ndarray) -> Tensor:
    device_maps = on_device(maps, faces.device)
    n, _, h, w = faces.shape
    flat = faces.permute(0, 2, 3, 1).reshape(n, h * w, 3)   # a view of channels_last faces
    mapped = torch.baddbmm(device_maps[:, None, :, 3], flat, device_maps[:, :, :3].transpose(1, 2)).clamp_(
        0, 1
    )
    return mapped.reshape(n, h, w, 3).permute(0, 3, 1, 2)


def _weaker(stylized: Tensor, real: Tensor, warp: Tensor, amounts: np.ndarray) -> Tensor:
    """SFs mixed with their photographs, misaligned as they are, by amounts of 0 (none of it) to 1 (N,).

    Where the photograph does not reach, the SF stays.
    """
    amount = on_device(amounts, stylized.device)[:, None, None, None]
    # in SF coordinates what was in those of the RF
    layer = transform(torch.cat([real, torch.ones_like(real[:, :1])], 1), inverse(warp))
    mixed = stylized * (1 - amount * layer[:, 3:]) + amount * layer[:, :3]
    return mixed.contiguous(memory_format=torch.channels_last)


def _mirror(faces: Tensor, mirrored: Tensor) -> Tensor:
    return torch.where(mirrored[:, None, None, None], faces.flip(3), faces)


def _mirror_warp(warp: Tensor, mirrored: Tensor) -> Tensor:
    # of F W F with F = diag(-1, 1)
    signs = on_device(np.array([[1, -1, -1], [-1, 1, 1]], np.float32), warp.device)
    return torch.where(mirrored[:, None, None], warp * signs, warp)
