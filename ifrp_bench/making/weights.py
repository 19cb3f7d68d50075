"""Makes the shipped weights of a finished run.

    python -m ifrp_bench.making.weights runs/lfw/align-restore --data data/lfw --name align-restore \
        --title "..." --results results/lfw --limits "..."

It writes ``ifrp_bench/weights/NAME/`` as ``data/shipped.py`` reads it. What the card says is taken from the
run's and the data set's own files; scores, with intervals over people, from a results folder in which the run
stands. A run that started from another's weights was trained on that one's people too: name that one's data
set with ``--also``; shipped weights say it themselves.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import tomli_w
import torch
from torch import nn

from ifrp_bench import parts
from ifrp_bench.data.format import Dataset, open_dataset
from ifrp_bench.data.runs import Run
from ifrp_bench.data.shipped import (
    FOLDER, find_run, gone_on_from, hashes_of, open_shipped, people_of, write_people,
)
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of, write_whole
from ifrp_bench.ground.weights import halves, in_bytes, save_state
from ifrp_bench.recovery.trained import recovering_network
from ifrp_bench.training.resolve import resolve, resume

SCORES = ("psnr_db", "ssim", "rank1", "hit_top5", "cosine")   # columns that a card has
ALIGNMENT = ("angle_error_deg", "scale_error", "shift_error_px")   # an aligner's, in ``alignment.csv``
RESAMPLES = 1000   # of the people, for an interval
# settings of the loop that change no weight, and the seed, which the command has as an option
ASIDE = ("validations", "tensorboard", "checkpoint_seconds", "compile", "seed")


def scores_of(results: Path, run: Run) -> dict[str, Any]:
    """Means of a run's rows in a results folder and their 95 % intervals over people, by condition and group
    of styles.
    """
    frame = pd.read_csv(results / "scores.csv")
    frame = frame[frame["run"] == run.root.name]
    if "rank" in frame:
        frame = frame.assign(rank1=frame["rank"] == 1)
    if frame.empty:
        raise InputError(f"{results}: no row of a run called {run.root.name}; evaluate it first")
    found: dict[str, Any] = {
        "people": int(frame["identity"].nunique()),
        "recogniser": str(frame["recogniser"].iloc[0]).partition("+")[0],   # the first one's ranks
        "data_sha256": str(frame["data_sha256"].iloc[0]),
    }
    for (condition, seen), rows in frame.groupby(["condition", "seen"]):
        found[f"{condition}_{'seen' if seen else 'unseen'}"] = {
            column: _with_interval(rows, column) for column in SCORES if column in rows
        }
    return found


def alignment_of(results: Path) -> dict[str, Any]:
    """Mean errors of the aligner of the condition ``stn`` in a results folder and their 95 % intervals over
    people, by group of styles. Raises InputError where it took none.
    """
    path = results / "alignment.csv"
    if not path.is_file():
        raise InputError(f"{path}: not there; evaluate with --condition stn and this aligner first")
    frame = pd.read_csv(path)
    found: dict[str, Any] = {
        "people": int(frame["identity"].nunique()),
        "data_sha256": str(frame["data_sha256"].iloc[0]),
    }
    for seen, rows in frame.groupby("seen"):
        found["seen" if seen else "unseen"] = {
            column: _with_interval(rows, column) for column in ALIGNMENT
        }
    return found


def _with_interval(rows: pd.DataFrame, column: str) -> list[float]:
    """Mean, and the bounds of its 95 % bootstrap interval over people."""
    people = rows.groupby("identity")[column].mean().to_numpy()
    draws = np.random.default_rng(0).integers(0, len(people), (RESAMPLES, len(people)))
    low, high = np.percentile(people[draws].mean(1), [2.5, 97.5])
    return [round(float(value), 4) for value in (people.mean(), low, high)]


def ship(
    run: Run, data: Path, name: str, *, title: str, limits: str, results: Path | None = None,
    also: tuple[Path, ...] = (), bytes_: bool = False, mean: bool = False, out: Path = FOLDER,
) -> Path:
    """Write the weights' folder, with ``bytes_`` most of them in a byte each, with ``mean`` the mean of the
    run's and of those that it started from (WiSE-FT, Wortsman et al. 2022); returns it.

    Raises InputError for a run that is not finished or of another data set, or that started from a run whose
    data set is not named.
    """
    dataset = open_dataset(data)
    if not run.finished():
        raise InputError(f"{run.root}: the training is not finished; resume it first")
    if run.summary()["best_db"] is None:
        raise InputError(f"{run.root}: its log is gone, and with it what the card would say")
    if run.info["data_sha256"] != dataset.sha256:
        raise InputError(f"{run.root}: not trained on {data}")

    network = recovering_network(run)
    if mean:
        _mix_in(network, _start(run))
    folder = out / name
    kept = in_bytes if bytes_ else halves
    save_state(folder / "net.safetensors", kept(network.state_dict()))

    # whom it was trained on, and whom what it started from was
    people = _people(run, [dataset, *map(open_dataset, also)])
    write_people(folder, people)

    # the card
    summary, counts = run.summary(), dataset.info["counts"]["train"]
    card = {
        "title": title,
        "method": run.method,
        "limits": limits,
        "licence": "MIT",
        "net": {
            "sha256": sha256_of(folder / "net.safetensors"),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "dtype": "int8" if bytes_ else "float16",
        },
        "data": {
            "name": dataset.root.name,
            "sha256": dataset.sha256,
            "recipe": {key: value for key, value in dataset.info["recipe"].items() if value is not None},
            "faces": counts["faces"],
            "pairs": counts["pairs"],
            "people": len(people),
        },
        "training": {
            "steps": summary["step"],
            "hours": round(summary["seconds"] / 3600, 2),
            "machine": run.info["machine"],
            "command": _command(run),
            "val_psnr_db": round(summary["best_db"], 2),
            "mean_with": _init(run) if mean else "",
        },
        "config": run.info["config"],
        "loop": run.info["loop"] | {"init": _init(run)},
    }
    if results:
        aligns = parts.trainable(run.method).aligns
        card["scores"] = alignment_of(results) if aligns else scores_of(results, run)
    text = tomli_w.dumps(card)
    tomllib.loads(text)
    write_whole(folder / "card.toml", text.encode())
    return folder


def _people(run: Run, datasets: Sequence[Dataset]) -> np.ndarray:
    """Hashes of everybody whom a run, and what it started from, was trained on."""
    people = hashes_of(set().union(*(people_of(data, "train") for data in datasets)))
    for before in gone_on_from(run):
        if before["shipped"]:
            people = np.union1d(people, open_shipped(before["name"]).people)
        elif before["data_sha256"] not in [data.sha256 for data in datasets]:
            raise InputError(
                f"{run.root}: went on from {before['name']}, trained on the data set"
                f" {before['data_sha256'][:12]}...: name that data set with --also"
            )
    return people


def _start(run: Run) -> Run:
    """What a run started from. Raises InputError where it started from nothing."""
    init = run.info["loop"].get("init")
    if not init:
        raise InputError(f"{run.root}: started from no weights, so there are none for a mean with its own")
    return find_run(Path(init))


@torch.no_grad()
def _mix_in(network: nn.Module, other: Run) -> None:
    """The mean of a network's weights and another run's."""
    theirs = other.weights(network)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.lerp_(theirs[name], 0.5)


def _init(run: Run) -> str:
    """What it started from, by its name alone."""
    start = run.info["loop"].get("init", "")
    return Path(start).name if start else ""


def _command(run: Run) -> str:
    """The command that trains it: the preset nearest to it, and every setting that is not so there."""
    begun = resume(run).settings()
    loop = begun["loop"] | {"init": _init(run)}
    length = {key: loop[key] for key in ("steps", "epochs") if loop[key]}
    wanted = begun["config"] | {key: value for key, value in loop.items() if key not in ASIDE}

    # where there are presets the command names one: else it would take one by the device that it runs on
    def changed(preset: str | None) -> dict[str, Any]:
        there = resolve(run.method, preset, length).settings()
        values = there["config"] | there["loop"]
        return length | {key: value for key, value in wanted.items() if values.get(key) != value}

    presets: list[str | None] = [*parts.trainable(run.method).declared.presets] or [None]
    preset = min(presets, key=lambda name: len(changed(name)))
    settings = " ".join(f"--set {key}={_toml(value)}" for key, value in changed(preset).items())
    where = f"--data data/{run.info['data']}" + (f" --preset {preset}" if preset else "")
    return f"ifrp-bench train --method {run.method} {where} --seed {loop['seed']} {settings}"


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--name", required=True)
@click.option("--title", required=True)
@click.option("--limits", required=True)
@click.option("--results", type=click.Path(path_type=Path, file_okay=False))
@click.option("--also", multiple=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--in-bytes", "bytes_", is_flag=True, help="A byte a weight, where float16 is too long.")
@click.option("--mean", is_flag=True, help="The mean of its weights and of those that it started from.")
def main(
    run: Path, data: Path, name: str, title: str, limits: str, results: Path | None, also: tuple[Path, ...],
    bytes_: bool, mean: bool,
) -> None:
    """Make shipped weights of a run."""
    folder = ship(
        find_run(run), data, name,
        title=title, limits=limits, results=results, also=also, bytes_=bytes_, mean=mean,
    )
    click.echo(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir()) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
