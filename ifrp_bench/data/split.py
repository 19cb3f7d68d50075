"""A split in memory or on the device, all of its pairs as uint8 and rows of it as faces; or on disk, to be
looked into.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ifrp_bench.data.format import Dataset, Shard, ShardError
from ifrp_bench.ground.images import as_faces
from ifrp_bench.ground.warp import FACE_PX
from ifrp_bench.ground.workers import default_workers, on_threads
from ifrp_bench.methods import Pairs

CHUNK = 256   # faces summed or looked at at a time


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

    def stylized_parts(self) -> Iterator[Tensor]:
        """``stylized``, some rows at a time."""
        yield from self.stylized.split(CHUNK)

    @cached_property
    def mean_face(self) -> Tensor:
        """The mean real face, uint8 (H, W, 3): the first thing that a
        network learns, and what it must leave behind.
        """
        return _mean_of(self.real)


@dataclass(frozen=True)
class LookedInto:
    """A split on disk for methods that look into it (``methods.Training``): its real faces in memory once
    they are asked for, its stylized ones read a few shards at a time.
    """

    data: Dataset
    split: str
    device: str

    def stylized_parts(self) -> Iterator[Tensor]:
        """uint8 (k, H, W, 3) each, in order."""
        for shard in _read(self.data, self.split):
            yield torch.from_numpy(shard.stylized).to(self.device)

    @property
    def stylized(self) -> Tensor:
        """uint8 (n, H, W, 3): all of them, which takes their memory."""
        return torch.cat(list(self.stylized_parts()))

    @property
    def real(self) -> Tensor:
        """uint8 (m, H, W, 3)."""
        return self._real_faces[0]

    @property
    def real_index(self) -> Tensor:
        """int64 (n,) into ``real``."""
        return self._real_faces[1]

    @cached_property
    def mean_face(self) -> Tensor:
        """The mean real face, uint8 (H, W, 3)."""
        return _mean_of(self.real)

    @cached_property
    def _real_faces(self) -> tuple[Tensor, Tensor]:
        gathered = _RealFaces(self.data, self.split)
        for shard in _read(self.data, self.split):
            gathered.add(shard)
        return gathered.on(self.device)


class _RealFaces:
    """The real faces of a split, shard after shard, and of each row which of them is its own."""

    def __init__(self, data: Dataset, split: str) -> None:
        self.faces = np.empty((_counted(data, split, "faces"), FACE_PX, FACE_PX, 3), np.uint8)
        self.index: list[np.ndarray] = []   # of each shard, counted through all of them
        self.there = 0

    def add(self, shard: Shard) -> None:
        """The next shard's."""
        self.index.append(shard.real_index.astype(np.int64) + self.there)
        self.faces[self.there:self.there + len(shard.real)] = shard.real
        self.there += len(shard.real)

    def on(self, device: str) -> tuple[Tensor, Tensor]:
        """uint8 (m, H, W, 3) and int64 (n,)."""
        index = np.concatenate(self.index)
        return torch.from_numpy(self.faces).to(device), torch.from_numpy(index).to(device)


def load_split(data: Dataset, split: str, device: str, *, upright: bool = False) -> Split:
    """Every shard of a split, hashes checked; with ``upright`` SFs are brought upright with their stored
    warps.

    Memory holds the split and a shard a core. Raises ShardError for a split without pairs, and for a shard of
    another length than ``dataset.json`` says.
    """
    real = _RealFaces(data, split)
    stylized = np.empty((_counted(data, split, "pairs"), FACE_PX, FACE_PX, 3), np.uint8)
    warp, style, identity = [], [], []
    pairs = 0   # that are there
    for shard in _read(data, split, upright=upright):
        real.add(shard)
        stylized[pairs:pairs + len(shard.stylized)] = shard.stylized
        pairs += len(shard.stylized)
        warp.append(shard.warp)
        style.append(shard.style)
        identity.append(shard.identity)
    faces, index = real.on(device)
    return Split(
        stylized=torch.from_numpy(stylized).to(device),
        real=faces,
        real_index=index,
        warp=normalized(torch.from_numpy(np.concatenate(warp)), FACE_PX).to(device),
        style=np.char.decode(np.concatenate(style), "utf-8"),
        identity=np.concatenate(identity),
    )


def _read(data: Dataset, split: str, *, upright: bool = False) -> Iterator[Shard]:
    """A split's shards in order, a few at a time on all cores."""
    def one(path: Path) -> Shard:
        shard = data.read(path)
        return _upright(shard) if upright else shard

    paths, at_once = data.shards(split), default_workers() or 1
    for start in range(0, len(paths), at_once):
        yield from on_threads(one, paths[start:start + at_once])


def _counted(data: Dataset, split: str, what: str) -> int:
    """How many ``pairs`` or ``faces`` the shards of a split have. Raises ShardError for a split without."""
    count = sum(int(data.info["shards"][data.name_of(path)][what]) for path in data.shards(split))
    if not count:
        make = f"`ifrp-bench synth --set {split}_faces=N`"
        raise ShardError(f"{data.root}: the split {split!r} has no pairs; make it with {make}")
    return count


def _mean_of(real: Tensor) -> Tensor:
    """The mean of faces, uint8 (m, H, W, 3) to (H, W, 3)."""
    total = sum(part.double().sum(0) for part in real.split(CHUNK))
    return (total / len(real)).round().byte()   # type: ignore[union-attr]


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
