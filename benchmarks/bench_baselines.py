"""What the speed of the baselines' steps is made of, as ratios in one run: each method's step at its `cpu`
preset's batch size against the same step eager, in float32, NCHW, with torch's own padding and one pair at
a time; Gatys' optimiser with many faces against one face at a time.

    python benchmarks/bench_baselines.py --data data/lfw

Both run in this process, in turns; the median of all steps counts. Memory is kept between steps for both
(``memory.py``), so its gain is not in the ratios.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from bench_synth import plain_transformers
from torch import Tensor
from torch.nn import functional as F

from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.split import load_split
from ifrp_bench.ground import memory
from ifrp_bench.ground.provenance import fingerprint
from ifrp_bench.ground.workers import on_threads
from ifrp_bench.methods import Pairs, Recoverer, Setup
from ifrp_bench.methods.gatys import Config as GatysConfig, Gatys
from ifrp_bench.nets import transformer, vgg, winograd
from ifrp_bench.training.resolve import resolve

METHODS = ("aligner", "johnson", "mgan", "pix2pix", "cyclegan")
ROUNDS, STEPS = 2, 3
GATYS_STEPS = 5


class PlainSetup(Setup):
    """Nothing that makes it fast."""

    def autocast(self):
        return contextlib.nullcontext()

    def place(self, network, memory_format=torch.contiguous_format):
        return network.to(self.device)


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Padding, convolutions and Gram matrices by their definitions, as torch differentiates them."""
    def product(features: Tensor) -> Tensor:
        n, c, h, w = features.shape
        flat = features.reshape(n, c, h * w)
        return flat @ flat.transpose(1, 2) / (c * h * w)

    with contextlib.ExitStack() as stack:
        for module in (transformer, vgg):
            stack.enter_context(
                patch.object(module, "reflect_pad", lambda x, size: F.pad(x, (size,) * 4, mode="reflect"))
            )
        stack.enter_context(patch.object(winograd, "pays", lambda *_: False))
        stack.enter_context(patch.object(vgg, "gram", product))
        stack.enter_context(plain_transformers())
        yield


def step_seconds(method: Recoverer, batch: Pairs) -> list[float]:
    """Of a few steps after one to warm up."""
    taken = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        for value in method.step(batch).values():
            float(value)
        taken.append(time.perf_counter() - started)
    return taken[1:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    print(fingerprint(options.device), f"{torch.get_num_threads()} threads")
    memory.keep()
    split = load_split(open_dataset(options.data), "val", options.device, upright=True)

    for name in METHODS:
        job = resolve(name, "cpu", {})
        loop, build = job.trained, job.part.declared.build
        ours = build(job.config, Setup(options.device, 1000))
        plain = build(job.config, PlainSetup(options.device, 1000))
        batch = split.pairs(torch.arange(loop.batch_size) % len(split))
        one = split.pairs(torch.arange(1))
        one = Pairs(one.stylized.contiguous(), one.real.contiguous(), one.warp)
        fast, slow = [], []
        for _ in range(ROUNDS):
            fast += step_seconds(ours, batch)
            with plainly():
                slow += step_seconds(plain, one)
        rates = loop.batch_size / statistics.median(fast), len(one.real) / statistics.median(slow)
        print(
            f"{name}: {rates[0]:.1f} pairs/s in batches of {loop.batch_size}, {rates[1]:.1f} plain, one at a"
            f" time: {rates[0] / rates[1]:.1f} x",
            flush=True,
        )

    stylized, real = split.pairs(torch.arange(16)).stylized, split.pairs(torch.arange(16)).real
    method = Gatys(GatysConfig(style="own", steps_per_face=GATYS_STEPS), Setup(options.device))
    plain = Gatys(GatysConfig(style="own", steps_per_face=GATYS_STEPS), PlainSetup(options.device))
    together, alone = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        on_threads(lambda start: method.transfer(stylized[start:start + 8], real[start:start + 8]), (0, 8))
        together.append((time.perf_counter() - started) / 16)
        started = time.perf_counter()
        with plainly():
            for row in range(4):
                plain.transfer(stylized[row:row + 1].contiguous(), real[row:row + 1].contiguous())
        alone.append((time.perf_counter() - started) / 4)
    times = [1e3 * statistics.median(values) / GATYS_STEPS for values in (together, alone)]
    print(
        f"gatys: {times[0]:.1f} ms a face and step in batches, {times[1]:.1f} plain, one face at a time:"
        f" {times[1] / times[0]:.1f} x"
    )


if __name__ == "__main__":
    main()
