"""The figures of a results folder's page, each with its title, words for who cannot see it, and SVG text.

The same scores give the same text. What is shown, ``report`` decides.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from ifrp_bench.ground.ranks import match_characteristic
from ifrp_bench.results.printing import label_of

LAST_RANK = 50   # of the cumulative match characteristic
DISTRIBUTIONS = (   # column, title, unit
    ("psnr_db", "PSNR of each face", "dB"),
    ("ssim", "SSIM of each face", ""),
    ("cosine", "Cosine to the own real face", ""),
)
ROBUST = {"psnr": "PSNR, dB", "rank1": "Right person nearest of all, %", "vr": "Verified at 0.1 %, %"}
CURVE_UNITS = {
    "rotation": "degrees",
    "shift": "of the window's side",
    "strength": "0 is the photograph",
    "blur": "pixels",
    "jpeg": "quality",
}
COLOURS = (
    "#1f77b4", "#d95f02", "#2a9d4a", "#c2185b", "#7b52ab",
    "#8c6d31", "#008b8b", "#555555", "#b8860b", "#e4572e",
)

Plot = dict[str, str]   # title, alt and svg


def plots_of(by_entry: Mapping[str, pd.DataFrame]) -> list[Plot]:
    """The match characteristic and the distributions of what was scored; rows by the entry's label."""
    first = next(iter(by_entry.values()))
    drawn = [_match_curve(by_entry)] if "rank" in first else []
    return drawn + [
        _distribution(by_entry, column, title, unit)
        for column, title, unit in DISTRIBUTIONS if column in first
    ]


def style_count_plots(points: pd.DataFrame) -> list[Plot]:
    """Scores of unseen styles over the number of training styles, a line a method; none of no points."""
    if points.empty:
        return []
    shown = [score for score in ("psnr", "rank1") if score in set(points["score"])]
    with _axes(1, len(shown), figsize=(4 * len(shown), 3.6), squeeze=False) as (figure, axes):
        for score, axis in zip(shown, axes.flat):
            lines = list(points[points["score"] == score].groupby(["method", "condition"], sort=False))
            for ((method, condition), line), colour in zip(lines, _colours(len(lines))):
                label = label_of(str(method), "", str(condition))
                _draw_line(axis, line["pictures"], line, label, colour)
            axis.set_xscale("log", base=2)
            ticks = sorted(set(points["pictures"]))
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
            axis.minorticks_off()
            axis.set(xlabel="styles trained on", title=ROBUST[score])
        axes.flat[0].legend(frameon=False, fontsize=7)
        figure.tight_layout()
        alt = (
            "Scores of styles that no run was trained on over the number of styles that a run was trained on;"
            " tables/training-styles.csv has the values"
        )
        return [{"title": "Unseen styles, by the number of training styles", "alt": alt, "svg": _svg(figure)}]


def robustness_plots(points: pd.DataFrame) -> list[Plot]:
    """Scores as one thing changes at a time, a plot a score; ``points`` as ``curve_points`` gives them."""
    return [_curve_plot(points, score, words) for score, words in ROBUST.items()]


def _match_curve(by_entry: Mapping[str, pd.DataFrame]) -> Plot:
    """The cumulative match characteristic, a curve an entry, and chance."""
    people = next(iter(by_entry.values()))["identity"].nunique()
    up_to = min(LAST_RANK, people)
    ks = range(1, up_to + 1)
    with _axes(figsize=(6, 3.6)) as (figure, axes):
        for (label, frame), colour in zip(by_entry.items(), _colours(len(by_entry))):
            found = match_characteristic(frame["rank"].to_numpy(), up_to)
            axes.plot(ks, 100 * found, label=label, color=colour)
        axes.plot(ks, [100 * k / people for k in ks], color="#999999", linestyle=":", label="chance")
        axes.set(xlabel="k nearest real faces", ylabel="right person among them, %")
        axes.set(xlim=(1, up_to), ylim=(0, 100))
        axes.legend(frameon=False, fontsize=7)
        alt = (
            "The share of queries whose right person is among the k nearest real faces, a curve a method; "
            "table 2 has the values at five"
        )
        return {"title": "Cumulative match characteristic", "alt": alt, "svg": _svg(figure)}


def _distribution(by_entry: Mapping[str, pd.DataFrame], column: str, title: str, unit: str) -> Plot:
    """A box an entry."""
    shown = []
    for frame in by_entry.values():
        values = frame[column].replace([np.inf, -np.inf], np.nan).dropna().to_numpy()
        shown.append(values if len(values) else np.array([np.nan]))
    with _axes(figsize=(6, 0.42 * len(by_entry) + 1)) as (figure, axes):
        axes.boxplot(
            shown, orientation="horizontal", whis=(5, 95), showfliers=False,
            medianprops={"color": "#d95f02"},
        )
        axes.set_yticks(range(1, len(shown) + 1), list(by_entry))
        axes.set(xlabel=unit)
        axes.invert_yaxis()
        alt = f"{title}: a box a method from the first to the third quartile, whiskers from 5 to 95 %"
        return {"title": title, "alt": alt, "svg": _svg(figure)}


def _curve_plot(points: pd.DataFrame, score: str, words: str) -> Plot:
    """Small axes, one a curve, a line an entry, with its interval."""
    names = list(dict.fromkeys(points["curve"]))
    columns = (len(names) + 1) // 2
    with _axes(2, columns, figsize=(12, 6), sharey=True, squeeze=False) as (figure, axes):
        for name, axis in zip(names, axes.flat):
            part = points[(points["curve"] == name) & (points["score"] == score)]
            entries = list(part.groupby(["method", "run", "condition"], sort=False))
            for (entry, line), colour in zip(entries, _colours(len(entries))):
                label = label_of(*map(str, entry))   # type: ignore[arg-type]
                _draw_line(axis, line["value"], line, label, colour)
            axis.set(title=f"{name}, {CURVE_UNITS.get(name, '')}".rstrip(", "))
            if name == "jpeg":   # from good to bad, like the others
                axis.invert_xaxis()
        axes.flat[0].legend(frameon=False, fontsize=7)
        figure.tight_layout()
        alt = f"{words} as one thing changes at a time, a line a method; tables/curves.csv has the values"
        return {"title": words, "alt": alt, "svg": _svg(figure)}


def _draw_line(axis: Any, at: pd.Series, line: pd.DataFrame, label: str, colour: str) -> None:
    """Means with their interval."""
    axis.plot(at, line["mean"], label=label, color=colour, marker="o", markersize=3)
    axis.fill_between(at, line["low"], line["high"], color=colour, alpha=0.15, linewidth=0)


@contextmanager
def _axes(rows: int = 1, columns: int = 1, **options: Any) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes in the look of the page, closed at the end; matplotlib takes a second to load."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": "ifrp-bench", "font.size": 9,
        "axes.spines.top": False, "axes.spines.right": False,
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(rows, columns, **options)
        try:
            yield figure, axes
        finally:
            plt.close(figure)


def _colours(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def _svg(figure: Any) -> str:
    """The figure's SVG element alone."""
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg"):]
