"""Stage 3: a trained run and stylized faces -> recovered faces, for a split's shards or for pictures of any origin.

A picture's face is framed (size and place, no rotation: that is the STNs' work) by MTCNN where it finds one, by the middle of the picture where it
does not. Recovered shards stand in ``RUN/recovered/<data set>/<condition>/``, row by row as in the shard of the same name.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ifrp_bench import __version__
from ifrp_bench.batches import load_split
from ifrp_bench.catalog import load_method
from ifrp_bench.errors import InputError
from ifrp_bench.images import PictureError, read_picture, tile, to_faces, to_pictures, write_png
from ifrp_bench.methods import Method, Setup
from ifrp_bench.nets.detector import find_faces
from ifrp_bench.runs import Run
from ifrp_bench.settings import settings_of
from ifrp_bench.shards import Dataset, read_recovered, read_shard, recovered_facts, write_recovered
from ifrp_bench.warp import FACE_PX, WINDOW_PX, centre_window, framed_window, resample, undo_warp

CONDITIONS = ("raw", "oracle")
BATCH = 64
SHOWN_PX = (2 * WINDOW_PX[2], 2 * WINDOW_PX[3])   # a face in its true proportions, twice the window of CelebA's frame


@dataclass(frozen=True)
class Trained:
    """A run's method with trained weights; ``step`` of ``steps`` says how far it is, ``sha256`` which checkpoint."""

    method: Method
    step: int
    steps: int
    sha256: str


def load_trained(run: Run, *, checkpoint: str = "last", device: str = "cpu") -> Trained:
    """The method of a run as a checkpoint (``last``, the end of training, or ``best`` on validation) left it.

    Averaged weights are taken where the run kept them and they were the better ones on validation.
    """
    module, _ = load_method(run.method)
    state = run.load(checkpoint)
    config = settings_of(module.Config, run.info["config"], f"{run.root}/run.json")
    try:
        method: Method = module.build(config, Setup(device, int(state["steps"]), int(run.info["loop"]["seed"])))
        method.restore(state["method"])
        if state["averaged"] and method.network is not None:
            method.network.load_state_dict(state["ema"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"{run.root}: the checkpoint {checkpoint!r} does not fit {run.method}: {' '.join(str(error).split())[:160]}") from None
    return Trained(method, state["step"], state["steps"], run.sha256(checkpoint))


def recover(method: Method, stylized: np.ndarray, *, device: str = "cpu", bfloat16: bool = False) -> np.ndarray:
    """uint8 (N, 128, 128, 3) stylized to recovered faces, in batches of 64; in float32, or faster in bfloat16."""
    recovered = []
    for start in range(0, len(stylized), BATCH):
        faces = to_faces(stylized[start:start + BATCH], device)
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            recovered.append(to_pictures(method.destylize(faces)))
    return np.concatenate(recovered) if recovered else np.empty_like(stylized)


def recover_split(
    run: Run, data: Dataset, *, split: str = "test", condition: str = "raw", checkpoint: str = "last", device: str = "cpu", quiet: bool = False,
) -> Path:
    """Recovered shards of a split; gives their folder. Shards that this checkpoint made from this data set are kept.

    ``condition`` is what the method sees: ``raw`` the SF as it is, ``oracle`` the SF brought upright with its stored warp.
    """
    if condition not in CONDITIONS:
        raise InputError(f"condition {condition!r} is none of {', '.join(CONDITIONS)}")
    trained = load_trained(run, checkpoint=checkpoint, device=device)
    folder = run.root / "recovered" / data.root.name / condition
    facts = {"data_sha256": data.sha256, "checkpoint_sha256": trained.sha256, "condition": condition}
    return _recover_shards(trained.method, data, split, condition, folder, facts, device=device, quiet=quiet)


def recover_untrained(name: str, data: Dataset, out: Path, *, split: str = "test", condition: str = "raw", device: str = "cpu", quiet: bool = False) -> Path:
    """Recovered shards of a method that is not trained (the difficulty rows), into ``out/NAME/CONDITION``; gives their folder."""
    module, settings = load_method(name)
    if module.TRAINABLE:
        raise InputError(f"{name} is trained: evaluate a run of it")
    method: Method = module.build(module.Config(**settings), Setup(device, training=load_split(data, "train", device)))
    facts = {"data_sha256": data.sha256, "method": name, "version": __version__, "condition": condition}
    return _recover_shards(method, data, split, condition, out / name / condition, facts, device=device, quiet=quiet)


def _recover_shards(
    method: Method, data: Dataset, split: str, condition: str, folder: Path, facts: dict[str, str], *, device: str, quiet: bool,
) -> Path:
    exact_float32(device)
    made = False
    for path in tqdm(data.shards(split), desc=f"{folder.parent.name} {condition}", unit="shard", disable=quiet):
        target = folder / path.name
        if recovered_facts(target) == facts:
            continue
        shard = read_shard(path, sha256=data.info["shards"][path.name]["sha256"])
        stylized = shard.stylized
        if condition == "oracle":
            stylized = np.stack([undo_warp(face, warp) for face, warp in zip(stylized, shard.warp)])
        write_recovered(target, recover(method, stylized, device=device), facts)
        made = True
    if made:
        write_png(folder / "preview.png", preview_sheet(data, split, folder))
    return folder


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
