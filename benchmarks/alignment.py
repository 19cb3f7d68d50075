"""How well photographs are aligned: faces are searched again on the aligned pictures and their eyes compared
with CelebA's template. Writes a contact sheet of a hundred aligned faces to look at.

    python benchmarks/alignment.py --faces LFW --landmarks data/lfw/landmarks.csv --sheet aligned.png
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.images import tile, write_png
from ifrp_bench.ground.warp import TEMPLATE_PX
from ifrp_bench.nets.detector import find_faces
from ifrp_bench.sources.folder import open_folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    source = open_folder(options.faces, landmarks=options.landmarks)
    faces = source.faces()
    chosen = [faces[i] for i in generator(0, "alignment").permutation(len(faces))[:options.count]]
    frames = [source.read(face) for face in tqdm(chosen)]
    off = []
    for frame in tqdm(frames, leave=False):
        found = find_faces(frame)
        off.append(np.hypot(*(found[0].landmarks_px[:2] - TEMPLATE_PX[:2]).T) if found else [np.inf, np.inf])
    eyes = np.array(off)   # (faces, 2)
    worst = eyes.max(axis=1)
    print(
        f"{len(faces)} faces used, {len(source.skipped())} left out:"
        f" {[(entry.name, entry.reason) for entry in source.skipped()[:5]]}"
    )
    shares = ", ".join(f"{limit} px {(worst <= limit).mean():.1%}" for limit in (1, 2, 4))
    print(
        f"of {eyes.size} eyes within 2 px: {(eyes <= 2).mean():.1%}; of {len(worst)} faces both eyes within"
        f" {shares}"
    )
    print(f"not found again: {np.isinf(worst).sum()}")
    if options.sheet:
        write_png(
            options.sheet, tile([frames[row : row + 20] for row in range(0, min(100, len(frames)), 20)], 2)
        )


if __name__ == "__main__":
    main()
