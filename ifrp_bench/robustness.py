"""How scores change with one thing at a time: rotation, scale, shift, strength of the style, blur, JPEG; and
with a style that was left out of the training.

Stylized faces are made again from the recipe with that one thing changed, recovered, and scored against the
whole gallery. Like ``paper.py`` this is a place where stages meet. What is scored is kept point by point, so
a run that was stopped is resumed.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from ifrp_bench import parts
from ifrp_bench.data.format import Dataset
from ifrp_bench.data.open_styles import OPEN
from ifrp_bench.data.pairs import PairMaker, source_of
from ifrp_bench.data.plan import Plan, PlannedShard
from ifrp_bench.data.recipe import Recipe
from ifrp_bench.data.runs import Run
from ifrp_bench.data.styles import Stylizer, pick_styles
from ifrp_bench.ground.files import write_whole
from ifrp_bench.ground.warp import Misalignment, face_window
from ifrp_bench.ground.workers import on_threads
from ifrp_bench.nets.recogniser import Recogniser
from ifrp_bench.recovery.trained import Trained, load_trained, name_of, recover_shard
from ifrp_bench.results.evaluate import PROTOCOL, Gallery, load_gallery, picture_scores
from ifrp_bench.sources import Face, Faces

# the values of each curve; the lab's ranges end at 45 degrees, 0.8 and 5 %
CURVES: dict[str, tuple[float, ...]] = {
    "rotation": (0, 15, 30, 45, 60, 75, 90),   # degrees, to the side to which the face is turned in the test
    "scale": (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2),
    "shift": (0, 0.05, 0.1, 0.15),   # of the window's sides, in the direction of the test's
    "strength": (0, 0.25, 0.5, 0.75, 1),   # 0: the misaligned photograph, 1: the stylized face
    "blur": (0, 1, 2, 3, 4),   # Gaussian, standard deviation in pixels of the stylized face
    "jpeg": (95, 75, 50, 30, 15, 5),   # quality
}
GPU_BATCH = 64   # windows that go through a style network together
WITHOUT = "without the style"   # the run's name in the rows of those that lack a style
KEYS = ["method", "run", "condition", "curve", "value"]
PICTURE_METRICS = ("psnr", "ssim")
RETRIEVAL_METRICS = ("frr", "vr")


class Judged:
    """Scores of recovered faces against a data set's whole test gallery."""

    def __init__(self, data: Dataset, judge: Recogniser) -> None:
        self.data, self.judge = data, judge
        self.gallery: Gallery = load_gallery(data, "test")

    @cached_property
    def _embedded(self) -> np.ndarray:
        return self.judge.embed(self.gallery.faces)

    def rows(self, recovered: np.ndarray, asked: pd.DataFrame) -> pd.DataFrame:
        """A row a recovered face, uint8 (n, 128, 128, 3), of the rows ``asked`` of the gallery's frame."""
        own = asked["own"].to_numpy()
        table = asked.drop(columns="own").reset_index(drop=True)
        for name in PICTURE_METRICS:
            scores = picture_scores(parts.metric(name).opened(), recovered, self.gallery.faces[own])
            table = table.assign(**scores)
        embedded = self.gallery.embedded(self.judge.embed(recovered), self._embedded, asked)
        for name in RETRIEVAL_METRICS:
            table = table.assign(**parts.metric(name).opened().score(embedded).columns)
        return table.drop(columns="nearest").assign(
            data_sha256=self.data.sha256, recogniser=self.judge.name, protocol=PROTOCOL,
        )


@dataclass(frozen=True)
class Contender:
    """What recovers: its names in the rows, a hash of what it depends on, and how it is opened."""

    method: str
    run: str
    condition: str
    sha256: str
    open: Callable[[], Callable[[np.ndarray], np.ndarray]] = field(compare=False)

    @property
    def key(self) -> dict[str, str]:
        """What tells its rows from others'."""
        return {"method": self.method, "run": self.run, "condition": self.condition}


def contenders(runs: Iterable[Run], aligner: Run | None, device: str) -> list[Contender]:
    """The stylized face itself, and every run under the condition of a paper's table: what needs an upright
    face gets it from ``aligner``, where there is one.
    """
    found = [Contender("copy", "", "raw", "", lambda: lambda stylized: stylized)]
    for run in runs:
        part = parts.trainable(run.method)
        if part.aligns or part.use != "trained":
            continue
        aligned = aligner if part.method.headline == "stn" else None
        digest = run.sha256("last") + run.sign + (aligner.sha256("last") if aligned and aligner else "")
        found.append(Contender(
            name_of(run), run.name, "stn" if aligned else "raw", digest, _opener(run, aligned, device)
        ))
    return found


def _opener(run: Run, aligner: Run | None, device: str) -> Callable[[], Callable[[np.ndarray], np.ndarray]]:
    def open_it() -> Callable[[np.ndarray], np.ndarray]:
        chain: list[Trained] = [load_trained(one, device=device) for one in (aligner, run) if one is not None]

        def recover(stylized: np.ndarray) -> np.ndarray:
            for trained in chain:
                stylized = recover_shard(trained.method, stylized, device)
            return stylized

        return recover

    return open_it


@dataclass(frozen=True)
class _Changed(PlannedShard):
    """Test faces that lie as they are tested but for one thing."""

    curve: str = ""   # rotation, scale or shift; empty: nothing is changed
    value: float = 0.0

    def misalignment(self, recipe: Recipe, face: Face, style: str) -> Misalignment:
        drawn = super().misalignment(recipe, face, style)
        return with_one_changed(drawn, self.curve, self.value) if self.curve else drawn


@dataclass
class Rendering:
    """Stylized faces of a data set's first test faces, made again with one thing changed.

    ``faces`` says where the photographs are if they have moved. Raises InputError where they are not those of
    the data set.
    """

    data: Dataset
    count: int
    faces: Path | None = None
    styles: Path | None = None
    device: str = "cpu"

    @cached_property
    def _shard(self) -> _Changed:
        """The faces as they are tested."""
        plan, _ = self._opened
        return _Changed("", "test", tuple(plan.faces("test")[:self.count]), plan.recipe.test_styles)

    @cached_property
    def _opened(self) -> tuple[Plan, Faces]:
        return source_of(self.data, self.faces, device=self.device)

    @cached_property
    def _maker(self) -> PairMaker:
        plan, source = self._opened
        styles = pick_styles(plan.recipe.styles, self.styles, self.data.root / OPEN)
        size = 1 if self.device == "cpu" else GPU_BATCH
        stylizer = Stylizer(styles, precision=plan.recipe.precision, device=self.device, batch_size=size)
        return PairMaker(plan.recipe, source, stylizer)

    @cached_property
    def _frames(self) -> np.ndarray:
        return self._maker.source.read_many(self._shard.faces, map)

    @cached_property
    def _as_tested(self) -> np.ndarray:
        """The stylized faces as the data set has them."""
        return self._stylized(self._shard)

    def point(self, curve: str, value: float) -> np.ndarray:
        """uint8 (faces * styles, 128, 128, 3), in the order of the data set's rows."""
        if curve == "strength":
            photographs = np.repeat(self._photographs(), len(self._shard.styles), axis=0)
            return mixed(photographs, self._as_tested, value)
        if curve in ("blur", "jpeg"):
            change = blurred if curve == "blur" else compressed
            return np.stack([change(face, value) for face in self._as_tested])
        return self._stylized(replace(self._shard, curve=curve, value=value))

    def _photographs(self) -> np.ndarray:
        """The misaligned faces before they are stylized, uint8 (faces, 128, 128, 3)."""
        recipe, shard = self._maker.recipe, self._shard
        lying = [shard.misalignment(recipe, face, shard.styles[0]) for face in shard.faces]
        return np.stack([
            face_window(frame, one, border=recipe.border) for frame, one in zip(self._frames, lying)
        ])

    def _stylized(self, shard: _Changed) -> np.ndarray:
        """As synthesis makes them, a face a thread."""
        def of_face(number: int) -> np.ndarray:
            rows = slice(number, number + 1)
            one, frames = replace(shard, faces=shard.faces[rows]), self._frames[rows]
            return self._maker.finish(one, frames, self._maker.windows(one, frames)).stylized

        return np.concatenate(on_threads(of_face, range(len(shard.faces))))


def with_one_changed(misalignment: Misalignment, curve: str, value: float) -> Misalignment:
    """A test face's misalignment with its rotation, scale or shift replaced; the side or direction stays."""
    if curve == "rotation":
        return replace(misalignment, angle_deg=float(np.copysign(value, misalignment.angle_deg)))
    if curve == "scale":
        return replace(misalignment, scale=float(value))
    direction = np.array([misalignment.shift_x, misalignment.shift_y])
    length = np.linalg.norm(direction)
    along = direction / length if length else np.array([1.0, 0.0])
    return replace(misalignment, shift_x=float(value * along[0]), shift_y=float(value * along[1]))


def mixed(photographs: np.ndarray, stylized: np.ndarray, strength: float) -> np.ndarray:
    """uint8 faces between a photograph (0) and its stylized face (1)."""
    return np.rint((1 - strength) * photographs + strength * stylized.astype(np.float64)).astype(np.uint8)


def blurred(face: np.ndarray, sigma_px: float) -> np.ndarray:
    """uint8 (H, W, 3) behind a Gaussian; the same one for 0."""
    return cv2.GaussianBlur(face, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101) if sigma_px else face


def compressed(face: np.ndarray, quality: float) -> np.ndarray:
    """uint8 (H, W, 3) RGB as it comes out of a JPEG of a quality (1 to 100)."""
    _, data = cv2.imencode(".jpg", face[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert read is not None
    return np.ascontiguousarray(read[..., ::-1])


def write_curves(
    judged: Judged,
    runs: Sequence[Contender],
    rendering: Rendering,
    out: Path,
    *,
    curves: Iterable[str] | None = None,
    quiet: bool = False,
) -> Path:
    """``curves.csv``: a row per contender, point, face and style; returns its path.

    Points that were scored before, by the same weights on the same faces, are read from ``out/kept-curves``.
    """
    frame = judged.gallery.frame
    styles = len(rendering.data.info["recipe"]["test_styles"])
    asked = frame.iloc[:rendering.count * styles]
    points = [(curve, value) for curve in curves or CURVES for value in CURVES[curve]]
    opened: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    found = []
    for curve, value in tqdm(points, desc="curves", unit="point", disable=quiet):
        stylized: np.ndarray | None = None
        for one in runs:
            path = out / "kept-curves" / f"{_digest(judged, one, curve, value, len(asked))}.csv"
            rows = _read(path)
            if rows is None:
                stylized = rendering.point(curve, value) if stylized is None else stylized
                name = f"{one.method}/{one.run}"
                if name not in opened:
                    opened[name] = one.open()
                rows = judged.rows(opened[name](stylized), asked)
                write_whole(path, rows.to_csv(index=False, float_format="%.7g").encode())
                rows = _read(path)
            assert rows is not None
            found.append(rows.assign(**one.key, curve=curve, value=value))
    path = out / "curves.csv"
    joined = pd.concat(found, ignore_index=True)
    ordered = joined[[*KEYS, *(column for column in joined if column not in KEYS)]]
    write_whole(path, ordered.to_csv(index=False, float_format="%.7g").encode())
    return path


def _digest(judged: Judged, one: Contender, curve: str, value: float, rows: int) -> str:
    judge = judged.judge
    facts: list[Any] = [judged.data.sha256, judge.name, judge.sha256, PROTOCOL, one.key, one.sha256]
    facts += [curve, value, rows]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def _read(path: Path) -> pd.DataFrame | None:
    """Rows that are kept; None where they are not there or not whole."""
    try:
        return pd.read_csv(io.BytesIO(path.read_bytes()), dtype={"face": str}, keep_default_na=False)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError):
        return None


def write_left_out(judged: Judged, runs: Iterable[tuple[str, Contender]], out: Path) -> Path:
    """``left-out.csv``: faces in a style recovered by a run that was trained on all others, and by one that
    was trained on it too; a row per contender and face. Returns its path.

    ``runs`` are styles with the run that lacks it, and, as the style ``""``, runs that lack none.
    """
    found = []
    stylized = dict(_of_styles(judged))
    for style, one in runs:
        recover = one.open()
        for tested in ([style] if style else stylized):
            asked = judged.gallery.frame[judged.gallery.frame["style"] == tested]
            rows = judged.rows(recover(stylized[tested]), asked)
            run = WITHOUT if style else one.run
            found.append(rows.assign(**one.key | {"run": run}, seen=not style))
    path = out / "left-out.csv"
    write_whole(path, pd.concat(found, ignore_index=True).to_csv(index=False, float_format="%.7g").encode())
    return path


def _of_styles(judged: Judged) -> Iterator[tuple[str, np.ndarray]]:
    """The stored stylized faces of each test style, in the order of the rows."""
    shards = [judged.data.read(path) for path in judged.data.shards("test")]
    faces = np.concatenate([shard.stylized for shard in shards])
    styles = judged.gallery.frame["style"].to_numpy()
    for style in dict.fromkeys(styles):
        yield str(style), faces[styles == style]
