"""Ten SIGKILLs at random moments of a training, then an uninterrupted finish: are the weights those of a run that was never touched?

    python benchmarks/kill_train.py --data data/demo
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from ifrp_bench.runs import open_run

SETTINGS = ["--preset", "smoke", "--set", "steps=120", "--set", "batch_size=8", "--set", "checkpoint_seconds=1", "--set", "ema=0.9", "--set", "validations=4",
            "--quiet"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    options = parser.parse_args()
    moments = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        command = [sys.executable, "-m", "ifrp_bench", "train", "--data", str(options.data), *SETTINGS, "--out"]
        subprocess.run([*command, str(whole)], check=True, capture_output=True)
        for number in range(10):
            process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            moment = moments.uniform(6, 12)   # imports take five of them
            try:
                process.wait(moment)
                how = "had finished"
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                how = "killed"
            there = open_run(killed)
            step = there.load("last")["step"] if there.has("last") else 0   # a checkpoint that is there is whole
            print(f"{number + 1}: {how} after {moment:.1f} s, the checkpoint is of step {step}", flush=True)
        subprocess.run([*command, str(killed)], check=True, capture_output=True)
        same = (whole / "last-120.safetensors").read_bytes() == (killed / "last-120.safetensors").read_bytes()
        print("equal to the uninterrupted run" if same else "DIFFERENT from the uninterrupted run")


if __name__ == "__main__":
    main()
