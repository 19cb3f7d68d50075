"""Ten SIGKILLs at random moments, then an uninterrupted finish: are the shards those of a run that was never
touched?

    python benchmarks/kill_synth.py
"""

import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SETTINGS = [
    "--set",
    "train_faces=200",
    "--set",
    "val_faces=20",
    "--set",
    "test_faces=60",
    "--set",
    "shard_pairs=24",
    "--quiet",
]


def shards(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.h5"))}


def run_until(command: list[str], seconds: float, progress: Callable[[], object] | None = None) -> str:
    """Start a command and kill it after so many seconds, counted from when ``progress`` has changed if it is
    given; says whether it had finished before.
    """
    before = progress() if progress else None
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while progress and progress() == before and process.poll() is None:
        time.sleep(0.05)
    try:
        process.wait(seconds)
        return "had finished"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return "killed"


def main() -> None:
    moments = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        command = [sys.executable, "-m", "ifrp_bench", "synth", "demo", *SETTINGS, "--out"]
        subprocess.run([*command, str(whole)], check=True, capture_output=True)
        expected = shards(whole)
        for number in range(10):
            moment = moments.uniform(3, 11)
            how = run_until([*command, str(killed)], moment)
            there = shards(killed)
            assert all(expected[name] == value for name, value in there.items()), "a shard that is not whole"
            print(f"{number + 1}: {how} after {moment:.1f} s, {len(there)} of {len(expected)} shards whole")
        subprocess.run([*command, str(killed)], check=True, capture_output=True)
        print(
            "equal to the uninterrupted run"
            if shards(killed) == expected
            else "DIFFERENT from the uninterrupted run"
        )


if __name__ == "__main__":
    main()
