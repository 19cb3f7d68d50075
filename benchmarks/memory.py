"""Peak memory of a command: Pss, which counts shared pages once, over all of its processes.

    python benchmarks/memory.py -- ifrp-bench synth demo --out data/demo
    python benchmarks/memory.py --pid 1234

Sampled twice a second; of a running process until it ends.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

EVERY_S = 0.5


def pss_mib(root: int) -> float:
    """Of a process and all that it has started, in MiB."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        todo += children.get(pid, [])
        try:
            lines = (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pid", type=int, help="A process that runs already.")
    parser.add_argument("command", nargs="*", help="What to run.")
    options = parser.parse_args()
    process = None if options.pid else subprocess.Popen(options.command)
    pid = options.pid or process.pid   # type: ignore[union-attr]
    peak, started = 0.0, time.monotonic()
    while (process.poll() is None) if process else Path(f"/proc/{pid}").exists():
        peak = max(peak, pss_mib(pid))
        time.sleep(EVERY_S)
    print(f"peak {peak:,.0f} MiB in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return process.returncode if process else 0


if __name__ == "__main__":
    sys.exit(main())
