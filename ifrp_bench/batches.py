"""Pairs of a split resident in memory or on the device as uint8, and the batch of each step as a function of (seed, step) alone.

Augmentation is chosen by the loop: mirrored pairs, and random colour maps of the stylized face, an option of this project without which a
network reads an unseen style's palette as the face's colours.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from ifrp_bench.draws import generator
from ifrp_bench.errors import InputError
from ifrp_bench.images import as_faces
from ifrp_bench.methods import Pairs
from ifrp_bench.shards import Dataset, Shard, ShardError, read_shard
from ifrp_bench.warp import undo_warp
from ifrp_bench.workers import on_threads


@dataclass(frozen=True)
class Split:
    """All pairs of a split on ``device``: ``stylized`` uint8 (n, H, W, 3), ``real`` uint8 (m, H, W, 3), ``real_index`` int64 (n,),
    ``warp`` float32 (n, 2, 3) as in ``Pairs``; names as arrays."""

    stylized: Tensor
    real: Tensor
    real_index: Tensor
    warp: Tensor
    style: np.ndarray
    identity: np.ndarray

    def __len__(self) -> int:
        return len(self.stylized)

    def pairs(self, rows: Tensor) -> Pairs:
        """The rows as faces, gathered and converted on the device."""
        index = self.real_index[rows]
        return Pairs(as_faces(self.stylized[rows]), as_faces(self.real[index]), self.warp[rows])

    def first(self, rows: int) -> "Split":
        """The first rows alone."""
        return replace(
            self, stylized=self.stylized[:rows], real_index=self.real_index[:rows], warp=self.warp[:rows], style=self.style[:rows],
            identity=self.identity[:rows],
        )

    @cached_property
    def mean_face(self) -> Tensor:
        """The mean real face, uint8 (H, W, 3): the first thing that a network learns, and what it must leave behind."""
        total = sum(part.double().sum(0) for part in self.real.split(256))
        return (total / len(self.real)).round().byte()   # type: ignore[union-attr]


def load_split(data: Dataset, split: str, device: str, *, aligned: bool = False) -> Split:
    """Every shard of a split, hashes checked; with ``aligned`` SFs are brought upright with their stored warps. Raises ShardError for a split without pairs."""
    shards = [read_shard(path, sha256=data.info["shards"][path.name]["sha256"]) for path in data.shards(split)]
    if aligned:
        shards = on_threads(_upright, shards)
    if not shards:
        raise ShardError(f"{data.root}: the split {split!r} has no pairs; make it with `ifrp-bench synth --set {split}_faces=N`")
    starts = np.cumsum([0, *(len(shard.real) for shard in shards)])
    return Split(
        torch.from_numpy(np.concatenate([shard.stylized for shard in shards])).to(device),
        torch.from_numpy(np.concatenate([shard.real for shard in shards])).to(device),
        torch.from_numpy(np.concatenate([shard.real_index + start for shard, start in zip(shards, starts)]).astype(np.int64)).to(device),
        normalized(torch.from_numpy(np.concatenate([shard.warp for shard in shards])), shards[0].real.shape[1]).to(device),
        np.concatenate([shard.style for shard in shards]).astype(str), np.concatenate([shard.identity for shard in shards]),
    )


def _upright(shard: Shard) -> Shard:
    upright = np.stack([undo_warp(face, warp) for face, warp in zip(shard.stylized, shard.warp)])
    return replace(shard, stylized=upright, warp=np.broadcast_to(np.eye(2, 3, dtype=np.float32), shard.warp.shape))


def normalized(warp: Tensor, size_px: int) -> Tensor:
    """(N, 2, 3) maps of pixel coordinates to maps of coordinates in [-1, 1] from the first pixel's centre to the last's."""
    half = (size_px - 1) / 2
    linear, shift = warp[:, :, :2], warp[:, :, 2]
    return torch.cat([linear, (linear.sum(2) + shift / half - 1)[:, :, None]], 2)


def steps_per_epoch(pairs: int, batch_size: int) -> int:
    """Whole batches in so many pairs, at least one; what is left of a permutation is not used."""
    return max(1, pairs // batch_size)


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, rows: int) -> np.ndarray:
    return generator(seed, "epoch", epoch).permutation(rows)


@dataclass(frozen=True)
class Batches:
    """Shuffled epochs of a split. ``rank`` of ``world`` processes takes every ``world``-th row of each batch."""

    split: Split
    batch_size: int
    seed: int
    mirror: bool = False
    colour_maps: float = 0.0
    rank: int = 0
    world: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Steps that see every pair at most once."""
        return steps_per_epoch(len(self.split), self.batch_size)

    def at(self, step: int) -> Pairs:
        """The batch of a step."""
        pairs = self._pairs(self.rows(step))
        draws = generator(self.seed, "augmentation", step)
        stylized, real, warp = pairs.stylized, pairs.real, pairs.warp
        if self.mirror:
            mirrored = torch.from_numpy(self._mine(draws.random(self._size) < 0.5)).to(stylized.device)
            stylized, real, warp = _mirror(stylized, mirrored), _mirror(real, mirrored), _mirror_warp(warp, mirrored)
        if self.colour_maps:
            stylized = _map_colours(stylized, self._mine(draw_colour_maps(self._size, self.colour_maps, draws)))
        return Pairs(stylized, real, warp)

    def _pairs(self, rows: np.ndarray) -> Pairs:
        return self.split.pairs(torch.from_numpy(rows).to(self.split.stylized.device))

    def rows(self, step: int) -> np.ndarray:
        """The rows of this process's part of a step's batch."""
        epoch, number = divmod(step, self.steps_per_epoch)
        order = _order(self.seed, epoch, len(self.split))
        return self._mine(order[number * self._size:(number + 1) * self._size])

    @property
    def _size(self) -> int:
        size = min(self.batch_size, len(self.split))
        return size - size % self.world   # equal parts

    def _mine(self, values: np.ndarray) -> np.ndarray:
        return values[self.rank::self.world].copy()


class Unpaired(Batches):
    """Batches in which nobody is both stylized and real: SFs of one half of the people, RFs of the other half."""

    @cached_property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows whose SFs are shown, and the rows whose RFs are."""
        people = np.unique(self.split.identity)
        if len(people) < 2:
            raise InputError(f"unpaired training wants at least two people, the training split has {len(people)}")
        first = generator(self.seed, "unpaired").permutation(people)[:len(people) // 2]
        shown = np.isin(self.split.identity, first)
        return np.flatnonzero(shown), np.flatnonzero(~shown)

    def _pairs(self, rows: np.ndarray) -> Pairs:
        """Row numbers of the whole split, folded into each half."""
        stylized, real = (torch.from_numpy(half[rows % len(half)]).to(self.split.stylized.device) for half in self.halves)
        of_stylized, of_real = self.split.pairs(stylized), self.split.pairs(real)
        return Pairs(of_stylized.stylized, of_real.real, of_stylized.warp)


def draw_colour_maps(count: int, share: float, draws: np.random.Generator) -> np.ndarray:
    """float32 (count, 3, 4): affine maps of RGB; the identity but for ``share`` of them.

    A map turns the hue by any angle, scales saturation (0 to 1.5) and contrast (0.6 to 1.4) around mid-grey, and moves the brightness (within 0.15).
    """
    maps = np.tile(np.eye(3, 4), (count, 1, 1))
    for number in range(count):
        angle, saturation, contrast, brightness, chosen = draws.random(5)
        if chosen >= share:
            continue
        linear = (0.6 + 0.8 * contrast) * hue_and_saturation(2 * math.pi * angle, 1.5 * saturation)
        maps[number, :, :3] = linear
        maps[number, :, 3] = 0.5 - linear.sum(1) / 2 + 0.3 * (brightness - 0.5)
    return maps.astype(np.float32)


def hue_and_saturation(angle: float, saturation: float) -> np.ndarray:
    """(3, 3): turns colours around the grey axis by ``angle`` in radians and scales their distance from it; greys stay."""
    grey = np.full((3, 3), 1 / 3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return grey + saturation * (math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * cross)


def _map_colours(faces: Tensor, maps: np.ndarray) -> Tensor:
    device_maps = torch.from_numpy(maps).to(faces.device)
    n, _, h, w = faces.shape
    flat = faces.permute(0, 2, 3, 1).reshape(n, h * w, 3)   # a view of channels_last faces
    mapped = torch.baddbmm(device_maps[:, None, :, 3], flat, device_maps[:, :, :3].transpose(1, 2)).clamp_(0, 1)
    return mapped.reshape(n, h, w, 3).permute(0, 3, 1, 2)


def _mirror(faces: Tensor, mirrored: Tensor) -> Tensor:
    return torch.where(mirrored[:, None, None, None], faces.flip(3), faces)


def _mirror_warp(warp: Tensor, mirrored: Tensor) -> Tensor:
    signs = torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0]], device=warp.device)   # of F W F with F = diag(-1, 1)
    return torch.where(mirrored[:, None, None], warp * signs, warp)
