"""Where dlib's own 150 px chip lies in the canonical frame, on average over photographs: the fixed crop of
the recogniser ``dlib``. Needs dlib-bin beside face_recognition_models.

    python -m benchmarks.dlib_chip data/lfw [FACES]

dlib finds the five landmarks in each face of the training split as the data set has it in its frame; a chip
is the similarity that brings them to dlib's mean shape. Printed: the eyes, the nose tip and the mouth
corners of the frame in the mean chip, and how far single chips lie from it.
"""

import sys
from pathlib import Path

import dlib
import numpy as np

from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.pairs import open_faces
from ifrp_bench.data.plan import make_plan
from ifrp_bench.data.recipe import recipe_from
from ifrp_bench.ground.warp import TEMPLATE_PX
from ifrp_bench.nets.dlib_face import INPUT_PX, weights_path

PADDING = 0.25   # as dlib.get_face_chip


def main(root: Path, count: int = 60) -> None:
    """Print the mean chip."""
    data = open_dataset(root)
    recipe = recipe_from(data.info["recipe"], where=str(root))
    folder = Path(data.info["faces"]) if data.info["faces"] else None
    source = open_faces(
        recipe, folder, landmarks=root / "landmarks.csv", workers=0, device="cpu", quiet=True
    )
    find = dlib.get_frontal_face_detector()
    shape = dlib.shape_predictor(str(weights_path().parent / "shape_predictor_5_face_landmarks.dat"))
    placed = []
    for face in make_plan(recipe, source).faces("train")[:count]:
        frame = source.read(face)
        boxes = find(frame, 1)
        if len(boxes) != 1:
            continue
        chip = dlib.get_face_chip_details(shape(frame, boxes[0]), INPUT_PX, PADDING)
        placed.append(_in_chip(chip))
    mean = np.mean(placed, axis=0)
    off = np.linalg.norm(np.array(placed) - mean, axis=2).mean()
    print(f"{len(placed)} of {count} photographs; single chips lie {off:.1f} px of {INPUT_PX} from the mean")
    print(np.round(mean, 1).tolist())


def _in_chip(chip: "dlib.chip_details") -> np.ndarray:
    """The frame's five points (5, 2) in pixels of a chip, which is a turned square of the frame."""
    box = chip.rect
    middle = np.array([box.left() + box.right(), box.top() + box.bottom()]) / 2
    cos, sin = np.cos(chip.angle), np.sin(chip.angle)
    turned = (TEMPLATE_PX - middle) @ np.array([[cos, -sin], [sin, cos]])
    return turned * INPUT_PX / (box.right() - box.left() + 1) + (INPUT_PX - 1) / 2


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
