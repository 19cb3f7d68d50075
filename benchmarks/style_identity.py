"""How much of a person each style leaves: ROC-AUC of a recogniser between stylized faces, brought upright by
their stored warps, and other photographs of the same people. Prints a line a style and, with --write,
keeps it in the styles' cards.

    python benchmarks/style_identity.py --faces LFW --recogniser mobilefacenet.onnx \
        --landmarks data/lfw/landmarks.csv
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
import tomli_w
import torch
from tqdm import tqdm

from ifrp_bench.data.styles import Stylizer, find_styles, pick_styles
from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.ranks import roc_auc
from ifrp_bench.ground.warp import (
    FACE_PX, TEMPLATE_PX, draw_misalignment, face_window, resample, undo_warp, warp_matrix, window_to_frame,
)
from ifrp_bench.sources.folder import open_folder


class Recogniser:
    """An ONNX recogniser with its card, fed by one fixed crop of the canonical frame."""

    def __init__(self, path: Path) -> None:
        self.card = json.loads(path.with_suffix(".json").read_text())
        self.session = onnxruntime.InferenceSession(str(path))
        template = np.array(self.card["template"])   # five points in the recogniser's picture
        self.crop = _similarity(template, TEMPLATE_PX)   # its pixels to the frame's

    def __call__(self, pictures: np.ndarray, to_frame: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) of length 1 of pictures whose pixels ``to_frame`` (3, 3) takes to the frame's."""
        source = np.linalg.inv(to_frame)[:2] @ np.vstack([self.crop, [0, 0, 1]])
        size = self.card["width_px"], self.card["height_px"]
        crops = np.stack([resample(picture, source, size) for picture in pictures]).astype(np.float32)
        batches = np.array_split(
            (crops.transpose(0, 3, 1, 2) - self.card["mean"]) / self.card["std"], -(-len(crops) // 32)
        )
        name = self.session.get_inputs()[0].name
        embedded = np.concatenate(
            [self.session.run(None, {name: np.ascontiguousarray(batch)})[0] for batch in batches]
        )
        return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


def _similarity(points: np.ndarray, to: np.ndarray) -> np.ndarray:
    """(2, 3): the least-squares similarity that takes points to points (Umeyama 1991, by scikit-image)."""
    from skimage.transform import SimilarityTransform

    return SimilarityTransform.from_estimate(points, to).params[:2]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path, required=True)
    parser.add_argument("--recogniser", type=Path, required=True)
    parser.add_argument("--people", type=int, default=400)
    parser.add_argument("--style", action="append", help="Of the styles; may be repeated. [default: all]")
    parser.add_argument("--write", action="store_true", help="keep the figures in the styles' cards")
    options = parser.parse_args()
    torch.set_num_threads(2)
    source = open_folder(options.faces, landmarks=options.landmarks)
    photographs: dict[int, list] = {}
    for face in source.faces():
        photographs.setdefault(face.identity, []).append(face)
    people = [faces for faces in photographs.values() if len(faces) > 1]
    people = [people[i] for i in generator(0, "style identity").permutation(len(people))[:options.people]]
    first = [source.read(faces[0]) for faces in people]
    second = np.stack([source.read(faces[1]) for faces in people])
    recogniser = Recogniser(options.recogniser)
    gallery = recogniser(second, np.eye(3))
    window = window_to_frame(FACE_PX)
    drawn = [draw_misalignment("lab", 0, "style identity", number) for number in range(len(people))]
    same = np.eye(len(people), dtype=bool)

    def auc(upright: np.ndarray) -> float:
        scores = recogniser(upright, window) @ gallery.T
        return roc_auc(scores[same], scores[~same])

    print(
        f"{len(people)} people; photographs as they are:"
        f" {auc(np.stack([face_window(frame) for frame in first])):.3f}"
    )
    styles = {name: one for name, one in find_styles().items() if name in (options.style or find_styles())}
    stylizer = Stylizer(pick_styles(tuple(styles)), precision="float32", device="cpu", batch_size=1)
    windows = np.stack([face_window(frame, m, size_px=256) for frame, m in zip(first, drawn)])
    for name, style in styles.items():
        stylized = np.concatenate(
            [
                stylizer(name, windows[i : i + 20], FACE_PX)
                for i in tqdm(range(0, len(windows), 20), name, leave=False)
            ]
        )
        value = auc(np.stack([undo_warp(picture, warp_matrix(m)) for picture, m in zip(stylized, drawn)]))
        print(f"{name:<17}{value:.3f}")
        if options.write:
            measured = {
                "auc": round(value, 3),
                "auc_people": len(people),
                "auc_recogniser": options.recogniser.stem,
            }
            (style.folder / "card.toml").write_text(tomli_w.dumps(style.card | {"measured": measured}))


if __name__ == "__main__":
    main()
