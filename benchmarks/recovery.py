"""What trained runs recover on a test split, beside what needs no training: PSNR by style, residual rotation,
retrieval by a recogniser.

    python benchmarks/recovery.py RUN... --data data/lfw --recogniser mobilefacenet.onnx \
        --people 300 --sheet sheet.png

``copy`` is the stylized face itself, as it is (raw) and brought upright with its stored warp (oracle);
``mean-face`` the mean training RF. Rotation is the angle between MTCNN's eyes in a recovered face and in its
RF, in degrees, over faces where both are found. Retrieval: the right person among the five nearest of as many
real faces as there are people (chance: 5 / people).
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from ifrp_bench.data.format import open_dataset, read_shard
from ifrp_bench.data.runs import open_run
from ifrp_bench.data.split import load_split
from ifrp_bench.data.styles import NAMES, SEEN
from ifrp_bench.ground.images import tile, write_png
from ifrp_bench.ground.warp import undo_warp
from ifrp_bench.metrics.psnr import psnr_db
from ifrp_bench.nets.detector import find_faces
from ifrp_bench.nets.recogniser import open_recogniser
from ifrp_bench.recovery.trained import load_trained, recover

ROTATED_FACES = 25   # a style, for the detector's time


def tilt_deg(face: np.ndarray) -> float:
    """Angle of the line between the eyes, in degrees; nan where no face is found."""
    large = np.kron(face, np.ones((2, 2, 1), dtype=np.uint8))
    found = find_faces(large)
    if not found:
        return float("nan")
    right = found[0].landmarks_px[1] - found[0].landmarks_px[0]
    return float(np.degrees(np.arctan2(right[1], right[0])))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recogniser", type=Path, required=True)
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument(
        "--sheet",
        type=Path,
        help=(
            "8 people x 8 styles of the first run: stylized over recovered, a real face at the end of"
            " each row"
        ),
    )
    options = parser.parse_args()

    data = open_dataset(options.data)
    shards, people = [], 0
    for path in data.shards("test"):
        shards.append(read_shard(path))
        people += len(shards[-1].real)
        if people >= options.people:
            break
    extra = max(0, people - options.people)   # in the last shard
    keep = [shard.real_index < len(shard.real) - (extra if shard is shards[-1] else 0) for shard in shards]
    stylized, warp, style = (
        np.concatenate([getattr(shard, name)[chosen] for shard, chosen in zip(shards, keep)])
        for name in ("stylized", "warp", "style")
    )
    real = np.concatenate([shard.real for shard in shards])[:options.people]
    starts = np.cumsum([0, *(len(shard.real) for shard in shards)])
    person = np.concatenate(
        [shard.real_index[chosen] + start for shard, chosen, start in zip(shards, keep, starts)]
    )
    style = style.astype(str)
    mean = load_split(data, "train", "cpu").mean_face.numpy()

    rows = {
        "mean-face": np.broadcast_to(mean, stylized.shape), "copy, raw": stylized,
        "copy, oracle": np.stack([undo_warp(face, matrix) for face, matrix in zip(stylized, warp)]),
    }
    for root in options.runs:
        trained = load_trained(open_run(root))
        rows[f"{root.name} ({trained.step} steps)"] = recover(trained.method, stylized)

    recogniser = open_recogniser(str(options.recogniser))
    gallery = recogniser.embed(real)
    real_tilt = {number: tilt_deg(real[number]) for number in range(ROTATED_FACES)}
    print("| method | " + " | ".join(NAMES) + " | seen | unseen | rotation | top 5 seen | top 5 unseen |")
    print("|---" * (len(NAMES) + 6) + "|")
    seen = np.isin(style, SEEN)
    for name, recovered in rows.items():
        psnr = psnr_db(
            torch.from_numpy(np.ascontiguousarray(recovered)), torch.from_numpy(real[person])
        ).numpy()
        scores = recogniser.embed(recovered) @ gallery.T
        hit = (scores > scores[np.arange(len(person)), person][:, None]).sum(1) < 5
        tilts = (
            [
                abs(tilt_deg(face) - real_tilt[number])
                for face, number in zip(recovered, person)
                if number < ROTATED_FACES
            ]
            if name != "mean-face"
            else []
        )
        turned = (
            f"{np.nanmean(tilts):.1f} (of {np.isfinite(tilts).sum()} of {len(tilts)})" if len(tilts) else ""
        )
        cells = [f"{psnr[style == one].mean():.2f}" for one in NAMES] + [
            f"{psnr[seen].mean():.2f}",
            f"{psnr[~seen].mean():.2f}",
            turned,
        ]
        print(
            f"| {name} | "
            + " | ".join(cells)
            + f" | {100 * hit[seen].mean():.1f} % | {100 * hit[~seen].mean():.1f} % |",
            flush=True,
        )

    if options.sheet and options.runs:
        recovered = next(value for name, value in rows.items() if name.startswith(options.runs[0].name))
        lines = []
        for number in np.linspace(0, options.people - 1, 8).astype(int):
            order = [int(np.flatnonzero((person == number) & (style == one))[0]) for one in NAMES]
            lines += [[*stylized[order], real[number]], [*recovered[order]]]
        write_png(options.sheet, tile(lines))


if __name__ == "__main__":
    main()
