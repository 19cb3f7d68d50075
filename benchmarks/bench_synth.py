"""Synthesis against a straightforward version of itself, in one run: pictures a second of each stage, ratios,
memory.

    python benchmarks/bench_synth.py

The straightforward version takes one picture at a time through decode, warp, the plain network in float32
NCHW on all cores, and gzip-compressed HDF5, as one would write it first. Faces are rendered and stored as a
miniature CelebA, so neither side searches faces. Each figure is the median of several repetitions; ratios are
within this run, as machines are shared.
"""

import contextlib
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import cv2
import h5py
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ifrp_bench.data.format import Shard, encode_shard
from ifrp_bench.data.recipe import load_recipe
from ifrp_bench.data.styles import NAMES, SEEN, Stylizer, load_net, pick_styles
from ifrp_bench.data.synth import synthesize
from ifrp_bench.ground.precision import fast_precision
from ifrp_bench.ground.warp import (
    draw_misalignment, face_window, frame_similarity, warp_affine_cv2, window_to_frame,
)
from ifrp_bench.ground.workers import default_workers, one_thread
from ifrp_bench.nets.fast_transformer import FastTransformer
from ifrp_bench.nets.transformer import ReflectConv
from ifrp_bench.sources.celeba import open_celeba
from ifrp_bench.sources.procedural.rendering import render
from ifrp_bench.sources.procedural.traits import draw_traits

PEOPLE = 60
PRECISIONS = tuple(dict.fromkeys(("float32", fast_precision("cpu"))))   # bfloat16 where the hardware has it


def timed(function: Callable[[], Any], times: int = 5) -> float:
    """Median seconds of a call, after one to warm up."""
    function()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def write_celeba(root: Path) -> None:
    """A miniature CelebA of rendered faces: everyone but the last ten trained on, one picture each."""
    (root / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(PEOPLE)]
    for number, name in enumerate(names):
        Image.fromarray(render([draw_traits(0, number, 0)])[0]).save(
            root / "img_align_celeba" / name, quality=92
        )
    (root / "identity_CelebA.txt").write_text(
        "".join(f"{name} {number}\n" for number, name in enumerate(names))
    )
    (root / "list_eval_partition.txt").write_text(
        "".join(f"{name} {2 * (number >= PEOPLE - 10)}\n" for number, name in enumerate(names))
    )


@contextlib.contextmanager
def plain_transformers() -> Iterator[None]:
    """Transformers as one would write them first: every convolution by its definition."""
    with patch.object(ReflectConv, "forward", ReflectConv.plain), patch.object(
        ReflectConv, "upsampled", lambda conv, x: conv.plain(F.interpolate(x, scale_factor=2, mode="nearest"))
    ):
        yield


def straightforward(root: Path, out: Path, faces: int) -> int:
    """One picture at a time; gives the number of pairs written."""
    styles = pick_styles(SEEN)
    nets = {style.name: load_net(style) for style in styles}
    files = sorted((root / "img_align_celeba").glob("*.jpg"))[:faces]
    draws = np.random.default_rng(0)
    with h5py.File(out, "w") as file:
        columns = {
            name: file.create_dataset(
                name,
                (0, 128, 128, 3),
                "uint8",
                maxshape=(None, 128, 128, 3),
                chunks=(1, 128, 128, 3),
                compression="gzip",
            )
            for name in ("stylized", "real")
        }
        pairs = 0
        for path in files:
            for net in nets.values():
                picture = np.array(Image.open(path))
                turn = cv2.getRotationMatrix2D((87, 120), draws.uniform(-45, 45), draws.uniform(0.8, 1))
                warped = cv2.warpAffine(
                    picture, turn, (178, 218), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
                )
                window = cv2.resize(warped[54:187, 34:141], (256, 256), interpolation=cv2.INTER_CUBIC)
                with torch.no_grad(), plain_transformers():
                    stylized = net(torch.from_numpy(window).permute(2, 0, 1)[None].float().contiguous() / 255)
                small = cv2.resize(
                    stylized[0].permute(1, 2, 0).clamp(0, 1).numpy(), (128, 128), interpolation=cv2.INTER_AREA
                )
                real = cv2.resize(picture[54:187, 34:141], (128, 128), interpolation=cv2.INTER_CUBIC)
                for name, value in (("stylized", (small * 255).round().astype(np.uint8)), ("real", real)):
                    columns[name].resize(pairs + 1, axis=0)
                    columns[name][pairs] = value
                pairs += 1
    return pairs


def ours(root: Path, out: Path, rounds: int, precision: str) -> float:
    """Seconds for a synthesis of ``rounds`` x 150 pairs, its start included."""
    recipe = load_recipe(
        "celeba-paper",
        (
            f"train_faces={PEOPLE - 10}",
            "val_faces=0",
            "test_faces=0",
            f"precision={precision}",
            "shard_pairs=30",
            "train_styles=" + ",".join((NAMES * rounds)[: 3 * rounds]),
        ),
    )
    start = time.perf_counter()
    synthesize(recipe, out, faces=root, workers=default_workers(), quiet=True)
    return time.perf_counter() - start


def stages(root: Path) -> None:
    """Milliseconds a pair of every stage on one core."""
    source = open_celeba(root)
    face = source.faces()[0]
    frame = source.read(face)
    misalignment = draw_misalignment("lab", 0)
    window = face_window(frame, misalignment, size_px=256)[None]
    pictures = np.random.default_rng(0).integers(0, 256, (300, 128, 128, 3), dtype=np.uint8)
    shard = Shard(
        pictures,
        pictures[:100],
        np.zeros(300, np.int32),
        np.array([b"candy"] * 300),
        np.array([b"x"] * 300),
        np.zeros(300, np.int32),
        np.zeros((300, 2, 3), np.float32),
    )
    with one_thread():
        print("\nstage, one core                        ms a pair")
        print(f"  read and decode (shared by 3 styles)   {1000 * timed(lambda: source.read(face)) / 3:8.2f}")
        print(
            "  warp to 256 px                        "
            f" {1000 * timed(lambda: face_window(frame, misalignment, size_px=256)):8.2f}"
        )
        for precision in PRECISIONS:
            stylizer = Stylizer(pick_styles(("candy",)), precision=precision, device="cpu", batch_size=1)
            print(
                f"  stylize, {precision:<9}                    "
                f" {1000 * timed(lambda: stylizer('candy', window, 128)):8.2f}"
            )
        print(
            f"  encode the shard                       {1000 * timed(lambda: encode_shard(shard)) / 300:8.2f}"
        )
        print(
            "  render a face (demo; shared by 3)     "
            f" {1000 * timed(lambda: [render([draw_traits(0, n, 0)]) for n in range(5)]) / 15:8.2f}"
        )
        net = load_net(pick_styles(("candy",))[0])
        faces = torch.rand(1, 3, 256, 256)
        with torch.inference_mode(), plain_transformers():
            plain = timed(lambda: net(faces))
        for precision in PRECISIONS:
            fast = FastTransformer(net, getattr(torch, precision))
            print(
                f"  network: exact rewrite in {precision:<9}    {plain / timed(lambda: fast(faces)):8.1f} x"
                " its definition"
            )
        source_map = np.linalg.inv(np.linalg.inv(frame_similarity(misalignment)) @ window_to_frame(256))
        direct = timed(lambda: warp_affine_cv2(frame, source_map, (256, 256), cv2.BORDER_REFLECT_101), 50)
        print(
            "  warp through albumentations           "
            f" {timed(lambda: face_window(frame, misalignment, size_px=256), 50) / direct:8.2f} x cv2 alone"
        )
    imports = [
        timed(lambda text=text: subprocess.run([sys.executable, "-c", text], check=True), 3)
        for text in (
            "import torch, cv2, scipy",
            "import torch, cv2, scipy; from albumentations.augmentations.geometric import functional",
        )
    ]
    print(f"  importing albumentations adds {imports[1] - imports[0]:.1f} s to a process")


def main() -> None:
    print(
        f"{platform.machine()}, {default_workers()} processes, torch {torch.__version__},"
        f" {torch.backends.cpu.get_cpu_capability()}"
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_celeba(root / "celeba")
        plain, start, whole = [], [], {precision: [] for precision in PRECISIONS}
        for repetition in range(3):
            begun = time.perf_counter()
            pairs = straightforward(root / "celeba", root / f"plain{repetition}.h5", 20)
            plain.append(pairs / (time.perf_counter() - begun))
            for precision, rates in whole.items():
                short = ours(root / "celeba", root / f"{precision}{repetition}a", 1, precision)
                long = ours(root / "celeba", root / f"{precision}{repetition}b", 2, precision)
                rates.append(150 / (long - short))
                start.append(short - 150 / rates[-1])
        print(f"\nstraightforward version          {median(plain):7.1f} pairs/s")
        for precision, rates in whole.items():
            print(
                f"ifrp-bench synth, {precision:<9}      {median(rates):7.1f} pairs/s,"
                f" {median(rates) / median(plain):.1f} x"
            )
        print(f"start of a run (imports, processes) {median(start):.1f} s, not counted in the rates")
        stages(root / "celeba")
    own, children = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"\npeak memory: this process {own:.0f} MiB, largest worker {children:.0f} MiB")


if __name__ == "__main__":
    main()
