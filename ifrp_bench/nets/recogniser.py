"""Face recognisers for evaluation: the embedded one, FaceNet, dlib's, or an ONNX file with a card. Queries
and gallery get the same fixed crop of the canonical frame, never a detector; no recogniser here is part of a
training loss unless the user made it one, and then the tables say so.

On a CPU faces are embedded one at a time, each on one thread: a face's embedding depends on neither its
neighbours nor the number of cores.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of
from ifrp_bench.ground.images import to_faces
from ifrp_bench.ground.precision import exact_float32
from ifrp_bench.ground.warp import TEMPLATE_PX, resample, similarity, window_to_frame
from ifrp_bench.ground.weights import fetched_weights
from ifrp_bench.ground.workers import on_threads
from ifrp_bench.nets import dlib_face

GPU_BATCH = 256
SAME = 0.9999   # cosine to the expected embedding of ``probe_face`` that passes as the same network
CARD_FIELDS = ("name", "height_px", "width_px", "mean", "std", "template")
NAMES = ("builtin", "facenet", "dlib")
FOR_PHOTOGRAPHS = ("facenet", "dlib")   # trained on photographs, in the order in which they are taken


class Recogniser(Protocol):
    """Embeddings of unit length, float32 (N, D), of uint8 (N, 128,
    128, 3) faces; ``name`` and ``sha256`` say whose.
    """

    name: str
    sha256: str

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """(N, 128, 128, 3) to (N, D)."""
        ...


def probe_face() -> np.ndarray:
    """A picture made of whole numbers alone, the same everywhere, uint8 (1,
    128, 128, 3): what a recogniser's self-test looks at.
    """
    y, x = np.mgrid[:128, :128]
    planes = [
        (x * 3 + y * y // 16) % 256,
        (y * 2 + (x - 64) ** 2 // 32) % 256,
        ((x + y) * 2 + x * y // 64) % 256,
    ]
    return np.stack(planes, 2).astype(np.uint8)[None]


def check_recogniser(recogniser: Recogniser, expected: list[float]) -> None:
    """Whether a recogniser returns what it did when its card was written.

    Raises InputError where a library's release or a file changed it.
    """
    found = recogniser.embed(probe_face())[0]
    cosine = (
        float(found @ np.asarray(expected, dtype=np.float32)) if len(found) == len(expected) else float("nan")
    )
    if not cosine >= SAME:
        raise InputError(
            f"the recogniser {recogniser.name} fails its self-test: cosine {cosine:.5f} to the embedding its"
            f" card expects, at least {SAME} wanted; its file, its card or the library that runs it has"
            " changed"
        )


class TorchRecogniser:
    """A network from faces (N, 3, 128, 128) in [0, 1] to embeddings of unit length."""

    def __init__(self, name: str, net: nn.Module, sha256: str, device: str = "cpu") -> None:
        self.name, self.sha256, self.device = name, sha256, device
        self.net = net.to(device)

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """(N, 128, 128, 3) to (N, D); in full float32 on a GPU too."""
        if self.device == "cpu":
            return np.concatenate(on_threads(self._embed, np.split(faces, len(faces))))
        exact_float32(self.device)
        return np.concatenate(
            [self._embed(faces[start : start + GPU_BATCH]) for start in range(0, len(faces), GPU_BATCH)]
        )

    def _embed(self, faces: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.net(to_faces(faces, self.device)).cpu().numpy()   # type: ignore[no-any-return]


class _Crop:
    """The fixed crop of a recogniser: uint8 (128, 128, 3) faces to its picture of (width, height), in which
    the frame's five points lie at ``template``; the window's anisotropy is undone on the way.
    """

    def __init__(self, template: Sequence[Sequence[float]], size: tuple[int, int]) -> None:
        self.size = size
        # the recogniser's pixels to the frame's
        to_frame = similarity(np.array(template, dtype=np.float64), TEMPLATE_PX)
        # and on to the face's
        self.source = np.linalg.inv(window_to_frame())[:2] @ np.vstack([to_frame, [0, 0, 1]])

    def __call__(self, face: np.ndarray) -> np.ndarray:
        return resample(face, self.source, self.size)


class CroppedRecogniser:
    """A network from crops (N, 3, H, W) in [0, 255] to embeddings of unit length."""

    def __init__(
        self, name: str, net: nn.Module, sha256: str, crop: "_Crop", device: str,
    ) -> None:
        self.name, self.sha256, self.crop, self.device = name, sha256, crop, device
        self.net = net.to(device)

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """(N, 128, 128, 3) to (N, D); in full float32 on a GPU too."""
        if self.device == "cpu":
            return np.concatenate(on_threads(lambda face: self._embed(self.crop(face)[None]), faces))
        exact_float32(self.device)
        crops = np.stack(on_threads(self.crop, faces))
        starts = range(0, len(crops), GPU_BATCH)
        return np.concatenate([self._embed(crops[start:start + GPU_BATCH]) for start in starts])

    def _embed(self, crops: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            pixels = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2).float()
            return self.net(pixels).cpu().numpy()   # type: ignore[no-any-return]


class OnnxRecogniser:
    """An ONNX file, faces float32 (N, 3, H, W) to embeddings, with a card of the same name (``.json``).

    The card says ``name``, ``height_px``, ``width_px``, ``mean`` and ``std`` of the values, and ``template``:
    where the two eyes, the nose tip and the mouth corners lie in its picture; ``channels`` is RGB unless it
    says BGR; ``expected``, where it is there, is the embedding of ``probe_face``, which is checked. Raises
    InputError for a file or card that is not so.
    """

    def __init__(self, path: Path) -> None:
        self.card = _read_card(path.with_suffix(".json"))
        self.name, self.sha256 = str(self.card["name"]), sha256_of(path) if path.is_file() else ""
        self.session = _open_session(path)
        self.input = self.session.get_inputs()[0].name
        self.crop = _Crop(self.card["template"], (int(self.card["width_px"]), int(self.card["height_px"])))
        if "expected" in self.card:
            check_recogniser(self, self.card["expected"])

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """(N, 128, 128, 3) to (N, D). Raises InputError for a model that does not take what its card says."""
        embedded = np.concatenate(on_threads(self._embed, faces))
        return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)

    def _embed(self, face: np.ndarray) -> np.ndarray:
        crop = self.crop(face).astype(np.float32)
        if self.card.get("channels", "RGB") == "BGR":
            crop = crop[..., ::-1]
        values = (crop.transpose(2, 0, 1)[None] - np.float32(self.card["mean"])) / np.float32(
            self.card["std"]
        )
        try:
            return np.asarray(self.session.run(None, {self.input: np.ascontiguousarray(values)})[0]).reshape(
                1, -1
            )
        except Exception as error:   # onnxruntime's errors have no base of their own
            raise InputError(
                f"the recogniser {self.name} does not take {values.shape} as its card says:"
                f" {' '.join(str(error).split())[:120]}"
            ) from None


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: a recogniser has a card beside it, with {', '.join(CARD_FIELDS)}"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a card: {error}") from None
    missing = [field for field in CARD_FIELDS if not isinstance(card, dict) or field not in card]
    if missing:
        raise InputError(f"{path}: the field {missing[0]!r} is missing; a card has {', '.join(CARD_FIELDS)}")
    if np.shape(card["template"]) != (5, 2):
        raise InputError(f"{path}: template is {np.shape(card['template'])}, expected five points (x, y)")
    return card


def _open_session(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        import onnxruntime
    except ImportError:
        raise InputError("an ONNX recogniser needs the extra onnx: pip install 'ifrp-bench[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1   # threads are taken by faces
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:   # onnxruntime's errors have no base of their own
        raise InputError(f"{path}: not an ONNX model: {' '.join(str(error).split())[:120]}") from None


def open_recogniser(name: str, device: str = "cpu") -> Recogniser:
    """``builtin``, ``facenet``, ``dlib``, or an ONNX file with its card.

    Raises InputError for another name and for files that are none.
    """
    if name.endswith(".onnx"):
        return OnnxRecogniser(Path(name))
    openers: dict[str, Callable[[str], Recogniser]] = {
        "builtin": _open_builtin, "facenet": _open_facenet, "dlib": _open_dlib,
    }
    if name not in openers:
        raise InputError(
            f"recogniser {name!r}: expected {', '.join(NAMES)}, or an .onnx file with a card beside it"
        )
    return openers[name](device)


def best_installed(*, rendered: bool) -> str:
    """The recogniser for faces that are rendered or photographed, of those at hand.

    The embedded one knows rendered faces alone: for photographs it is taken where there is no other.
    """
    if rendered:
        return NAMES[0]
    for name in FOR_PHOTOGRAPHS:
        try:
            _PLACES[name]()
        except InputError:
            continue
        return name
    return NAMES[0]


_PLACES: dict[str, Callable[[], Path]] = {   # of their weights; they raise where there are none
    "facenet": lambda: fetched_weights("facenet"),
    "dlib": dlib_face.weights_path,
}


def _open_builtin(device: str) -> Recogniser:
    from ifrp_bench.nets.embedder import load_embedder

    net, sha256, card = load_embedder()
    recogniser = TorchRecogniser("builtin", net, sha256, device)
    check_recogniser(recogniser, card["expected"])
    return recogniser


def _open_facenet(device: str) -> Recogniser:
    from ifrp_bench.nets.facenet import FaceNet

    net = FaceNet()   # its weights' sha256 is checked; what it returns is written into results.json
    return TorchRecogniser("facenet", net, net.sha256, device)


def _open_dlib(device: str) -> Recogniser:
    net = dlib_face.DlibFace()
    crop = _Crop(net.card["template"], (net.card["width_px"], net.card["height_px"]))
    recogniser = CroppedRecogniser("dlib", net, net.card["sha256"], crop, device)
    check_recogniser(recogniser, net.card["expected"])
    return recogniser
