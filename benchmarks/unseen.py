"""How a run does on styles that nobody trained on, by the validation people.

    python -m benchmarks.unseen data/lfw runs/lfw/align-restore align-restore --recogniser mobilefacenet.onnx

Their faces are stylized again, each in an open style of its own and misaligned as it was, so that variants
can be chosen without a look at the test styles. Beside scores it says how much of the squared error lies in
the means of whole faces and of squares of 16 pixels: light and shade, which a style hides before it hides a
person.
"""

from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.open_styles import Mixtures, draw_mixtures, open_bank
from ifrp_bench.data.shipped import find_run
from ifrp_bench.data.split import Split, load_split
from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.images import as_faces, to_pictures
from ifrp_bench.ground.ranks import Ranks, rank_queries
from ifrp_bench.ground.warp import FACE_PX
from ifrp_bench.metrics.psnr import psnr_db
from ifrp_bench.nets.recogniser import Recogniser, open_recogniser
from ifrp_bench.nets.stn import inverse
from ifrp_bench.recovery.trained import load_trained, recover

AT_ONCE = 16   # faces
COARSE_PX = 16


def in_open_styles(split: Split) -> np.ndarray:
    """Each SF of a split made again in an open style, uint8 (n, 128, 128, 3).

    What lies outside the photograph is reflected.
    """
    mixtures = Mixtures(open_bank(), "cpu", torch.float32)
    first, second = draw_mixtures(len(split), len(mixtures.styles), generator("benchmarks.unseen"))
    made = []
    for rows in torch.arange(len(split)).split(AT_ONCE):
        pairs = split.pairs(rows)
        grid = F.affine_grid(inverse(pairs.warp), list(pairs.real.shape), align_corners=True)
        windows = F.grid_sample(pairs.real, grid, padding_mode="reflection", align_corners=True)
        drawn = first[rows.numpy()], second[rows.numpy()]
        made.append(to_pictures(mixtures.stylized(windows.clamp(0, 1), drawn, FACE_PX)))
    return np.concatenate(made)


def scored(
    recovered: np.ndarray, split: Split, judge: Recogniser, gallery: np.ndarray
) -> tuple[float, Ranks]:
    """Mean PSNR, dB, and ranks of recovered faces, uint8 (n, 128, 128, 3), among a split's real ones."""
    decibels = psnr_db(torch.from_numpy(recovered), split.real[split.real_index])
    return float(decibels.mean()), rank_queries(judge.embed(recovered), gallery, split.real_index.numpy())


def described(recovered: np.ndarray, split: Split, judge: Recogniser, gallery: np.ndarray) -> str:
    """Scores of recovered faces in words."""
    decibels, ranks = scored(recovered, split, judge, gallery)
    error = as_faces(torch.from_numpy(recovered)) - as_faces(split.real[split.real_index])
    return (
        f"{decibels:.2f} dB, rank-1 {100 * (ranks.rank == 1).mean():.1f} %, cosine {ranks.cosine.mean():.3f};"
        f" of the squared error {_share(error, FACE_PX):.0%} in whole faces,"
        f" {_share(error, COARSE_PX):.0%} in squares of {COARSE_PX}"
    )


def _share(error: Tensor, square_px: int) -> float:
    return float(F.avg_pool2d(error, square_px).square().mean() / error.square().mean())


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--recogniser", required=True)
def main(data: Path, runs: tuple[Path, ...], recogniser: str) -> None:
    """Print the figures."""
    split = load_split(open_dataset(data), "val", "cpu")
    judge = open_recogniser(recogniser)
    gallery = judge.embed(split.real.numpy())
    shown = {"training styles": split.stylized.numpy(), "open styles": in_open_styles(split)}
    for run in runs:
        method = load_trained(find_run(run), checkpoint="best").method
        for what, stylized in shown.items():
            click.echo(f"{run}, {what}: {described(recover(method, stylized), split, judge, gallery)}")


if __name__ == "__main__":
    main()
