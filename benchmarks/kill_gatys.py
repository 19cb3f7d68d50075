"""Ten SIGKILLs at random moments while Gatys optimises the faces of a split, then an uninterrupted finish:
are they those of a run that was never touched?

    python -m benchmarks.kill_gatys --data data/demo
"""

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.kill_synth import run_until, shards


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data/demo"))
    parser.add_argument("--split", default="val")
    parser.add_argument("--steps", type=int, default=25, help="of each face")
    options = parser.parse_args()
    moments = random.Random(1)
    ifrp_bench = [sys.executable, "-m", "ifrp_bench"]
    made = f"recovered/{options.data.name}/oracle"
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        for run in (whole, killed):
            settings = [
                "--data",
                str(options.data),
                "--preset",
                "smoke",
                "--set",
                f"steps_per_face={options.steps}",
                "--out",
                str(run),
                "--quiet",
            ]
            subprocess.run(
                [*ifrp_bench, "train", "--method", "gatys", *settings], check=True, capture_output=True
            )

        def recover(run: Path) -> list[str]:
            return [
                *ifrp_bench,
                "destylize",
                str(run),
                "--data",
                str(options.data),
                "--split",
                options.split,
                "--condition",
                "oracle",
                "--quiet",
            ]

        subprocess.run(recover(whole), check=True, capture_output=True)
        expected = shards(whole / made)

        def parts() -> list[str]:
            return sorted(path.name for path in (killed / made / "parts").glob("*.npy"))

        for number in range(10):
            moment = moments.uniform(0, 3)
            how = run_until(recover(killed), moment, parts)
            there = (
                f"{len(shards(killed / made))} of {len(expected)} shards whole, {len(parts())} parts of the"
                " next"
            )
            print(f"{number + 1}: {how} {moment:.1f} s after its first new part, {there}", flush=True)
        subprocess.run(recover(killed), check=True, capture_output=True)
        print(
            "equal to the uninterrupted run"
            if shards(killed / made) == expected
            else "DIFFERENT from the uninterrupted run"
        )


if __name__ == "__main__":
    main()
