"""A split in memory or on the device: all of its pairs as uint8, and rows of it as faces."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ifrp_bench.data.format import Dataset, Shard, ShardError
from ifrp_bench.ground.images import as_faces
from ifrp_bench.ground.workers import on_threads
from ifrp_bench.methods import Pairs

CHUNK = 256   # real faces summed at a time


@dataclass(frozen=True)
class Split:
    """All pairs of a split on ``device``: ``stylized`` uint8 (n, H, W, 3), ``real`` uint8 (m, H, W, 3),
    ``real_index`` int64 (n,), ``warp`` float32 (n, 2, 3) as in ``Pairs``; names as arrays.
    """

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
            self,
            stylized=self.stylized[:rows],
            real_index=self.real_index[:rows],
            warp=self.warp[:rows],
            style=self.style[:rows],
            identity=self.identity[:rows],
        )

    def chosen(self, rows: np.ndarray) -> "Split":
        """Some of the rows, by a mask or by number."""
        at = torch.from_numpy(np.arange(len(self))[rows]).to(self.stylized.device)
        return replace(
            self,
            stylized=self.stylized[at],
            real_index=self.real_index[at],
            warp=self.warp[at],
            style=self.style[rows],
            identity=self.identity[rows],
        )

    def without(self, style: str) -> "Split":
        """All rows but those of a style. Raises ShardError where that is no style of it, or its only one."""
        kept = self.style != style
        if kept.all() or not kept.any():
            there = ", ".join(sorted(set(self.style.tolist())))
            raise ShardError(f"without_style {style!r}: the split's styles are {there}; some are to be left")
        return self.chosen(kept)

    @cached_property
    def mean_face(self) -> Tensor:
        """The mean real face, uint8 (H, W, 3): the first thing that a
        network learns, and what it must leave behind.
        """
        total = sum(part.double().sum(0) for part in self.real.split(CHUNK))
        return (total / len(self.real)).round().byte()   # type: ignore[union-attr]


def load_split(data: Dataset, split: str, device: str, *, upright: bool = False) -> Split:
    """Every shard of a split, hashes checked; with ``upright`` SFs are brought upright with their stored
    warps.

    Raises ShardError for a split without pairs.
    """
    shards = [data.read(path) for path in data.shards(split)]
    if not shards:
        make = f"`ifrp-bench synth --set {split}_faces=N`"
        raise ShardError(f"{data.root}: the split {split!r} has no pairs; make it with {make}")
    if upright:
        shards = on_threads(_upright, shards)

    # rows count through the shards, and so do the real faces that they point at
    starts = np.cumsum([0, *(len(shard.real) for shard in shards)])
    index = [shard.real_index + start for shard, start in zip(shards, starts)]
    warp = torch.from_numpy(np.concatenate([shard.warp for shard in shards]))
    size_px = shards[0].real.shape[1]
    return Split(
        stylized=torch.from_numpy(np.concatenate([shard.stylized for shard in shards])).to(device),
        real=torch.from_numpy(np.concatenate([shard.real for shard in shards])).to(device),
        real_index=torch.from_numpy(np.concatenate(index).astype(np.int64)).to(device),
        warp=normalized(warp, size_px).to(device),
        style=np.char.decode(np.concatenate([shard.style for shard in shards]), "utf-8"),
        identity=np.concatenate([shard.identity for shard in shards]),
    )


def _upright(shard: Shard) -> Shard:
    nothing = np.broadcast_to(np.eye(2, 3, dtype=np.float32), shard.warp.shape)
    return replace(shard, stylized=shard.upright(), warp=nothing)


def normalized(warp: Tensor, size_px: int) -> Tensor:
    """(N, 2, 3) maps of pixel coordinates to maps of coordinates in [-1,
    1] from the first pixel's centre to the last's.
    """
    half = (size_px - 1) / 2
    linear, shift = warp[:, :, :2], warp[:, :, 2]
    return torch.cat([linear, (linear.sum(2) + shift / half - 1)[:, :, None]], 2)
