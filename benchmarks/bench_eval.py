"""What evaluation takes at the paper's size: 8,000 recovered faces of 1,000 people, all metrics, cold and
with everything kept; SSIM and retrieval alone.

    python benchmarks/bench_eval.py --data data/lfw --recogniser mobilefacenet.onnx

The 8,000 rows are the test split's, repeated under new names; the method is ``copy``, whose own time is
nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from skimage.metrics import structural_similarity

from ifrp_bench import parts
from ifrp_bench.data.format import Shard, open_dataset, read_shard, write_info, write_shard
from ifrp_bench.data.styles import NAMES
from ifrp_bench.ground.provenance import fingerprint
from ifrp_bench.ground.ranks import rank_queries
from ifrp_bench.results.evaluate import picture_scores

PEOPLE, PEOPLE_A_SHARD = 1000, 62
CHILD = """
import resource, sys
from ifrp_bench.cli import cli
try:
    cli()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def paper_sized(source: Path, out: Path) -> None:
    """A test-only data set of 1,000 people in eight styles."""
    info = open_dataset(source).info
    shards = [read_shard(path) for path in open_dataset(source).shards("test")]
    real = np.concatenate([shard.real for shard in shards])
    stylized = np.concatenate(
        [shard.stylized.reshape(len(shard.real), len(NAMES), *shard.stylized.shape[1:]) for shard in shards]
    )
    entries = {}
    for number, start in enumerate(range(0, PEOPLE, PEOPLE_A_SHARD)):
        people = np.arange(start, min(start + PEOPLE_A_SHARD, PEOPLE))
        count = len(people)
        rows = people % len(real)
        entries[f"test-{number:05d}.h5"] = {"split": "test"} | write_shard(
            out / f"test-{number:05d}.h5",
            Shard(
                stylized[rows].reshape(-1, *stylized.shape[2:]),
                real[rows],
                np.repeat(np.arange(count, dtype=np.int32), len(NAMES)),
                np.array([name.encode() for name in NAMES] * count),
                np.repeat(np.array([f"face{person:05d}".encode() for person in people]), len(NAMES)),
                np.repeat(people.astype(np.int32), len(NAMES)),
                np.tile(np.eye(2, 3, dtype=np.float32), (count * len(NAMES), 1, 1)),
            ),
        )
    empty = {"faces": 0, "pairs": 0}
    counts = {
        "shards": len(entries),
        "train": empty,
        "val": empty,
        "test": {"faces": PEOPLE, "pairs": PEOPLE * len(NAMES)},
    }
    write_info(out, info | {"counts": counts, "shards": entries})


def timed_eval(data: Path, out: Path, recogniser: str) -> tuple[float, float]:
    """Seconds of the whole command, and its peak memory in GiB."""
    command = [
        sys.executable,
        "-c",
        CHILD,
        "eval",
        "--data",
        str(data),
        "--recogniser",
        recogniser,
        "--device",
        "cpu",
        "--out",
        str(out),
        "--quiet",
    ]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, int(done.stderr.strip().split()[-1]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--recogniser", default="builtin")
    options = parser.parse_args()
    print(
        f"{json.dumps(fingerprint('cpu'))}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}"
    )

    with TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        paper_sized(options.data, data)
        for word in ("cold", "everything kept"):
            seconds, memory = timed_eval(data, Path(folder) / "out", options.recogniser)
            print(
                f"eval, 8,000 faces, PSNR + SSIM + FRR + FCR + VR, tables and report, {word}: {seconds:.1f}"
                f" s, {memory:.2f} GiB"
            )
        shard = read_shard(next(data.glob("test-*.h5")))

    faces, real = shard.stylized[:256], shard.real[shard.real_index[:256]]
    luma = [np.float64(pictures) @ [0.299, 0.587, 0.114] for pictures in (faces, real)]
    ssim = parts.metric("ssim").opened()
    ours, theirs = [], []
    for _ in range(3):
        started = time.perf_counter()
        picture_scores(ssim, faces, real)   # luma and RGB
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        for one, other in zip(*luma):
            structural_similarity(
                one, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
            )
        for one, other in zip(faces, real):
            structural_similarity(
                one,
                other,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=255,
                channel_axis=2,
            )
        theirs.append(time.perf_counter() - started)
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(
        f"SSIM (luma and RGB): {len(faces) / statistics.median(ours):.0f} faces/s, {ratio:.1f} x"
        " scikit-image's loop"
    )

    vectors = np.random.default_rng(0).normal(size=(2, 8000, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    started = time.perf_counter()
    rank_queries(vectors[0], vectors[1], np.arange(8000))
    print(f"retrieval, 8,000 queries among 8,000 faces: {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
