"""What the rendered faces are worth: does a detector find them, does a recogniser tell them apart, how fast
do they come?

    python benchmarks/procedural_identity.py --recogniser mobilefacenet.onnx
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from style_identity import Recogniser

from ifrp_bench.ground.ranks import roc_auc
from ifrp_bench.ground.warp import TEMPLATE_PX
from ifrp_bench.ground.workers import default_workers, map_in_order
from ifrp_bench.nets.detector import find_faces
from ifrp_bench.sources.procedural.rendering import render
from ifrp_bench.sources.procedural.traits import draw_traits


def picture(job: tuple[int, int]) -> np.ndarray:
    """One rendered face."""
    return render([draw_traits(0, *job)])[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recogniser", type=Path, required=True)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--detect", type=int, default=500)
    options = parser.parse_args()

    jobs = [(person, moment) for person in range(options.people) for moment in range(3)]
    rendering = map_in_order(
        picture, jobs, workers=default_workers(), initializer=torch.set_num_threads, arguments=(1,)
    )
    frames = [next(rendering)]
    start = time.perf_counter()   # processes are up
    frames += list(rendering)
    print(f"{(len(jobs) - 1) / (time.perf_counter() - start):.1f} faces/s on {default_workers()} processes")

    embeddings = Recogniser(options.recogniser)(np.stack(frames), np.eye(3))
    scores = embeddings @ embeddings.T
    people = np.array([person for person, _ in jobs])
    upper = np.triu_indices(len(jobs), 1)
    same = (people[:, None] == people[None])[upper]
    values = scores[upper]
    print(f"{options.people} people x 3: ROC-AUC {roc_auc(values[same], values[~same]):.4f}, "
          f"mean genuine cosine {values[same].mean():.3f}, impostor {values[~same].mean():.3f}")

    found = [find_faces(frame) for frame in frames[:options.detect]]
    eyes = np.array([np.abs(faces[0].landmarks_px[:2] - TEMPLATE_PX[:2]).max() for faces in found if faces])
    print(
        f"MTCNN (p >= 0.9) finds {sum(map(bool, found))} of {len(found)}; median distance of its eyes from"
        f" the template {np.median(eyes):.1f} px"
    )


if __name__ == "__main__":
    main()
