"""Training pairs made anew while training: every so many epochs each SF of the training split gets another
misalignment, and the style networks see it again.

A network that has seen a face under one misalignment a style learns that picture; made anew, it never sees
one twice. What a round's pairs are is a function of seed and round alone, so a resumed run has
the same ones.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ifrp_bench.data.format import Dataset
from ifrp_bench.data.open_styles import OPEN, Mixtures, draw_mixtures, open_bank
from ifrp_bench.data.pairs import source_of
from ifrp_bench.data.recipe import recipe_from
from ifrp_bench.data.split import Split, normalized
from ifrp_bench.data.styles import load_net, pick_styles
from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.images import as_faces, as_pictures
from ifrp_bench.ground.precision import fast_precision
from ifrp_bench.ground.warp import (
    FACE_PX, FRAME_PX, TIERS, WINDOW_PX, draw_misalignments, frame_similarities, window_to_frame,
)
from ifrp_bench.ground.workers import default_workers
from ifrp_bench.methods import Pairs
from ifrp_bench.training.batches import Batches

CHUNKS = {"cpu": 16, "cuda": 128}   # SFs made at a time


class Redrawing:
    """Batches whose SFs are made anew every ``epochs`` epochs; in the first they are the data set's own."""

    def __init__(self, batches: Batches, maker: "PairRemaker", epochs: float) -> None:
        self.batches, self.maker, self.epochs = batches, maker, epochs
        self.round = 0

    @property
    def steps_per_epoch(self) -> int:
        """Steps that see every pair at most once."""
        return self.batches.steps_per_epoch

    def at(self, step: int) -> Pairs:
        """The batch of a step."""
        number = int(step / self.steps_per_epoch / self.epochs)
        if number != self.round:
            split = self.maker.split(self.batches.split, self.batches.seed, number)
            self.batches, self.round = replace(self.batches, split=split), number
        return self.batches.at(step)


class PairRemaker:
    """Makes the SFs of a data set's training split again, of its real faces as they came: uint8 (m, 218, 178,
    3) on the device.
    """

    def __init__(
        self,
        data: Dataset,
        device: str,
        *,
        faces: Path | None = None,
        style_folder: Path | None = None,
        styles: tuple[str, ...] = (),
        upright: bool = False,
        quiet: bool = False,
    ) -> None:
        self.recipe = recipe_from(data.info["recipe"], where=f"{data.root}: recipe")
        self.styles = np.array(styles)
        # all of them before any face is read
        wanted = tuple(dict.fromkeys(styles or self.recipe.train_styles))
        self._chosen = {style.name: style for style in pick_styles(wanted, style_folder, data.root / OPEN)}
        self.device, self.upright = device, upright
        self.frames = _frames(data, faces, device, quiet)
        self.dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[fast_precision(device)]
        self._nets: dict[str, Any] = {}

    @torch.no_grad()
    def split(self, split: Split, seed: int, number: int) -> Split:
        """The split with other SFs of the same faces, in the same styles or in those to be dealt; ``number``
        counts the rounds.
        """
        # where each face lies, in its frame and as the aligner is told
        draws = generator(seed, "redraw", number)
        similarities = frame_similarities(draw_misalignments(self.recipe.misalignment, len(split), draws))
        to_frame = window_to_frame(FACE_PX)
        warp = (np.linalg.inv(to_frame) @ similarities @ to_frame)[:, :2].astype(np.float32)
        normal = normalized(torch.from_numpy(warp), FACE_PX).to(self.device)
        maps = self._sampling(similarities)

        # style by style, some at a time
        dealt = split.style
        if len(self.styles):
            dealt = self.styles[draws.integers(len(self.styles), size=len(split))]
        stylized = torch.empty_like(split.stylized)
        for style in np.unique(dealt):
            stylize = self._stylizer(str(style), draws)
            rows = torch.from_numpy(np.flatnonzero(dealt == style)).to(self.device)
            for part in rows.split(CHUNKS[torch.device(self.device).type]):
                made = as_pictures(stylize(self._windows(split.real_index[part], maps[part])))
                stylized[part] = _undone(made, normal[part]) if self.upright else made
        return replace(split, stylized=stylized, warp=split.warp if self.upright else normal, style=dealt)

    def _sampling(self, similarities: np.ndarray) -> Tensor:
        """(N, 2, 3): where the windows of misaligned frames are read from the frames, both in [-1, 1] from
        the first pixel's centre to the last's.
        """
        size = self.recipe.stylize_px * self._dense()
        source = np.linalg.inv(similarities) @ window_to_frame(size)
        whole = source @ _pixels(size, size)
        maps = np.linalg.inv(_pixels(*FRAME_PX)) @ whole
        return torch.from_numpy(maps[:, :2].astype(np.float32)).to(self.device)

    def _dense(self) -> int:
        """How many samples a pixel has along each side: more than one where windows shrink the frame, so that
        nothing aliases.
        """
        shrink = WINDOW_PX[3] / self.recipe.stylize_px / TIERS[self.recipe.misalignment].min_scale
        return max(1, math.ceil(shrink))

    def _windows(self, faces: Tensor, maps: Tensor) -> Tensor:
        """(N, 3, S, S) in [0, 1] of so many frames, bicubic as the data set's, rounded to 8 bits like them.
        """
        dense = self._dense()
        size = self.recipe.stylize_px * dense
        frames = as_faces(self.frames[faces])
        grid = F.affine_grid(maps, [len(maps), 3, size, size], align_corners=True)
        outside = {"reflect": "reflection", "zero": "zeros"}[self.recipe.border]
        windows = F.grid_sample(frames, grid, "bicubic", outside, align_corners=True)
        windows = F.avg_pool2d(windows, dense) if dense > 1 else windows
        rounded = windows.clamp_(0, 1).mul_(255).round_().div_(255)
        return rounded.contiguous(memory_format=torch.channels_last)

    def _stylizer(self, style: str, draws: np.random.Generator) -> Callable[[Tensor], Tensor]:
        if style == OPEN:
            if style not in self._nets:
                bank = open_bank(self._chosen[OPEN].folder)
                self._nets[style] = Mixtures(bank, self.device, self.dtype)
            mixtures = self._nets[style]
            return lambda windows: mixtures.stylized(
                windows, draw_mixtures(len(windows), len(mixtures.styles), draws), FACE_PX
            )
        if style not in self._nets:
            from ifrp_bench.nets.fast_transformer import FastTransformer

            self._nets[style] = FastTransformer(load_net(self._chosen[style]), self.dtype).to(self.device)
        net = self._nets[style]
        return lambda windows: F.interpolate(net(windows), (FACE_PX, FACE_PX), mode="area")


def _undone(stylized: Tensor, maps: Tensor) -> Tensor:
    """SFs uint8 (N, H, W, 3) brought upright by their maps, as for methods that see them so; black where they
    show nothing.
    """
    faces = as_faces(stylized)
    grid = F.affine_grid(maps, list(faces.shape), align_corners=True)
    return as_pictures(F.grid_sample(faces, grid, "bicubic", "zeros", align_corners=True))


def _pixels(width: int, height: int) -> np.ndarray:
    """(3, 3): coordinates in [-1, 1] from the first pixel's centre to the last's, to pixels."""
    x, y = (width - 1) / 2, (height - 1) / 2
    return np.array([[x, 0, x], [0, y, y], [0, 0, 1]])


def _frames(data: Dataset, faces: Path | None, device: str, quiet: bool) -> Tensor:
    """The training split's real faces as they came, in the order of its rows, uint8 on the device.

    Raises InputError where the photographs are not those of the data set.
    """
    try:
        plan, source = source_of(data, faces, device=device, quiet=quiet)
    except InputError as error:
        raise InputError(f"{error} (redraw makes SFs anew of them; redraw=0 needs none)") from None
    with ThreadPoolExecutor(default_workers() or 1) as threads:
        frames = source.read_many(plan.faces("train"), threads.map)
    return torch.from_numpy(frames).to(device)
