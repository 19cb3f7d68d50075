"""How long one face takes: a run's or shipped weights' network on one picture, batch 1, float32.

    python -m benchmarks.latency align-restore ifrp
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python -m benchmarks.latency align-restore

On as many threads as torch takes; one after the other, since networks that take turns take each other's
caches, too. Alone on a quiet machine: beside anything else it says twice as much.
"""

import argparse
import statistics
from pathlib import Path

import torch

from ifrp_bench.data.shipped import find_run
from ifrp_bench.ground.timing import call_seconds
from ifrp_bench.recovery.trained import load_trained

FACES, WARM = 200, 10   # timed, and before them


def face_times(run: Path, faces: int = FACES) -> list[float]:
    """Milliseconds of each of so many faces, in order of size."""
    method = load_trained(find_run(run)).method
    stylized = torch.rand(1, 3, 128, 128).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        return sorted(1000 * taken for taken in call_seconds(lambda: method.recover(stylized), faces, WARM))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run folders or names of shipped weights")
    for run in parser.parse_args().runs:
        times = face_times(run)
        print(
            f"{run}: {statistics.median(times):.1f} ms in the median, {times[0]:.1f} at best,"
            f" 95 % within {times[int(0.95 * len(times))]:.1f}; {torch.get_num_threads()} threads"
        )


if __name__ == "__main__":
    main()
