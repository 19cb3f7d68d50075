"""How a run does on faces that it was trained on beside faces that it has never seen: where both are poor it
lacks length, where they differ it lacks faces.

    python -m benchmarks.fit data/lfw runs/lfw/ifrp runs/lfw/align-restore --recogniser mobilefacenet.onnx

Scores of the validation split and of as many of the first training faces, each among its own real faces.
"""

from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from benchmarks.unseen import scored
from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.shipped import find_run
from ifrp_bench.data.split import Split, load_split
from ifrp_bench.nets.recogniser import Recogniser, open_recogniser
from ifrp_bench.recovery.trained import load_trained, recover_shard


def of_first_faces(split: Split, faces: int) -> Split:
    """So many of a split's real faces, and their rows."""
    return replace(split.chosen((split.real_index < faces).numpy()), real=split.real[:faces])


def described(recovered: np.ndarray, split: Split, judge: Recogniser, gallery: np.ndarray) -> str:
    """Scores of recovered faces, uint8 (n, 128, 128, 3), in words."""
    decibels, ranks = scored(recovered, split, judge, gallery)
    return (
        f"{decibels:.2f} dB, rank-1 {100 * (ranks.rank == 1).mean():.1f} %, top 5"
        f" {100 * (ranks.rank <= 5).mean():.1f} % of {len(gallery)}, cosine {ranks.cosine.mean():.3f}"
    )


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--recogniser", required=True)
def main(data: Path, runs: tuple[Path, ...], recogniser: str) -> None:
    """Print the figures."""
    dataset, judge = open_dataset(data), open_recogniser(recogniser)
    unseen = load_split(dataset, "val", "cpu")
    seen = of_first_faces(load_split(dataset, "train", "cpu"), len(unseen.real))
    kinds = [
        (what, split, judge.embed(split.real.numpy()))
        for what, split in (("trained on", seen), ("never seen", unseen))
    ]
    for run in runs:
        method = load_trained(find_run(run), checkpoint="best").method
        for what, split, gallery in kinds:
            recovered = recover_shard(method, split.stylized.numpy())
            click.echo(f"{run}, faces {what}: {described(recovered, split, judge, gallery)}")


if __name__ == "__main__":
    main()
