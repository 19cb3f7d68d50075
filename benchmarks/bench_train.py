"""What the speed of training and of use is made of, as ratios in one run.

    python benchmarks/bench_train.py --data data/lfw

*Plain* is IFRP's step as one writes it first: eager float32, NCHW, every convolution after an upsampling
computed at the large size, memory given back to the system. Each variant is a process of its own (their
allocators differ), the variants take turns, and the median of all their steps counts. Both start from the
same weights and see the same batches: their losses are printed beside those of another seed.
"""

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F

from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.split import load_split
from ifrp_bench.ground import memory
from ifrp_bench.ground.compiler import compiler
from ifrp_bench.ground.precision import has_bfloat16
from ifrp_bench.ground.provenance import fingerprint
from ifrp_bench.methods import Setup
from ifrp_bench.methods.ifrp.fast import Destylizer, FastSRN
from ifrp_bench.methods.ifrp.method import IFRP, Config
from ifrp_bench.nets import winograd
from ifrp_bench.training.batches import Batches

ROUNDS, STEPS = 2, 4   # turns of each variant, steps in a turn after one to warm up


class PlainSetup(Setup):
    """Nothing that makes it fast."""

    def autocast(self):
        return contextlib.nullcontext()

    def place(self, network):
        return network.to(self.device)


def plain_forward(grown, faces, px, share, told):
    """SRN by its tables, as ``tests/test_ifrp.py`` has it."""
    srn, found = grown.srn, None
    x = faces.contiguous()
    for layer in srn.encoder.values():
        x, parameters = layer(x)
        found = parameters if found is None else found
    x = srn.fc(x.flatten(1)).view(x.shape)
    for layer in srn.decoder.values():
        x = F.interpolate(x, scale_factor=2) if layer.doubles else x
        x = x if layer.stn is None else layer.stn(x)
        x = F.relu(layer.norm(F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=layer.conv.padding)))
    return F.conv2d(x, srn.d8.weight, srn.d8.bias, padding=2), found


def steps(variant: str, data: Path, batch_size: int, seed: int, device: str) -> None:
    """Print the seconds and pixel losses of a few steps as JSON: the child process."""
    batches = Batches(load_split(open_dataset(data), "train", device), batch_size, 0)
    config = Config(gate=False, warm_up=False, optimizer="adam", identity_weight=0.01)
    if variant == "plain":
        winograd.pays = lambda *_: False
        method = IFRP(config, PlainSetup(device, 1000, seed))
        method.call_grown = lambda *arguments: plain_forward(method.grown, *arguments)
    else:
        memory.keep()
        method = IFRP(
            config, Setup(device, 1000, seed, compiler(device, "on" if variant == "compiled" else "auto"))
        )
    seconds, losses = [], []
    for number in range(STEPS + 1):
        started = time.perf_counter()
        losses.append(float(method.step(batches.at(number))["pixel"]))
        seconds.append(time.perf_counter() - started)
    peak = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        if device == "cpu"
        else torch.cuda.max_memory_allocated() / 2**30
    )
    print(json.dumps({"seconds": seconds[1:], "losses": losses, "peak_gib": peak}))


def child(variant: str, options: argparse.Namespace, seed: int = 0, batch_size: int = 0) -> dict:
    command = [
        sys.executable,
        __file__,
        "--variant",
        variant,
        "--data",
        str(options.data),
        "--batch-size",
        str(batch_size or options.batch_size),
        "--seed",
        str(seed),
        "--device",
        options.device,
    ]
    return json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )


def milliseconds(
    network: torch.nn.Module, faces: torch.Tensor, bfloat16: bool = False, repeats: int = 15
) -> float:
    """Median time of a pass."""
    times = []
    with torch.inference_mode(), torch.autocast(faces.device.type, torch.bfloat16, enabled=bfloat16):
        for _ in range(repeats + 3):
            started = time.perf_counter()
            network(faces).sum().item()
            times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[3:])


def print_apart(data: Path, batch_size: int, device: str) -> None:
    """A step in which the parts are trained apart against one in which they are together, by turns, at each
    size of growing.
    """
    pairs = Batches(load_split(open_dataset(data), "train", device), batch_size, 0).at(0)
    for px, growing in ((32, {"grow_32": 0.99}), (64, {"grow_64": 0.99}), (128, {})):
        config = Config(losses="srn", optimizer="adam", align_weight=4.0, **growing)
        trained = {
            name: IFRP(replace(config, apart=apart), Setup(device, 1000))
            for name, apart in (("together", 0.0), ("apart", 1.0))
        }
        seconds = {name: [] for name in trained}
        for _ in range(2 * STEPS + 1):
            for name, method in trained.items():
                started = time.perf_counter()
                float(method.step(pairs)["pixel"])
                seconds[name].append(time.perf_counter() - started)
        together, apart = (statistics.median(times[1:]) for times in seconds.values())
        print(f"SRN's step at {px}x{px}: {together:.2f} s, apart {apart:.2f} s, {together / apart:.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--compiled", action="store_true", help="also the compiled step (a minute and more to compile)"
    )
    parser.add_argument("--variant")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.variant:
        return steps(options.variant, options.data, options.batch_size, options.seed, options.device)
    print(fingerprint(options.device), f"{torch.get_num_threads()} threads")

    variants = ["plain", "ours"] + (["compiled"] if options.compiled else [])
    found: dict[str, list[dict]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name in variants:
            found[name].append(child(name, options))
    medians = {
        name: statistics.median(value for turn in turns for value in turn["seconds"])
        for name, turns in found.items()
    }
    for name, seconds in medians.items():
        print(
            f"training step, {name}: {seconds:.2f} s, {options.batch_size / seconds:.1f} pairs/s,"
            f" {medians['plain'] / seconds:.1f} x plain"
        )
    other = child("ours", options, seed=1)["losses"]
    for name, losses in [(name, turns[0]["losses"]) for name, turns in found.items()] + [
        ("ours, another seed", other)
    ]:
        print(f"pixel losses, {name}: {' '.join(f'{value:.4f}' for value in losses)}")

    print(
        "peak memory of a training at batch 64, data included:"
        f" {child('ours', options, batch_size=64)['peak_gib']:.1f} GiB"
    )

    memory.keep()
    torch.manual_seed(0)
    srn = FastSRN().to(options.device, memory_format=torch.channels_last).eval().requires_grad_(False)
    fast = Destylizer(srn)
    for count in (1, 64):
        faces = torch.rand(count, 3, 128, 128, device=options.device).to(memory_format=torch.channels_last)
        unfolded = milliseconds(srn, faces)
        times = {"unfolded float32": unfolded, "float32": milliseconds(fast, faces)}
        if has_bfloat16(options.device):
            times["bfloat16"] = milliseconds(fast, faces, True)
        for label, time_ms in times.items():
            print(
                f"use, batch {count}, {label}: {time_ms:.1f} ms, {1e3 * count / time_ms:.0f} pictures/s,"
                f" {unfolded / time_ms:.2f} x unfolded"
            )
    print_apart(options.data, options.batch_size, options.device)


if __name__ == "__main__":
    main()
