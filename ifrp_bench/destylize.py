"""Stage 3: a trained run and stylized faces -> recovered faces, for a split's shards or for pictures of any origin.

A picture's face is framed (size and place, no rotation: that is the STNs' work) by MTCNN where it finds one, by the middle of the picture where it
does not. Recovered shards stand in ``RUN/recovered/<data set>/<condition>/``, row by row as in the shard of the same name.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ifrp_bench import __version__
from ifrp_bench.batches import Split, load_split
from ifrp_bench.catalog import load_method
from ifrp_bench.errors import InputError
from ifrp_bench.images import PictureError, read_picture, tile, to_faces, to_pictures, write_png
from ifrp_bench.methods import Method, Setup
from ifrp_bench.nets.detector import find_faces
from ifrp_bench.processes import Processes
from ifrp_bench.runs import Run
from ifrp_bench.settings import settings_of
from ifrp_bench.shards import Dataset, Shard, read_recovered, read_shard, recovered_facts, write_recovered
from ifrp_bench.warp import FACE_PX, WINDOW_PX, centre_window, framed_window, resample, undo_warp, window_to_frame
from ifrp_bench.weights import write_whole
from ifrp_bench.workers import default_workers, on_threads

CONDITIONS = ("raw", "stn", "oracle")
BATCH = 64
OPTIMISED_AT_ONCE = {"cpu": 8, "cuda": 256}   # faces in one optimiser: a CPU's cache holds the maps of a few
SHOWN_PX = (2 * WINDOW_PX[2], 2 * WINDOW_PX[3])   # a face in its true proportions, twice the window of CelebA's frame


@dataclass(frozen=True)
class Trained:
    """A run's method with trained weights; ``step`` of ``steps`` says how far it is."""

    method: Method
    step: int
    steps: int


def load_trained(run: Run, *, checkpoint: str = "last", device: str = "cpu", training: Split | None = None) -> Trained:
    """The method of a run as a checkpoint (``last``, the end of training, or ``best`` on validation) left it.

    Averaged weights are taken where the run kept them and they were the better ones on validation. ``training`` is the training split for methods
    that look into it when they are used.
    """
    module, _ = load_method(run.method)
    state = run.load(checkpoint)
    config = settings_of(module.Config, run.info["config"], f"{run.root}/run.json")
    try:
        method: Method = module.build(config, Setup(device, int(state["steps"]), int(run.info["loop"]["seed"]), training=training))
        method.restore(state["method"])
        if state["averaged"] and method.network is not None:
            method.network.load_state_dict(state["ema"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"{run.root}: the checkpoint {checkpoint!r} does not fit {run.method}: {' '.join(str(error).split())[:160]}") from None
    return Trained(method, state["step"], state["steps"])


def recover(method: Method, stylized: np.ndarray, *, device: str = "cpu", bfloat16: bool = False) -> np.ndarray:
    """uint8 (N, 128, 128, 3) stylized to recovered faces, in batches of 64; in float32, or faster in bfloat16."""
    recovered = []
    for start in range(0, len(stylized), BATCH):
        faces = to_faces(stylized[start:start + BATCH], device)
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            recovered.append(to_pictures(method.destylize(faces)))
    return np.concatenate(recovered) if recovered else np.empty_like(stylized)


@dataclass(frozen=True)
class Task:
    """A split's SFs as a method is to see them.

    ``condition``: ``raw`` the SF as it is, ``oracle`` brought upright with its stored warp, ``stn`` by ``aligner``, a run of the method of this name.
    ``training`` is the data set whose training split methods look into that are not trained; the same one where it is not given.
    """

    data: Dataset
    condition: str = "raw"
    aligner: Run | None = None
    split: str = "test"
    device: str = "cpu"
    quiet: bool = False
    processes: Processes = field(default_factory=lambda: Processes("cpu"))
    training: Dataset | None = None

    def __post_init__(self) -> None:
        if self.condition not in CONDITIONS:
            raise InputError(f"condition {self.condition!r} is none of {', '.join(CONDITIONS)}")
        if self.condition == "stn" and self.aligner is None:
            raise InputError(f"condition stn needs a trained aligner: `ifrp-bench train --method aligner --data {self.data.root}`, or name its run")

    @property
    def facts(self) -> dict[str, str]:
        """What recovered faces depend on beside the method."""
        facts = {"data_sha256": self.data.sha256, "condition": self.condition}
        return facts | ({"aligner_sha256": self.aligner.sha256("last")} if self.condition == "stn" and self.aligner else {})

    @cached_property
    def aligning(self) -> Method:
        """The aligner's trained method."""
        assert self.aligner
        return load_trained(self.aligner, device=self.device).method

    def stylized(self, shard: Shard) -> np.ndarray:
        """A shard's SFs under the condition, uint8 (n, 128, 128, 3)."""
        if self.condition == "oracle":
            return np.stack([undo_warp(face, warp) for face, warp in zip(shard.stylized, shard.warp)])
        return recover_shard(self.aligning, shard.stylized, self.device) if self.condition == "stn" else shard.stylized


def recover_split(run: Run, task: Task, *, checkpoint: str = "last") -> Path:
    """Recovered shards of a split; gives their folder. Shards that this checkpoint made from this data set under this condition are kept."""
    folder = run.root / "recovered" / task.data.root.name / task.condition

    def build() -> Method:
        looks = getattr(load_method(run.method)[0], "OPTIMISED", False)
        training = load_split(task.training or task.data, "train", task.device) if looks else None
        return load_trained(run, checkpoint=checkpoint, device=task.device, training=training).method

    settings = json.dumps(run.info["config"], sort_keys=True)
    return _recover_shards(build, task, folder, {"checkpoint_sha256": run.sha256(checkpoint), "settings": settings})


def recover_untrained(name: str, task: Task, out: Path) -> Path:
    """Recovered shards of a method that is not trained (the difficulty rows), into ``out/NAME/CONDITION``; gives their folder."""
    module, settings = load_method(name)
    if module.TRAINABLE:
        raise InputError(f"{name} is trained: evaluate a run of it")
    looked_into = task.training or task.data

    def build() -> Method:
        training = load_split(looked_into, "train", task.device) if looked_into.info["counts"]["train"]["pairs"] else None
        return module.build(module.Config(**settings), Setup(task.device, training=training))   # type: ignore[no-any-return]

    facts = {"method": name, "version": __version__, "training_sha256": looked_into.sha256}
    return _recover_shards(build, task, out / name / task.condition, facts)


def _recover_shards(build: Callable[[], Method], task: Task, folder: Path, facts: dict[str, str]) -> Path:
    """The shards that are not there yet; the method is built when the first of them is met. Of several processes each makes its own shards."""
    facts = task.facts | facts
    mine = task.data.shards(task.split)[task.processes.rank::task.processes.world]
    missing = [path for path in mine if recovered_facts(folder / path.name) != facts]
    if missing:
        exact_float32(task.device)
        method = build()
    for path in tqdm(missing, desc=f"{folder.parent.name} {task.condition}", unit="shard", disable=task.quiet or not task.processes.first):
        shard = read_shard(path, sha256=task.data.info["shards"][path.name]["sha256"])
        stylized, knowing = task.stylized(shard), getattr(method, "recover_knowing", None)
        if knowing:
            recovered = _recover_slowly(knowing, stylized, shard.real[shard.real_index], folder / "parts", json.dumps([path.name, facts]), task)
        else:
            recovered = recover_shard(method, stylized, task.device)
        write_recovered(folder / path.name, recovered, facts)
    task.processes.wait()
    if task.processes.first and (missing or not (folder / "preview.png").is_file()):
        write_png(folder / "preview.png", preview_sheet(task.data, task.split, folder))
    return folder


def _recover_slowly(knowing: Callable[[Tensor, Tensor], Tensor], stylized: np.ndarray, real: np.ndarray, parts: Path, facts: str, task: Task) -> np.ndarray:
    """By a method that optimises each face: in small batches, each kept in ``parts`` until the shard is whole, so that little is lost by a kill."""
    key = hashlib.sha256(facts.encode()).hexdigest()[:12]
    size = OPTIMISED_AT_ONCE["cpu" if task.device == "cpu" else "cuda"]

    def one(start: int) -> np.ndarray:
        kept = parts / f"{key}-{start:05d}.npy"
        try:
            return np.load(kept, allow_pickle=False)   # type: ignore[no-any-return]
        except (OSError, ValueError, EOFError):
            rows = slice(start, start + size)
            made = to_pictures(knowing(to_faces(stylized[rows], task.device), to_faces(real[rows], task.device)))
            buffer = io.BytesIO()
            np.save(buffer, made, allow_pickle=False)
            write_whole(kept, buffer.getvalue())
            return made

    starts = tqdm(range(0, len(stylized), size), desc="faces", unit="batch", leave=False, disable=task.quiet or not task.processes.first)
    recovered = np.concatenate(on_threads(one, starts) if task.device == "cpu" else [one(start) for start in starts])
    for kept in parts.glob(f"{key}-*.npy"):
        kept.unlink()
    return recovered


def time_faces(module: ModuleType, config: Any, data: Dataset, device: str, timed: int = 3) -> float:
    """Seconds that a method which optimises each face takes for one, all cores at work: from a few of its steps on validation faces."""
    few = replace(config, **{module.OPTIMISED: timed})
    method = module.build(few, Setup(device, training=load_split(data, "train", device)))
    split = load_split(data, "val", device, aligned=True)
    batch = split.pairs(torch.arange(OPTIMISED_AT_ONCE["cpu" if device == "cpu" else "cuda"], device=device) % len(split))
    parts = range(2 * (default_workers() or 1) if device == "cpu" else 2)

    def one(_: int) -> None:
        to_pictures(method.recover_knowing(batch.stylized, batch.real))

    one(0)   # what it looks into is looked into once
    started = time.perf_counter()
    if device == "cpu":
        on_threads(one, parts)
    else:
        for part in parts:
            one(part)
    seconds = time.perf_counter() - started
    return seconds / (len(parts) * len(batch.real)) * getattr(config, module.OPTIMISED) / timed


def recover_shard(method: Method, stylized: np.ndarray, device: str = "cpu") -> np.ndarray:
    """``recover`` in full float32, on a CPU one thread a batch: the same faces on any number of cores."""
    if device != "cpu":
        return recover(method, stylized, device=device)
    return np.concatenate(on_threads(lambda start: recover(method, stylized[start:start + BATCH]), range(0, len(stylized), BATCH)))


def alignment_errors(task: Task) -> Iterator[dict[str, Any]]:
    """How far the task's aligner is off on each SF of its split: a row of style, face, identity, ``angle_error_deg``, ``scale_error`` (a ratio) and
    ``shift_error_px`` (of the window's middle, in the frame's pixels)."""
    to_frame = window_to_frame()[:2, :2]
    middle = np.array([FACE_PX - 1, FACE_PX - 1]) / 2
    for path in task.data.shards(task.split):
        shard = read_shard(path)
        parts = np.array_split(shard.stylized, -(-len(shard.stylized) // BATCH))
        maps = [task.aligning.maps(to_faces(part, task.device)) for part in parts]  # type: ignore[attr-defined]
        for row, found in enumerate(torch.cat(maps).cpu().double().numpy()):
            pixels = in_pixels(found)
            off = to_frame @ pixels[:, :2] @ np.linalg.inv(shard.warp[row][:, :2].astype(np.float64)) @ np.linalg.inv(to_frame)   # a similarity, 1 if right
            turn = complex(off[0, 0] + off[1, 1], off[1, 0] - off[0, 1]) / 2
            shift = to_frame @ ((pixels - shard.warp[row]) @ [*middle, 1.0])
            yield {
                "style": shard.style[row].decode(), "face": shard.face[row].decode(), "identity": int(shard.identity[row]),
                "angle_error_deg": abs(np.degrees(np.angle(turn))), "scale_error": abs(abs(turn) - 1), "shift_error_px": float(np.hypot(*shift)),
            }


def in_pixels(matrix: np.ndarray, size_px: int = FACE_PX) -> np.ndarray:
    """A (2, 3) map of coordinates in [-1, 1] as one of pixel coordinates."""
    half = (size_px - 1) / 2
    linear = matrix[:, :2]
    return np.column_stack([linear, half * (matrix[:, 2] + 1) - linear.sum(1) * half])


def preview_sheet(data: Dataset, split: str, folder: Path, people: int = 4) -> np.ndarray:
    """Two rows a person of the split's first shard: the SF in every style, and what was recovered from it with the RF at the end."""
    path = data.shards(split)[0]
    shard = read_shard(path)
    recovered = read_recovered(folder / path.name, rows=len(shard.stylized))
    rows = []
    for person in np.unique(shard.real_index)[:people]:
        of_person = np.flatnonzero(shard.real_index == person)
        blank = np.full_like(shard.real[0], 255)
        rows += [[*shard.stylized[of_person], blank], [*recovered[of_person], shard.real[person]]]
    return tile(rows)


def exact_float32(device: str) -> None:
    """Float32 as it stands: no TF32, and the same kernels every time."""
    if device != "cpu":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic = True


@dataclass(frozen=True)
class Recovered:
    """What became of one picture: the ``framed`` SF and the recovered face, uint8 (128, 128, 3), or what is wrong with it; ``note`` says how it was framed."""

    path: Path
    framed: np.ndarray | None = None
    face: np.ndarray | None = None
    note: str = ""
    problem: str = ""


def recover_pictures(
    paths: Iterable[Path], method: Method, *, crop: str = "auto", device: str = "cpu", bfloat16: bool = False,
) -> Iterator[Recovered]:
    """Recover the face of each picture file; a file that is none gives its reason and the next one goes on."""
    exact_float32(device)
    for path in paths:
        try:
            framed, note = frame(read_picture(path), crop)
        except PictureError as error:
            yield Recovered(path, problem=str(error))
            continue
        yield Recovered(path, framed, recover(method, framed[None], device=device, bfloat16=bfloat16)[0], note)


def frame(picture: np.ndarray, crop: str = "auto") -> tuple[np.ndarray, str]:
    """A picture's face as a method sees it, uint8 (128, 128, 3), and a word on how it was found.

    ``auto`` is ``face`` where MTCNN finds one and ``centre`` otherwise; ``none`` takes the whole picture, for SFs that are framed already.
    """
    if crop == "none":
        return cv2.resize(picture, (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA), "the whole picture"
    faces = find_faces(picture) if crop in ("auto", "face") else []
    if faces:
        return resample(picture, framed_window(faces[0].landmarks_px), (FACE_PX, FACE_PX)), "face found"
    if crop == "face":
        raise PictureError("no face found; try --crop centre")
    note = "no face found, took the middle" if crop == "auto" else "the middle"
    return resample(picture, centre_window(picture.shape[1], picture.shape[0]), (FACE_PX, FACE_PX)), note


def write_results(results: Iterable[Recovered], out: Path, say: Callable[[str], None]) -> tuple[int, int]:
    """Write ``NAME.png`` (the recovered face) and ``NAME-compared.png`` (beside the SF), in true proportions; gives counts of good and bad files."""
    out.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    bad = 0
    for result in results:
        if result.framed is None or result.face is None:
            say(f"Error: {result.path}: {result.problem}")
            bad += 1
            continue
        name = next(name for name in _names(result.path.stem) if name not in taken)
        taken.add(name)
        framed, face = (cv2.resize(side, SHOWN_PX, interpolation=cv2.INTER_CUBIC) for side in (result.framed, result.face))
        write_png(out / f"{name}.png", face)
        write_png(out / f"{name}-compared.png", tile([[framed, face]]))
        say(f"{result.path}: {result.note}; {out / name}.png")
    return len(taken), bad


def _names(stem: str) -> Iterator[str]:
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1


def export_onnx(trained: Trained, path: Path) -> float:
    """Write the method as an ONNX model, faces (n, 3, 128, 128) in [0, 1] to the same, and give the largest difference of its reloaded answers.

    Raises InputError where the extra ``onnx`` is not installed, and for a method without a network.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"export needs the extra onnx ({error.name} is missing): pip install 'ifrp-bench[onnx]'") from None
    inference = getattr(trained.method, "inference", None)
    if inference is None:
        raise InputError(f"{type(trained.method).__name__} has no network of its own to export")
    module = inference().cpu()
    example = torch.rand(2, 3, FACE_PX, FACE_PX, generator=torch.Generator().manual_seed(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    batch = {0: torch.export.Dim.DYNAMIC}  # type: ignore[attr-defined]
    torch.onnx.export(
        module, (example,), str(path), dynamo=True, input_names=["stylized"], output_names=["recovered"], dynamic_shapes=(batch,), opset_version=20,
        external_data=False, verbose=False,
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        return max(
            float(np.abs(session.run(None, {"stylized": faces.numpy()})[0] - module(faces).numpy()).max()) for faces in (example, example[:1])
        )
