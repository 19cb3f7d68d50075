"""Ten SIGKILLs at random moments of a training, then an uninterrupted finish: are the weights those of a run
that was never touched?

    python -m benchmarks.kill_train --data data/demo --method pix2pix
"""

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.kill_synth import run_until
from ifrp_bench.data.runs import open_run

SETTINGS = [
    "--preset",
    "smoke",
    "--set",
    "checkpoint_seconds=1",
    "--set",
    "ema=0.9",
    "--set",
    "validations=4",
    "--quiet",
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--method", default="ifrp")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    moments = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        command = [
            sys.executable,
            "-m",
            "ifrp_bench",
            "train",
            "--method",
            options.method,
            "--data",
            str(options.data),
            *SETTINGS,
            "--set",
            f"steps={options.steps}",
            "--set",
            f"batch_size={options.batch_size}",
            "--out",
        ]
        subprocess.run([*command, str(whole)], check=True, capture_output=True)

        def step() -> int:
            return open_run(killed).progress("last")[0] if (killed / "last.json").exists() else 0

        for number in range(10):
            moment = moments.uniform(0, 4)
            how = run_until([*command, str(killed)], moment, step)
            if step():
                open_run(killed).load("last")   # a checkpoint that is there is whole
            print(
                f"{number + 1}: {how} {moment:.1f} s after its first new checkpoint, the checkpoint is of"
                f" step {step()}",
                flush=True,
            )
        subprocess.run([*command, str(killed)], check=True, capture_output=True)
        same = (whole / f"last-{options.steps}.safetensors").read_bytes() == (
            killed / f"last-{options.steps}.safetensors"
        ).read_bytes()
        print("equal to the uninterrupted run" if same else "DIFFERENT from the uninterrupted run")


if __name__ == "__main__":
    main()
