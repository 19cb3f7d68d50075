"""Face recognisers for evaluation: an ONNX file with a card, or FaceNet. Queries and gallery get the same fixed crop of the canonical frame, never a
detector; no recogniser here is part of a training loss unless the user made it one, and then the tables say so.
"""

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ifrp_bench.errors import InputError
from ifrp_bench.warp import TEMPLATE_PX, resample, similarity, window_to_frame
from ifrp_bench.weights import sha256_of

BATCH = 32   # faces a session sees at once
CARD_FIELDS = ("name", "height_px", "width_px", "mean", "std", "template")


class Recogniser(Protocol):
    """Embeddings of unit length, float32 (N, D), of uint8 (N, 128, 128, 3) faces; ``name`` and ``sha256`` say whose."""

    name: str
    sha256: str

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """(N, 128, 128, 3) to (N, D)."""
        ...


class OnnxRecogniser:
    """An ONNX file, faces float32 (N, 3, H, W) to embeddings, with a card of the same name (``.json``).

    The card says ``name``, ``height_px``, ``width_px``, ``mean`` and ``std`` of the values, and ``template``: where the two eyes, the nose tip and the mouth
    corners lie in its picture; ``channels`` is RGB unless it says BGR. Raises InputError for a file or card that is not so.
    """

    def __init__(self, path: Path) -> None:
        self.card = _read_card(path.with_suffix(".json"))
        self.name, self.sha256 = str(self.card["name"]), sha256_of(path) if path.is_file() else ""
        self.session = _open_session(path)
        self.input = self.session.get_inputs()[0].name
        crop = similarity(np.array(self.card["template"], dtype=np.float64), TEMPLATE_PX)   # the recogniser's pixels to the frame's
        self.source = np.linalg.inv(window_to_frame())[:2] @ np.vstack([crop, [0, 0, 1]])   # and on to the face's

    def embed(self, faces: np.ndarray) -> np.ndarray:
        size = int(self.card["width_px"]), int(self.card["height_px"])
        found = []
        for start in range(0, len(faces), BATCH):
            crops = np.stack([resample(face, self.source, size) for face in faces[start:start + BATCH]]).astype(np.float32)
            if self.card.get("channels", "RGB") == "BGR":
                crops = crops[..., ::-1]
            values = (crops.transpose(0, 3, 1, 2) - np.float32(self.card["mean"])) / np.float32(self.card["std"])
            found.append(self.session.run(None, {self.input: np.ascontiguousarray(values)})[0])
        embedded = np.concatenate(found)
        return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: a recogniser has a card beside it, with {', '.join(CARD_FIELDS)}") from None
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
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:   # onnxruntime's errors have no base of their own
        raise InputError(f"{path}: not an ONNX model: {' '.join(str(error).split())[:120]}") from None


class FaceNetRecogniser:
    """facenet-pytorch's InceptionResnetV1, VGGFace2; fetched before."""

    name = "facenet"

    def __init__(self, device: str = "cpu") -> None:
        from ifrp_bench.nets.facenet import FaceNet

        self.net = FaceNet().to(device)
        self.sha256, self.device = self.net.sha256, device

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """(N, 128, 128, 3) to (N, 512)."""
        import torch

        from ifrp_bench.images import to_faces

        with torch.inference_mode():
            parts = [self.net(to_faces(faces[start:start + BATCH], self.device)).cpu().numpy() for start in range(0, len(faces), BATCH)]
        return np.concatenate(parts)


def open_recogniser(name: str, device: str = "cpu") -> Recogniser:
    """``facenet``, or an ONNX file with its card. Raises InputError for another name and for files that are none."""
    if name == "facenet":
        return FaceNetRecogniser(device)
    if name.endswith(".onnx"):
        return OnnxRecogniser(Path(name))
    raise InputError(f"recogniser {name!r}: expected facenet or an .onnx file with a card beside it")
