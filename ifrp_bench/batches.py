"""Pairs of a split resident in memory or on the device as uint8, and the batch of each step as a function of (seed, step) alone.

Augmentation is chosen by the loop: mirrored pairs, and random colour maps of the stylized face, an option of this project without which a
network reads an unseen style's palette as the face's colours.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ifrp_bench.draws import generator
from ifrp_bench.images import as_faces
from ifrp_bench.methods import Pairs
from ifrp_bench.shards import Dataset, ShardError, read_shard


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


def load_split(data: Dataset, split: str, device: str) -> Split:
    """Every shard of a split, hashes checked. Raises ShardError for a split without pairs."""
    shards = [read_shard(path, sha256=data.info["shards"][path.name]["sha256"]) for path in data.shards(split)]
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


def normalized(warp: Tensor, size_px: int) -> Tensor:
    """(N, 2, 3) maps of pixel coordinates to maps of coordinates in [-1, 1] from the first pixel's centre to the last's."""
    half = (size_px - 1) / 2
    linear, shift = warp[:, :, :2], warp[:, :, 2]
    return torch.cat([linear, (linear.sum(2) + shift / half - 1)[:, :, None]], 2)


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
        """Whole batches in the split; the rest of a permutation is left for the next one."""
        return max(1, len(self.split) // self.batch_size)

    def at(self, step: int) -> Pairs:
        """The batch of a step."""
        rows = self.rows(step)
        pairs = self.split.pairs(torch.from_numpy(rows).to(self.split.stylized.device))
        draws = generator(self.seed, "augmentation", step)
        stylized, real, warp = pairs.stylized, pairs.real, pairs.warp
        if self.mirror:
            mirrored = torch.from_numpy(self._mine(draws.random(self._size) < 0.5)).to(stylized.device)
            stylized, real, warp = _mirror(stylized, mirrored), _mirror(real, mirrored), _mirror_warp(warp, mirrored)
        if self.colour_maps:
            stylized = _map_colours(stylized, self._mine(draw_colour_maps(self._size, self.colour_maps, draws)))
        return Pairs(stylized, real, warp)

    def rows(self, step: int) -> np.ndarray:
        """The rows of this process's part of a step's batch."""
        epoch, number = divmod(step, self.steps_per_epoch)
        order = generator(self.seed, "epoch", epoch).permutation(len(self.split))
        return self._mine(order[number * self._size:(number + 1) * self._size])

    @property
    def _size(self) -> int:
        size = min(self.batch_size, len(self.split))
        return size - size % self.world   # equal parts

    def _mine(self, values: np.ndarray) -> np.ndarray:
        return values[self.rank::self.world].copy()


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
