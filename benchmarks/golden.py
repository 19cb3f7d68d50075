"""Golden hashes: what the toolkit makes from fixed small inputs, to show that a redesign moved no byte and no
number.

    python -m benchmarks.golden --work made --out golden.json           # with the commit to compare to
    python -m benchmarks.golden --work other --compare golden.json      # with the other, same machine

It goes through the command line alone, so that two versions of the code can be compared whatever they look
like inside: shards of rendered faces, of a folder of photographs and of a miniature CelebA; the weights of
every trainable method after a few steps, whole and stopped on the way; scores, consistency and every table of
an evaluation; an exported model's answers. Convolutions differ between kinds of CPU, so hashes are compared
on one machine only; `machine` says of which they are. A file that has some parts only is compared in those.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TINY = {"train_faces": 4, "val_faces": 2, "test_faces": 3, "stylize_px": 128, "shard_pairs": 9}
STEPS = 4
STOP_AT = 2
METHODS = {   # settings that make each small; the first key is the method
    "aligner": {},
    "cyclegan": {"width": 8, "blocks": 1},
    "johnson": {"width": 8},
    "mgan": {},
    "pix2pix": {},
    "srn": {"grow_32": 0.3, "grow_64": 0.3},
    "srn-dn": {"grow_32": 0.0, "grow_64": 0.0},
    "ifrp": {"grow_32": 0.0, "grow_64": 0.0},
}
OPTIMISED = {"gatys": {"steps_per_face": 2}, "gatys-oracle": {"steps_per_face": 2}}
EVALUATED = ("ifrp", "johnson", "gatys", "gatys-oracle")


def command(*words: object) -> None:
    """Run the command line in a process of its own."""
    subprocess.run([sys.executable, "-m", "ifrp_bench", *map(str, words)], check=True, capture_output=True)


def sets(values: dict[str, Any]) -> list[str]:
    """Values as ``--set`` takes them."""
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shards(folder: Path) -> dict[str, str]:
    """The hashes of a data set's shards and manifest."""
    files = [*sorted(folder.glob("*.h5")), folder / "manifest.csv"]
    return {path.name: sha256(path) for path in files}


def make_faces(root: Path) -> tuple[Path, Path]:
    """Twelve rendered faces of four people as a folder of photographs and as a miniature CelebA."""
    from ifrp_bench.sources.procedural.rendering import render
    from ifrp_bench.sources.procedural.traits import draw_traits

    photographs, celeba = root / "photographs", root / "celeba"
    (celeba / "img_align_celeba").mkdir(parents=True)
    identities, partitions = [], []
    for number in range(12):
        person, picture = divmod(number, 3)
        frame = Image.fromarray(render([draw_traits(7, person, picture)])[0])
        canvas = Image.new("RGB", (300, 320), (90, 90, 90))
        canvas.paste(frame.resize((214, 262), Image.Resampling.BICUBIC), (30, 40))
        folder = photographs / f"Person_{person}"
        folder.mkdir(parents=True, exist_ok=True)
        canvas.save(folder / f"{picture}.png")
        name = f"{number + 1:06d}.png"
        frame.save(celeba / "img_align_celeba" / name)
        identities.append(f"{name} {100 + person}\n")
        partitions.append(f"{name} {max(person - 1, 0)}\n")
    (celeba / "identity_CelebA.txt").write_text("".join(identities))
    (celeba / "list_eval_partition.txt").write_text("".join(partitions))
    return photographs, celeba


def make_data(work: Path) -> dict[str, Any]:
    """Three data sets."""
    photographs, celeba = make_faces(work / "faces")
    plain = ("--workers", 0, "--quiet")
    command("synth", "demo", *sets(TINY), "--out", work / "data", *plain)
    counts = {"val_faces": 1, "test_faces": 1, "stylize_px": 128}
    command("synth", "photos", "--faces", photographs, *sets(counts), "--out", work / "photos", *plain)
    counts = {"train_faces": 5, "val_faces": 1, "test_faces": 1, "stylize_px": 128}
    command("synth", "celeba-paper", "--faces", celeba, *sets(counts), "--out", work / "celeba", *plain)
    return {name: shards(work / name) for name in ("data", "photos", "celeba")}


def train(work: Path, method: str, out: Path, settings: dict[str, Any], stop_at: int = 0) -> None:
    """Train, or begin to train and be killed when the checkpoint of ``stop_at`` is there."""
    words = [
        "train",
        "--method",
        method,
        "--data",
        work / "data",
        "--preset",
        "smoke",
        "--out",
        out,
        "--quiet",
    ]
    if not stop_at:
        command(*words, *sets(settings))
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "ifrp_bench", *map(str, words), *sets(settings)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list(out.glob(f"last-{stop_at}.safetensors")):
        time.sleep(0.005)
    process.kill()
    process.wait()


def make_runs(work: Path) -> dict[str, Any]:
    """Every method's weights after some steps, and after as many with a kill in between."""
    found = {}
    loop = {"steps": STEPS, "batch_size": 4, "validations": 2, "ema": 0.5, "checkpoint_seconds": 0}
    for method, settings in METHODS.items():
        found[method] = {}
        for kind, stop_at in (("whole", 0), ("resumed", STOP_AT)):
            out = work / "runs" / (method if kind == "whole" else f"{method}-resumed")
            if stop_at:
                train(work, method, out, loop | settings, stop_at)
            train(work, method, out, loop | settings)
            found[method][kind] = sha256(out / f"last-{STEPS}.safetensors")
    for method, settings in OPTIMISED.items():
        train(work, method, work / "runs" / method, settings)
    return found


def evaluate(work: Path) -> dict[str, Any]:
    """Scores, consistency and tables; columns that name the code's version are left out."""
    import pandas as pd

    runs = [work / "runs" / method for method in EVALUATED]
    conditions = [word for name in ("raw", "stn", "oracle") for word in ("--condition", name)]
    metrics = "psnr,ssim,residual,frr,fcr,vr"
    command(
        "eval", *runs, "--data", work / "data", "--out", work / "results", "--metrics", metrics, *conditions,
        "--aligner", work / "runs" / "aligner", "--quiet",
    )
    found = {}
    for name in ("scores.csv", "consistency.csv", "alignment.csv"):
        frame = pd.read_csv(work / "results" / name, keep_default_na=False)
        kept = frame.drop(columns="version", errors="ignore")
        found[name] = hashlib.sha256(kept.to_csv(index=False).encode()).hexdigest()
    return found | {path.name: sha256(path) for path in sorted((work / "results" / "tables").iterdir())}


def export(work: Path) -> dict[str, Any]:
    """What an exported model answers, rounded to 1e-4."""
    import onnxruntime

    path = work / "ifrp.onnx"
    command("export", work / "runs" / "ifrp", "--onnx", path)
    faces = np.random.default_rng(0).random((2, 3, 128, 128), dtype=np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answer = np.round(session.run(None, {"stylized": faces})[0], 4)
    return {"answer": hashlib.sha256(answer.tobytes()).hexdigest(), "mean": round(float(answer.mean()), 5)}


def golden(work: Path) -> dict[str, Any]:
    """All of it, made in ``work``."""
    import torch

    machine = (
        f"{torch.backends.cpu.get_cpu_capability()} torch {torch.__version__}, {torch.get_num_threads()}"
        " threads"
    )
    found: dict[str, Any] = {"machine": machine}
    for name, make in (("data", make_data), ("runs", make_runs), ("results", evaluate), ("export", export)):
        started = time.monotonic()
        found[name] = make(work)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    return found


def differences(wanted: Any, got: Any, where: str = "") -> list[str]:
    """Places where two trees of hashes differ."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        keys = {**wanted, **got}
        return [line for key in keys for line in differences(wanted.get(key), got.get(key), f"{where}/{key}")]
    return [] if wanted == got else [f"{where}: {wanted} there, {got} here"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="A folder to make everything in; emptied first."
    )
    parser.add_argument("--out", type=Path, help="Write the hashes here.")
    parser.add_argument("--compare", type=Path, help="Compare with hashes that were written before.")
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    found = golden(options.work)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    if options.compare:
        known = json.loads(options.compare.read_text())
        lines = differences(known, {name: found[name] for name in known})
        print("\n".join(lines) or "equal")
        sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
