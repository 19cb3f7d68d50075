"""What only a GPU can say, in calls of a few minutes that take little with them and end with small files.

    python -m benchmarks.gpu pack --faces lfw --landmarks landmarks.csv   # here: .gpu/, which travels
    python -m benchmarks.gpu unpack                                       # there, and then
    python -m benchmarks.gpu measure --out "$OUT"
    python -m benchmarks.gpu train benchmarks/gpu.toml --minutes 6.5 --out "$OUT"
    python -m benchmarks.gpu runs OUT                                     # here: run folders of what came

``pack`` puts the faces of recipe ``photos`` into one file, aligned and as WebP (6,947 of LFW: 26 MiB), with
landmarks that say so; names, people and splits stay what they are. ``measure`` compares pixels and training
steps with a CPU's, and times synthesis, every method's step and use. ``train`` runs the commands of a plan,
chains side by side, each command of a chain after the other, until the time is over, and keeps of every run
its log and its recovering network in half floats; ``runs`` makes a run folder of those again.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch

FOLDER = Path(".gpu")   # ignored; what travels
QUALITIES = {"train": 75, "val": 75, "test": 10}   # of WebP; nothing is trained or chosen on the last
METHODS = ("align-restore", "ifrp", "srn", "johnson", "mgan", "pix2pix", "cyclegan", "aligner")
IN_USE = ("align-restore", "ifrp")
BATCH = 64
WARM, TIMED = 8, 20   # steps
RENDERED = 32   # faces at a time
UNKNOWN = 10**6   # steps, before a training by the clock knows better
LEARNING_SECONDS = 4.0   # of such a training, in which schedules stand still
SAVING_SECONDS = 25.0   # left for their last look and checkpoint
LOOKS = 9   # validations of such a training before its last
PART_BYTES = 16_760_000   # of weights in a file: with its head less than 16 MiB come back in one


@click.group()
def main() -> None:
    """What only a GPU can say."""


@main.command()
@click.option("--faces", type=click.Path(path_type=Path), required=True)
@click.option("--landmarks", type=click.Path(path_type=Path), required=True)
@click.option("--pictures", type=click.Path(path_type=Path), help="Paintings for open styles.")
@click.option("--rendered", default=0, help="Rendered faces to take along.")
def pack(faces: Path, landmarks: Path, pictures: Path | None, rendered: int) -> None:
    """Put what is needed there into a folder."""
    from ifrp_bench.data.plan import make_plan
    from ifrp_bench.data.recipe import load_recipe
    from ifrp_bench.ground.images import read_picture
    from ifrp_bench.sources.folder import list_photographs, open_folder
    from ifrp_bench.sources.procedural.rendering import render
    from ifrp_bench.sources.procedural.traits import draw_traits

    source = open_folder(faces, landmarks=landmarks, quiet=True)
    plan = make_plan(load_recipe("photos"), source)
    FOLDER.mkdir(exist_ok=True)
    lines: list[str] = []
    with tarfile.open(FOLDER / "faces.tar", "w") as archive:
        for split, quality in QUALITIES.items():
            for face in plan.faces(split):
                name = f"{'rest' if split == 'test' else 'faces'}/{face.name}"
                lines.append(_add(archive, name, source.read(face), quality))
        for start in range(0, rendered, RENDERED):   # together: a picture alone takes several times as long
            numbers = range(start, min(start + RENDERED, rendered))
            for number, frame in zip(numbers, render([draw_traits(20180313, n, 0) for n in numbers])):
                lines.append(_add(archive, f"rendered/rendered-{number:04d}/0.jpg", frame, 82))
    head = landmarks.read_text().splitlines()[0]
    (FOLDER / "landmarks.csv").write_text("\n".join([head, *lines]) + "\n")
    if pictures:
        with tarfile.open(FOLDER / "pictures.tar", "w") as archive:
            for file in list_photographs(pictures):
                picture = read_picture(pictures / file)
                factor = min(1.0, 300 / min(picture.shape[:2]))
                small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
                _add(archive, f"pictures/{file}", small, 80)
    size = sum(path.stat().st_size for path in FOLDER.glob("*.tar")) / 2**20
    click.echo(f"{FOLDER}: {size:.1f} MiB")


def _add(archive: tarfile.TarFile, name: str, picture: np.ndarray, quality: int) -> str:
    """Put a picture into the archive; returns its line of landmarks."""
    import io

    from ifrp_bench.ground.warp import TEMPLATE_PX

    done, data = cv2.imencode(".webp", picture[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert done, name
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data.tobytes()))
    (left, y), (right, right_y) = TEMPLATE_PX[:2]
    digest = hashlib.sha256(data.tobytes()).hexdigest()
    return f"{name.partition('/')[2]},{digest},1,1.0,{left},{y},{right},{right_y},"


@main.command()
def unpack() -> None:
    """Lay the packed faces out as the folders ``photos`` (all of them), ``people`` (without whom is tested,
    with the rendered ones) and ``pictures``.
    """
    with tarfile.open(FOLDER / "faces.tar") as archive:
        archive.extractall(FOLDER, filter="data")
    if (FOLDER / "pictures.tar").is_file():
        with tarfile.open(FOLDER / "pictures.tar") as archive:
            archive.extractall(FOLDER, filter="data")
    for name, parts in (("photos", ("faces", "rest")), ("people", ("faces", "rendered"))):
        for part in parts:
            if (FOLDER / part).is_dir():
                shutil.copytree(FOLDER / part, FOLDER / name, dirs_exist_ok=True)
    for name in ("lfw", "people", "open"):   # where `synth` looks for what was found
        Path("data", name).mkdir(parents=True, exist_ok=True)
        shutil.copy(FOLDER / "landmarks.csv", Path("data", name, "landmarks.csv"))


@main.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("data/lfw"), show_default=True)
@click.option("--device", default="cuda", show_default=True)
@click.option("--batch-size", default=BATCH, show_default=True)
@click.option("--methods", default=",".join(METHODS), show_default=True)
@click.option("--modes", default="off,graphs", show_default=True, help="Settings of `compile` to time.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def measure(data: Path, device: str, batch_size: int, methods: str, modes: str, out: Path) -> None:
    """Compare with a CPU, and time."""
    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if device == "cuda" else device}

    def keep(name: str, facts: Any) -> None:
        found[name] = facts
        click.echo(f"{name}: {json.dumps(facts)}")
        (out / "measured.json").write_text(json.dumps(found, indent=1))

    keep("pixels", equal_pixels(data, device))
    keep("redrawn SFs/s", redrawing_speed(data, device))
    for name in filter(None, methods.split(",")):
        try:
            keep(f"step {name}", equal_steps(name, data, device))
            keep(f"operations {name}", operations(name, data, device))
            for mode in modes.split(","):
                keep(f"speed {name} {mode}", training_speed(name, data, device, batch_size, mode))
        except Exception as error:   # one method's fault leaves the others their figures
            keep(f"failed {name}", f"{type(error).__name__}: {error}"[:300])
    for name in IN_USE:
        for mode in modes.split(","):
            keep(f"use {name} {mode}", latency(name, device, mode))
    keep("gatys, s a face of 500 steps", optimising_speed(data, device, batch_size))


def equal_pixels(data: Path, device: str, faces: int = 8) -> dict[str, float]:
    """The largest and the mean difference, in grey levels, of SFs from a CPU's, in float32."""
    from ifrp_bench.data.format import open_dataset
    from ifrp_bench.data.styles import NAMES, Stylizer, pick_styles

    dataset = open_dataset(data)
    real = dataset.read(dataset.shards("val")[0]).real[:faces]
    large = np.stack([cv2.resize(face, (256, 256), interpolation=cv2.INTER_CUBIC) for face in real])
    differences = []
    makers = [
        Stylizer(pick_styles(NAMES), precision="float32", device=place, batch_size=size)
        for place, size in (("cpu", 1), (device, faces))
    ]
    for style in NAMES:
        here, there = (maker(style, large, 128).astype(int) for maker in makers)
        differences.append(np.abs(here - there))
    return {"largest": int(np.max(differences)), "mean": round(float(np.mean(differences)), 5)}


def redrawing_speed(data: Path, device: str) -> float:
    """SFs a second that a training makes anew; the first time does not count."""
    from ifrp_bench.data.format import open_dataset
    from ifrp_bench.data.split import load_split
    from ifrp_bench.training.redraw import PairRemaker

    dataset = open_dataset(data)
    split = load_split(dataset, "train", device)
    maker = PairRemaker(dataset, device, quiet=True)
    maker.split(split.first(64), 0, 1)
    _wait(device)
    started = time.perf_counter()
    maker.split(split, 0, 2)
    _wait(device)
    return round(len(split) / (time.perf_counter() - started), 1)


def equal_steps(name: str, data: Path, device: str) -> dict[str, float]:
    """By how much, relatively, the losses of a first update on 8 pairs differ from a CPU's, in float32."""
    from ifrp_bench.ground import precision

    def losses(place: str) -> dict[str, float]:
        method, batches = _built(name, data, place, 8, "off")
        return {key: float(value) for key, value in method.step(batches.at(0)).items()}

    kept = precision.has_bfloat16
    precision.has_bfloat16 = lambda device: False   # type: ignore[assignment]
    try:
        here, there = losses("cpu"), losses(device)
    finally:
        precision.has_bfloat16 = kept
    return {key: round(abs(there[key] - here[key]) / max(abs(here[key]), 1e-6), 6) for key in here}


def operations(name: str, data: Path, device: str) -> dict[str, float]:
    """1e9 multiply-adds of an update for one pair, in each stage: convolutions and products, forward and
    backward.
    """
    from torch.utils.flop_counter import FlopCounterMode

    method, batches = _built(name, data, device, 8, "off")
    found = {}
    for stage in _stages(name):
        if stage.share < 1:
            method.at(stage.middle)
        with FlopCounterMode(display=False) as counter:
            method.step(batches.at(0))
        found[f"at {stage.middle}"] = round(counter.get_total_flops() / 2 / 8 / 1e9, 2)
    return found


def _stages(name: str) -> Any:
    """Of a training of 1,000 steps; one of a method that does not grow."""
    from ifrp_bench.methods import Stage

    job = _job(name)
    stages = job.part.declared.stages
    return stages(job.config, 1000) if stages else [Stage(500, 1.0)]


def training_speed(name: str, data: Path, device: str, batch_size: int, mode: str) -> dict[str, float]:
    """Pairs a second, of a method that grows in each of its stages, and gibibytes at the most."""
    method, batches = _built(name, data, device, batch_size, mode)
    found = {}
    for stage in _stages(name):
        if stage.share < 1:
            method.at(stage.middle)
        started = time.perf_counter()
        for step in range(WARM):
            method.step(batches.at(step))
        _wait(device)
        found[f"warm at {stage.middle}, s"] = round(time.perf_counter() - started, 2)
        taken = []
        for step in range(TIMED):
            started = time.perf_counter()
            method.step(batches.at(step))
            _wait(device)
            taken.append(time.perf_counter() - started)
        found[f"pairs/s at {stage.middle}"] = round(batch_size / statistics.median(taken), 1)
    if device == "cuda":
        found["GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        torch.cuda.reset_peak_memory_stats()
    return found


def latency(name: str, device: str, mode: str) -> dict[str, float]:
    """Milliseconds for one face: the median and the 95th percentile of 200; with ``graphs`` on a GPU, its
    pass recorded once and replayed.
    """
    from ifrp_bench.ground.timing import call_seconds
    from ifrp_bench.methods import Setup

    job = _job(name)
    method = job.part.declared.build(job.config, Setup(device, trains=False))
    face = torch.rand(1, 3, 128, 128, device=device).to(memory_format=torch.channels_last)
    recover: Callable[[], Any] = functools.partial(method.recover, face)
    if mode == "graphs" and device == "cuda":
        for _ in range(3):
            recover()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            recover()
        recover = graph.replay

    def one_face() -> None:
        recover()
        _wait(device)

    taken = call_seconds(one_face, 200, warm=20)
    median, p95 = (round(1000 * float(np.percentile(taken, share)), 2) for share in (50, 95))
    return {"median": median, "p95": p95}


def optimising_speed(data: Path, device: str, batch_size: int) -> float:
    """Seconds that Gatys takes for a face of 500 steps, from fewer steps on a batch."""
    from ifrp_bench.data.format import open_dataset
    from ifrp_bench.data.split import load_split
    from ifrp_bench.methods import Setup
    from ifrp_bench.training.resolve import resolve

    job = resolve("gatys", "paper", {"steps_per_face": TIMED})
    method = job.part.declared.build(job.config, Setup(device, trains=False))
    split = load_split(open_dataset(data), "val", device)
    pairs = split.pairs(torch.arange(batch_size, device=device) % len(split))
    taken = []
    for _ in range(2):   # the first one warms up
        started = time.perf_counter()
        method.transfer(pairs.stylized, pairs.real)
        _wait(device)
        taken.append(time.perf_counter() - started)
    return round(taken[-1] * 500 / TIMED / batch_size, 4)


def _job(name: str) -> Any:
    from ifrp_bench.training.resolve import resolve

    return resolve(name, "cpu", {"batch_size": BATCH, "steps": 1000})


def _built(name: str, data: Path, device: str, batch_size: int, mode: str) -> tuple[Any, Any]:
    """A method ready for its first step, and batches of the validation split."""
    from ifrp_bench.data.format import open_dataset
    from ifrp_bench.data.split import load_split
    from ifrp_bench.ground.compiler import compiler
    from ifrp_bench.methods import Setup
    from ifrp_bench.training.batches import Batches

    job = _job(name)
    split = load_split(open_dataset(data), "val", device)
    batches = Batches(split, batch_size, 0, mirror=True, colour_maps=0.5)
    setup = Setup(device, 1000, compile=compiler(device, mode), validation=batches.at(0), training=split)
    return job.part.declared.build(job.config, setup), batches


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


@main.command()
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--minutes", type=float, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def train(plan: Path, minutes: float, out: Path) -> None:
    """Run a plan's chains side by side, for so long, and keep its runs.

    The plan is TOML: ``first`` is commands that are run before all, ``chains`` lists of commands, each the
    words after ``ifrp-bench`` or, after ``!``, of the shell; ``runs`` the run folders to keep, ``faces``
    those of which the recovered validation faces are kept in place of the weights.
    """
    end = time.monotonic() + 60 * minutes
    # for trainings by the clock, which save when they are over
    for name, share in (("QUARTER", 0.25), ("HALF", 0.5), ("END", 1.0)):
        os.environ[name] = f"{time.time() + share * (60 * minutes - SAVING_SECONDS):.1f}"
    facts = tomllib.loads(plan.read_text())
    for command in facts.get("first", []):
        _run([command], out / "first.log", end)
    chains = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu", "chain", str(out / f"chain-{number}.log"), *chain],
            start_new_session=True,
        )
        for number, chain in enumerate(facts["chains"])
    ]
    while time.monotonic() < end and any(chain.poll() is None for chain in chains):
        time.sleep(0.5)
    for chain in chains:   # the whole session of each: a shell's children too
        if chain.poll() is None:
            os.killpg(chain.pid, 9)
    for run in facts["runs"]:
        try:
            keep_run(Path(run), out)
        except Exception as error:
            click.echo(f"{run}: not kept: {type(error).__name__}: {error}"[:300])
    with tarfile.open(out / "logs.tar.gz", "w:gz", compresslevel=1) as archive:
        for run in facts.get("faces", []):
            for face in sorted(Path(run, "validation").glob("*.jpg")):
                archive.add(face)
        for log in sorted(out.glob("*.log")):
            archive.add(log, log.name)
            click.echo(f"{log.name}: {log.read_text(errors='replace')[-700:]}")
            log.unlink()
        for run in [*facts["runs"], *facts.get("faces", [])]:
            for file in (*_facts_of(Path(run)), *sorted(Path(run, "pictures").glob("*.png"))[-1:]):
                archive.add(file)


def _facts_of(run: Path) -> list[Path]:
    """What says how a run went, and of what data set, as far as it is there."""
    there = [run / "run.json", run / "log.jsonl"]
    if there[0].is_file():
        data = Path("data", json.loads(there[0].read_text())["data"])
        there += [data / "dataset.json", data / "manifest.csv"]
    return [path for path in there if path.is_file()]


@main.command()
@click.argument("method")
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--until", type=float, required=True, help="Seconds since 1970 at which it is to be over.")
@click.option("--preset", default="cpu", show_default=True)
@click.option("--set", "settings", multiple=True)
@click.option("--device", default="cuda", show_default=True)
def timed(
    method: str, data: Path, run: Path, until: float, preset: str, settings: tuple[str, ...], device: str
) -> None:
    """Train until a moment: the schedules go by the clock, so that they end with it however busy the card is.

    What comes out depends on the machine's speed: for a card that is lent for minutes and shared by several
    trainings, for which no number of steps can be planned.
    """
    from ifrp_bench.data.format import open_dataset
    from ifrp_bench.ground.settings import parse_settings
    from ifrp_bench.training.resolve import resolve

    from ifrp_bench import parts

    chosen = preset if preset in parts.trainable(method).declared.presets else None
    job = resolve(method, chosen, {"steps": UNKNOWN, "compile": "off"} | parse_settings(settings))
    _train_until(job, open_dataset(data), run, until, device)


def _train_until(job: Any, data: Any, root: Path, until: float, device: str) -> None:
    """``training/loop.py``'s loop, but for its length."""
    from dataclasses import replace

    from ifrp_bench.data.runs import start_run
    from ifrp_bench.ground.files import write_whole
    from ifrp_bench.ground.processes import Processes
    from ifrp_bench.ground.provenance import fingerprint, versions
    from ifrp_bench.training.loop import _Training
    from tqdm import tqdm

    info = job.settings() | {
        "method": job.name, "data": data.root.name, "data_sha256": data.sha256, "versions": versions(),
        "machine": fingerprint(device), "processes": 1,
    }
    run = start_run(root, info, defaults=job.defaults())
    training = _Training(job, run, data, Processes(device), True)
    begun = training._started = training._logged = time.monotonic()
    length = until - time.time()
    bad, bar = torch.full((), torch.inf, device=device), tqdm(disable=True)
    looked = 0
    while (elapsed := time.monotonic() - begun) < length or not training.step:
        if elapsed > LEARNING_SECONDS:   # as long as this before the end is not known
            steps = max(training.step + 1, round(training.step * length / elapsed))
            training.method.setup = replace(training.method.setup, steps=steps)
        losses = training._guarded(lambda: training.method.step(training.batches.at(training.step)))
        training.step += 1
        for name, value in losses.items():
            training._since.setdefault(name, []).append(value)
        if training.averages:
            training.averages.update()
        if training.step % 200 == 0:
            training._log(bad, bar)
        if elapsed > (looked + 1) * length / (LOOKS + 1):
            training._validate(bar)
            looked += 1
    training.steps = training.step
    training.method.setup = replace(training.method.setup, steps=training.step)
    training._log(bad, bar)
    training._validate(bar)
    training._save("last")
    _write_validation(training, root / "validation")
    whole = json.loads((root / "run.json").read_text())
    whole["loop"]["steps"] = training.step
    write_whole(root / "run.json", (json.dumps(whole, indent=1) + "\n").encode())
    summary = run.summary()
    click.echo(f"{root}: {training.step} steps, {summary['best_db']:.2f} dB")


def _write_validation(training: Any, folder: Path) -> None:
    """The recovered validation faces, row by row."""
    from ifrp_bench.ground.images import as_pictures

    folder.mkdir()
    split = training.validation
    with training.averages.in_place() if training.averages else contextlib.nullcontext():
        for rows in torch.arange(len(split), device=split.stylized.device).split(64):
            pairs = split.pairs(rows)
            recovered = as_pictures(training.method.recover(pairs.stylized, pairs.real)).cpu().numpy()
            for row, face in zip(rows.tolist(), recovered):
                cv2.imwrite(str(folder / f"{row:04d}.jpg"), face[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])


@main.command()
@click.argument("log", type=click.Path(path_type=Path))
@click.argument("commands", nargs=-1)
def chain(log: Path, commands: tuple[str, ...]) -> None:
    """Run commands one after the other."""
    _run(list(commands), log, time.monotonic() + 3600)


def _run(commands: list[str], log: Path, end: float) -> None:
    for command in commands:
        words = command[1:] if command.startswith("!") else f"{sys.executable} -m ifrp_bench {command}"
        started = time.monotonic()
        with open(log, "a") as stream:
            code = subprocess.run(
                words, shell=True, stdout=stream, stderr=subprocess.STDOUT, timeout=max(1.0, end - started)
            ).returncode
            stream.write(f"\n$ {command}\n{code} after {time.monotonic() - started:.1f} s\n")


def keep_run(root: Path, out: Path) -> None:
    """``NAME.safetensors``, and ``NAME.1.safetensors`` where one file is too small: the weights, float16, of
    the run's recovering network at its last checkpoint, the averaged ones where they were better.
    """
    from ifrp_bench.data.runs import open_run
    from ifrp_bench.ground.weights import halves, save_state
    from ifrp_bench.recovery.trained import recovering_network

    run = open_run(root)
    weights = halves(recovering_network(run).state_dict())
    name, parts = f"{root.parent.name}-{root.name}", [{}]
    for key, value in weights.items():
        if sum(kept.nbytes for kept in parts[-1].values()) + value.nbytes > PART_BYTES:
            parts.append({})
        parts[-1][key] = value
    for number, part in enumerate(parts):
        save_state(out / f"{name}{f'.{number}' if number else ''}.safetensors", part)
    (out / f"{name}.log").write_text(json.dumps(run.progress("last")))


@main.command()
@click.argument("kept", type=click.Path(path_type=Path))
def runs(kept: Path) -> None:
    """Make run folders of what ``train`` kept: as far as they were trained, and not to be resumed."""
    from ifrp_bench.data.runs import Run
    from ifrp_bench.ground.weights import floats, load_state

    with tarfile.open(kept / "logs.tar.gz") as archive:
        archive.extractall(".", filter="data")
    for path in sorted(path for path in kept.glob("*.safetensors") if "." not in path.stem):
        data, _, name = path.stem.partition("-")
        root = Path("runs", data, name)
        run = Run(root, json.loads((root / "run.json").read_text()))
        weights = floats(load_state(path))
        for more in sorted(kept.glob(f"{path.stem}.*.safetensors")):
            weights |= floats(load_state(more))
        step, steps = json.loads(Path(f"{path.stem}.log").read_text())
        summary = run.summary()
        state = {
            "step": step,
            "steps": steps,
            "seconds": summary["seconds"],
            "best_db": summary["best_db"],
            "weights": weights,
        }
        run.save("last", state)
        click.echo(f"{root}: step {step} of {steps}")


if __name__ == "__main__":
    main()
