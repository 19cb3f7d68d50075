"""What looks at how a face lies are worth to `align-restore`.

    python -m benchmarks.looks data/lfw                                # its aligner alone, by 1, 2, 3 looks
    python -m benchmarks.looks data/lfw --run runs/lfw/align-restore   # a run's PSNR by either map
    python -m benchmarks.looks data/lfw-bench --run align-restore --split test --people 200

The first trains the aligner for ``--steps`` steps of 16 as the method does and says how far its maps take the
points of a picture from where the stored ones do. The others tell what a run or shipped weights lose to their
aligner: PSNR of faces restored from SFs that their own maps undo, and that the stored ones do.
"""

from pathlib import Path
from time import perf_counter
from typing import cast

import click
import numpy as np
import torch
from torch import Tensor

from benchmarks.fit import of_first_faces
from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.shipped import find_run
from ifrp_bench.data.split import Split, load_split
from ifrp_bench.ground.images import as_pictures
from ifrp_bench.methods import Setup
from ifrp_bench.methods.align_restore import Aligning, AlignRestore, Config, Network
from ifrp_bench.metrics.psnr import psnr_db
from ifrp_bench.nets.stn import misplacement, transform
from ifrp_bench.recovery.trained import load_trained
from ifrp_bench.training.batches import Batches

BATCH = 16
AT_ONCE = 100   # validation pairs
HALF_SIDE_PX = 64


def trained(looks: int, train: Split, steps: int) -> Aligning:
    """An aligner of so many looks, by the method's own optimiser, rate and augmentation."""
    method = AlignRestore(Config(looks=looks, feature_weight=0), Setup(steps=steps))
    batches = Batches(train, BATCH, 0, mirror=True, colour_maps=0.5)
    for step in range(steps):
        batch = batches.at(step)
        method.set_learning_rate(method.learning_rate())
        with method.setup.autocast():
            found = method.find(batch.stylized)
        method.update("network", torch.stack([misplacement(maps, batch.warp) for maps in found]).sum())
        method.done += 1
    return cast(Network, method.network).aligner.eval()


@torch.no_grad()
def off_px(aligner: Aligning, split: Split) -> Tensor:
    """Root mean square, over the points of a picture, of each validation pair's distance, in pixels."""
    found = []
    for rows in torch.arange(len(split)).split(AT_ONCE):
        pairs = split.pairs(rows)
        for maps, wanted in zip(aligner(pairs.stylized)[-1], pairs.warp):
            found.append(misplacement(maps[None], wanted[None]).sqrt() * HALF_SIDE_PX)
    return torch.stack(found)


@torch.no_grad()
def by_either_map(network: Network, split: Split) -> tuple[float, float]:
    """Mean PSNR of a split's faces restored by the network's own maps, and by the stored ones."""
    scores: list[list[float]] = [[], []]
    for rows in torch.arange(len(split)).split(AT_ONCE):
        pairs = split.pairs(rows)
        for kept, maps in zip(scores, (network.aligner(pairs.stylized)[-1], pairs.warp)):
            faces = network.restorer(transform(pairs.stylized, maps)).clamp(0, 1)
            kept += psnr_db(as_pictures(faces), as_pictures(pairs.real)).tolist()
    own, stored = (sum(kept) / len(kept) for kept in scores)
    return own, stored


def rms_px(off: Tensor) -> float:
    """Root mean square of distances."""
    return float(off.square().mean().sqrt())


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), help="An `align-restore` that is trained.")
@click.option("--split", default="val", show_default=True, help="What is looked at.")
@click.option("--people", type=int, help="Of the split's first faces alone.")
@click.option("--looks", default="1,2,3", show_default=True)
@click.option("--steps", default=900, show_default=True)
def main(data: Path, run: Path | None, split: str, people: int | None, looks: str, steps: int) -> None:
    """Print the figures."""
    dataset = open_dataset(data)
    held = load_split(dataset, split, "cpu")
    held = of_first_faces(held, people or len(held.real))
    if run:
        method = load_trained(find_run(run), checkpoint="best").method
        network: Network = method.inference().network   # type: ignore[attr-defined]
        seen = np.isin(held.style, dataset.seen)
        for what, part in (("seen", held.chosen(seen)), ("unseen", held.chosen(~seen))):
            if len(part):
                own, stored = by_either_map(network, part)
                click.echo(
                    f"{run}, {what} styles: {own:.2f} dB by its own maps, {stored:.2f} dB by the stored ones;"
                    f" {rms_px(off_px(network.aligner, part)):.2f} px off (root mean square)"
                )
        return
    train = load_split(dataset, "train", "cpu")
    for count in map(int, looks.split(",")):
        begun = perf_counter()
        aligner = trained(count, train, steps)
        seconds, off = perf_counter() - begun, off_px(aligner, held)
        click.echo(
            f"{count} looks: {rms_px(off):.2f} px off (root mean square), {off.median():.2f} in the median,"
            f" {seconds:.0f} s"
        )


if __name__ == "__main__":
    main()
