"""Real faces to pairs: warp, stylize, and lay out the rows of one shard.

Synthesis writes what this makes, verification makes it again.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from ifrp_bench import parts
from ifrp_bench.data.format import Dataset, Shard
from ifrp_bench.data.lists import listed_eyes
from ifrp_bench.data.plan import Plan, PlannedShard, make_plan
from ifrp_bench.data.recipe import Recipe, recipe_from
from ifrp_bench.data.styles import Stylizer
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.images import tile
from ifrp_bench.ground.warp import FACE_PX, face_window, warp_matrix
from ifrp_bench.sources import Face, Faces, Request

Map = Callable[..., Iterator[Any]]


class PairMaker:
    """Makes shards of a recipe's pairs.

    ``map_faces`` may spread reading and warping over threads; the result is the same.
    """

    def __init__(self, recipe: Recipe, source: Faces, stylizer: Stylizer, map_faces: Map = map) -> None:
        self.recipe = recipe
        self.source = source
        self.stylizer = stylizer
        self.map_faces = map_faces

    def prepare(self, shard: PlannedShard) -> tuple[np.ndarray, list[np.ndarray]]:
        """The CPU's part, all of it: frames uint8 (m, 218, 178, 3) and
        what ``windows`` returns, for a GPU to find ready.
        """
        frames = self.source.read_many(shard.faces, self.map_faces)
        return frames, list(self.windows(shard, frames))

    def windows(self, shard: PlannedShard, frames: np.ndarray) -> Iterator[np.ndarray]:
        """The misaligned windows of a shard's faces, uint8 (m, S, S, 3), one after the other for each style;
        one in all for a test shard.
        """
        for style in shard.styles[:1] if shard.split == "test" else shard.styles:
            yield self._windows(shard, frames, style)

    def _windows(self, shard: PlannedShard, frames: np.ndarray, style: str) -> np.ndarray:
        def window(job: tuple[Face, np.ndarray]) -> np.ndarray:
            face, frame = job
            return face_window(
                frame,
                shard.misalignment(self.recipe, face, style),
                size_px=self.recipe.stylize_px,
                border=self.recipe.border,
            )

        return np.stack(list(self.map_faces(window, zip(shard.faces, frames))))

    def finish(self, shard: PlannedShard, frames: np.ndarray, windows: Iterable[np.ndarray]) -> Shard:
        """The networks' part: all columns of the shard, rows face by face and style by style."""
        # a test face has one misalignment, shared by its styles
        if shard.split == "test":
            windows = repeat(next(iter(windows)))
        # (m, styles, 128, 128, 3)
        keys = [f"{self.recipe.seed} {shard.split} {face.name}" for face in shard.faces]
        stylized = np.stack(
            [self.stylizer(style, part, FACE_PX, keys) for style, part in zip(shard.styles, windows)], axis=1
        )
        faces, styles = len(shard.faces), len(shard.styles)
        warps = [
            warp_matrix(shard.misalignment(self.recipe, face, style))
            for face in shard.faces
            for style in shard.styles
        ]
        return Shard(
            stylized=stylized.reshape(faces * styles, FACE_PX, FACE_PX, 3),
            real=np.stack(list(self.map_faces(face_window, frames))),
            real_index=np.repeat(np.arange(faces, dtype=np.int32), styles),
            style=np.array([style.encode() for style in shard.styles] * faces),
            face=np.repeat(np.array([face.name.encode() for face in shard.faces]), styles),
            identity=np.repeat(np.array([face.identity for face in shard.faces], dtype=np.int32), styles),
            warp=np.array(warps, dtype=np.float32),
        )

    def make(self, shard: PlannedShard) -> Shard:
        """Both parts in turn, a style at a time, so that memory holds one style's windows."""
        frames = self.source.read_many(shard.faces, self.map_faces)
        return self.finish(shard, frames, self.windows(shard, frames))


def source_of(
    data: Dataset, folder: Path | None, *, device: str, quiet: bool = True,
) -> tuple[Plan, Faces]:
    """The plan of a data set that is there and its real faces, to make pairs of them anew.

    ``folder`` says where the photographs are if they have moved. Raises InputError where they are not those
    of the data set.
    """
    recipe = recipe_from(data.info["recipe"], where=f"{data.root}: recipe")
    where = folder or (Path(data.info["faces"]) if data.info["faces"] else None)
    source = open_faces(
        recipe, where, landmarks=data.root / "landmarks.csv", workers=0, device=device, quiet=quiet,
    )
    plan = make_plan(recipe, source)
    if plan.faces_sha256(source) != data.info["faces_sha256"]:
        raise InputError(
            f"{where or recipe.source}: not the faces that {data.root} was made of; name their folder with"
            " --faces"
        )
    return plan, source


def part_of(shard: PlannedShard, rows: slice) -> PlannedShard:
    """The same shard with some of its faces only: a sample to render again."""
    return PlannedShard(shard.name, shard.split, shard.faces[rows], shard.styles)


def preview_sheet(plan: Plan, maker: PairMaker, faces: int = 6) -> np.ndarray | None:
    """A contact sheet, uint8 RGB: a row a face of RF, misaligned face, and its SF in every style.

    None for an empty plan.
    """
    shards = [shard for shard in plan.shards if shard.split == "test"] or list(plan.shards)
    if not shards:
        return None
    shard = part_of(shards[0], slice(0, faces))
    frames = maker.source.read_many(shard.faces, maker.map_faces)
    made = maker.finish(shard, frames, maker.windows(shard, frames))
    stylized = made.stylized.reshape(len(shard.faces), len(shard.styles), FACE_PX, FACE_PX, 3)
    rows = []
    for number, face in enumerate(shard.faces):
        warped = face_window(
            frames[number], shard.misalignment(plan.recipe, face, shard.styles[0]), border=plan.recipe.border
        )
        rows.append([made.real[number], warped, *stylized[number]])
    return tile(rows)


def open_faces(
    recipe: Recipe, folder: Path | None, *, landmarks: Path, workers: int, device: str, quiet: bool,
) -> Faces:
    """The recipe's real faces.

    Raises InputError where its source wants a folder and has none, or has one and wants none.
    """
    source = parts.source(recipe.source)
    if source.made and not source.folder and folder is not None:
        raise InputError(
            f"recipe {recipe.name} renders its own faces; "
            f"for photographs use recipe `photos` (or celeba-*) with --faces {folder}"
        )
    if source.folder and folder is None:
        raise InputError(
            f"recipe {recipe.name} wants {source.folder}: name it with --faces DIR (recipe `demo` needs none)"
        )
    return source.open(Request(
        recipe=recipe.name,
        folder=folder,
        train_faces=recipe.train_faces,
        val_faces=recipe.val_faces,
        test_faces=recipe.test_faces,
        split=recipe.split,
        faces_per_identity=recipe.faces_per_identity,
        exclude_attributes=recipe.exclude_attributes,
        seed=recipe.seed,
        landmarks=landmarks,
        eyes=listed_eyes(recipe.test_list) if recipe.test_list else {},
        as_needed=recipe.search == "needed",
        workers=workers,
        device=device,
        quiet=quiet,
    ))
