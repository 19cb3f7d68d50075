"""How a method does on styles that nobody trained on, by the number of styles that it was trained on.

    python -m benchmarks.style_count lfw paintings --recogniser mobilefacenet.onnx --out runs/style_count

For each count a data set whose training SFs are in open styles of so many of the pictures (the fewer among
the more), a training of as many steps as every other one's, and an evaluation on the eight styles, all of
them unseen: ``scores.csv`` with 95 % intervals over people, and a plot. What is made already is kept, so the
same command goes on where it was.
"""

import shutil
from pathlib import Path

import click
import numpy as np
import pandas as pd

from ifrp_bench.cli import cli
from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.images import SUFFIXES
from ifrp_bench.results.statistics import intervals

SCORES = {"psnr_db": ("PSNR", "dB", 1), "hit_top1": ("rank-1", "%", 100), "cosine": ("cosine", "", 1)}


def pick(pictures: Path, count: int, out: Path) -> Path:
    """A folder with so many of the pictures: the first ones of one shuffled order."""
    files = sorted(path for path in pictures.rglob("*") if path.suffix.lower() in SUFFIXES)
    if count > len(files):
        raise click.UsageError(f"{pictures} has {len(files)} pictures; {count} styles were asked for")
    order = generator("style count").permutation(len(files))
    out.mkdir(parents=True, exist_ok=True)
    for number in order[:count]:
        file = files[number]
        shutil.copy(file, out / "-".join(file.relative_to(pictures).parts))
    return out


def call(*words: object) -> None:
    """Run a command of the package in this process. Raises what it raises."""
    cli.main([*map(str, words), "--quiet"], standalone_mode=False)


def scores_of(results: Path, method: str) -> dict[str, float]:
    """The means over all pairs, each with the interval over people."""
    rows = pd.read_csv(results / "scores.csv")
    rows = rows[rows["method"] == method]
    means = [rows.groupby("identity")[column].mean().to_numpy(dtype=np.float64) for column in SCORES]
    said = {}
    for (column, (name, _, unit)), mean, (low, high) in zip(SCORES.items(), means, intervals(means)):
        said[name] = unit * float(rows[column].mean())
        said[f"{name} low"], said[f"{name} high"] = unit * low, unit * high
    return said


def plot(table: pd.DataFrame, file: Path) -> None:
    """A panel a score, over the number of styles."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(SCORES), figsize=(9, 2.8), layout="constrained")
    for axis, (name, unit, _) in zip(axes, SCORES.values()):
        axis.fill_between(
            table["styles"], table[f"{name} low"], table[f"{name} high"], alpha=0.15, linewidth=0
        )
        axis.plot(table["styles"], table[name], marker="o", markersize=4)
        axis.set(
            xscale="log", xticks=table["styles"], xticklabels=table["styles"],
            title=f"{name}, {unit}".rstrip(", "), xlabel="styles trained on",
        )
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)
    plt.close(figure)


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.argument("faces", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("pictures", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--counts", default="3,8,32,128", show_default=True, help="Numbers of styles.")
@click.option("--method", default="align-restore", show_default=True)
@click.option("--steps", default=700, show_default=True, help="Of each training.")
@click.option("--recogniser", required=True, help="Who judges identity.")
@click.option("--landmarks", type=click.Path(path_type=Path), help="Faces found before, as synth takes them.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Of the data sets' recipe.")
@click.option("--train-set", "training", multiple=True, metavar="KEY=VALUE", help="Of the trainings.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/style_count"), show_default=True)
def main(
    faces: Path, pictures: Path, counts: str, method: str, steps: int, recogniser: str,
    landmarks: Path | None, settings: tuple[str, ...], training: tuple[str, ...], out: Path,
) -> None:
    """Make, train, judge; print the table as it grows."""
    landmarks = landmarks or out / "landmarks.csv"
    rows = []
    for count in map(int, counts.split(",")):
        data, run, results = (out / f"{what}-{count}" for what in ("data", method, "results"))
        bank = pick(pictures, count, out / f"pictures-{count}")
        call(
            "synth", "photos-open", "--faces", faces, "--style-pictures", bank, "--out", data,
            "--landmarks", landmarks, *_all("--set", settings),
        )
        call(
            "train", "--method", method, "--data", data, "--preset", "cpu", "--out", run,
            *_all("--set", (f"steps={steps}", "validations=1", *training)),
        )
        call(
            "eval", run, "--data", data, "--condition", "raw", "--headline-only", "--recogniser", recogniser,
            "--out", results,
        )
        rows.append({"styles": count} | scores_of(results, method))
        table = pd.DataFrame(rows)
        table.round(4).to_csv(out / "scores.csv", index=False)
        click.echo(table.round(3).to_string(index=False))
    plot(table, out / "scores.png")


def _all(option: str, values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in (option, value)]


if __name__ == "__main__":
    main()
