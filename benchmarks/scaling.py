"""What limits synthesis at size: planning measured here, many machines simulated.

    python benchmarks/scaling.py [--plan 100000 1000000] [--seconds 0.9]

In the simulation some processes are slow, and all start again when one dies. Shards are dealt by index, alone
and with what ``synth`` does then: who is done takes what others have not begun. ``--seconds`` is what a
shard takes a process: 0.9 a GPU with 16 cores, 11.4 two AVX2 cores (``benchmarks/results.md``). Planning is
measured on rendered faces, in a process of its own for each size.
"""

import argparse
import multiprocessing
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

SHARD_PAIRS = 500
SPREAD = 0.05   # of a shard's seconds, one to the next on one machine
SLOW = 0.02   # of the processes
SLOW_BY = 1.5
DEATHS_AN_HOUR = 1 / (24 * 30)   # of one process: once a month
RESTART_S = 120.0   # until all work again: found out, started, planned


def wall_minutes(
    shards: int, processes: int, seconds: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Minutes until the last process is done, if each makes what it is dealt, and if who is done helps."""
    mean = seconds * np.where(rng.random(processes) < SLOW, SLOW_BY, 1.0)
    count = shards // processes + (np.arange(processes) < shards % processes)
    # sums of a process's shards
    taken = count * mean + rng.standard_normal(processes) * np.sqrt(count) * mean * SPREAD
    alone = taken.max()
    helped = shards / (1 / mean).sum() + mean.max()   # at the end some wait for a last shard
    return _with_deaths(alone, processes, seconds, rng), _with_deaths(helped, processes, seconds, rng)


def _with_deaths(taken: float, processes: int, seconds: float, rng: np.random.Generator) -> float:
    """All start again, each with the shard that it had begun."""
    deaths = rng.poisson(taken / 3600 * DEATHS_AN_HOUR * processes)
    return float(taken + deaths * (RESTART_S + seconds / 2)) / 60


def simulate(seconds: float) -> None:
    """Print minutes by size and number of processes."""
    rng = np.random.default_rng(0)
    print(f"{SHARD_PAIRS} pairs a shard, {seconds:g} s a shard and process")
    print("pairs          shards processes      ideal    by index     helped   minutes")
    for pairs in (10**5, 10**6, 10**7, 10**8):
        shards = -(-pairs // SHARD_PAIRS)
        for processes in (1, 8, 32, 256):
            if processes > shards:
                continue
            alone, helped = np.median(
                [wall_minutes(shards, processes, seconds, rng) for _ in range(200)], axis=0
            )
            ideal = shards * seconds / processes / 60
            print(f"{pairs:>11,} {shards:>9,} {processes:>9} {ideal:>10.1f} {alone:>11.1f} {helped:>10.1f}")


def plan_once(pairs: int) -> None:
    """Plan a data set of rendered faces and write what stands beside its shards; print what it took."""
    from ifrp_bench.data.format import make_info, shard_names, write_info, write_manifest
    from ifrp_bench.data.pairs import open_faces
    from ifrp_bench.data.plan import make_plan
    from ifrp_bench.data.recipe import load_recipe

    settings = (f"train_faces={pairs // 3}", "val_faces=10", "test_faces=10", f"shard_pairs={SHARD_PAIRS}")
    recipe = load_recipe("procedural-paper", settings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    source = open_faces(recipe, None, landmarks=Path("none"), workers=0, device="cpu", quiet=True)
    plan = make_plan(recipe, source)
    planned = time.perf_counter() - started
    with TemporaryDirectory() as folder:
        out = Path(folder)
        started = time.perf_counter()
        sha256 = plan.faces_sha256(source)
        hashed = time.perf_counter() - started
        info = make_info(
            recipe=plan.recipe.as_dict(), counts=plan.counts, faces=None, faces_sha256=sha256, styles={},
            device="cpu",
        )
        entry = {"split": "train", "pairs": SHARD_PAIRS, "faces": 166, "bytes": 10**8, "sha256": "0" * 64}
        info["shards"] = {name: entry for name in shard_names("train", len(plan.shards))}
        write_info(out, info)
        started = time.perf_counter()
        write_manifest(out, plan.rows())
        listed = time.perf_counter() - started
        sizes = [(out / name).stat().st_size / 2**20 for name in ("dataset.json", "manifest.csv")]
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    print(
        f"{pairs:>11,} pairs: planned in {planned:.1f} s, faces hashed in {hashed:.1f} s, manifest in"
        f" {listed:.1f} s; {memory:,.0f} MiB; dataset.json {sizes[0]:.1f} MiB, manifest.csv"
        f" {sizes[1]:.1f} MiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", type=int, nargs="*", default=[10**5, 10**6], help="Pairs to plan.")
    parser.add_argument("--seconds", type=float, default=0.9, help="Of a shard, one process.")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    for pairs in options.plan:
        process = spawn.Process(target=plan_once, args=(pairs,))
        process.start()
        process.join()
    simulate(options.seconds)


if __name__ == "__main__":
    main()
