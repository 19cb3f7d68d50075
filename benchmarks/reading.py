"""What the code of a trained IFRP says, and what its decoder makes of it.

    python -m benchmarks.reading data/lfw ifrp --recogniser mobilefacenet.onnx --people 150
    python -m benchmarks.reading data/lfw ifrp --recogniser mobilefacenet.onnx --where e4

The code of each training SF, or with ``--where`` what a layer of the encoder makes, is read as principal
components of its real face by one linear layer, fitted by ridge regression to the weights as they are
(``encoder.py`` trains one); how strongly it is held back is chosen on the validation people. Scores of the
first test people by the reading, by the decoder, and by the mean of the two, among as many real faces.
"""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.encoder import Eigenfaces
from benchmarks.fit import described, of_first_faces
from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.shipped import find_run
from ifrp_bench.data.split import Split, load_split
from ifrp_bench.ground.images import to_pictures
from ifrp_bench.methods import to_unit
from ifrp_bench.methods.ifrp import IFRP
from ifrp_bench.nets.recogniser import open_recogniser
from ifrp_bench.recovery.trained import load_trained, recover_shard

AT_ONCE = 64   # faces
PLACES = 8   # to a side, at most: a ridge over more numbers takes long
WHERE = ("code", "e6", "e5", "e4", "e3")
HELD_BACK = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)   # against the mean variance of the code's numbers


def codes(method: IFRP, split: Split, where: str = "code") -> Tensor:
    """Of a split's SFs, float64 (n, numbers): the code, or a layer's maps at no more than 8x8 places."""
    srn = method.grown.srn.eval()
    made = []
    with torch.inference_mode():
        for rows in torch.arange(len(split)).split(AT_ONCE):
            x = 2 * split.pairs(rows).stylized - 1
            if where == "code":
                x, *_ = srn.bottleneck(x)
            else:
                for name, layer in srn.encoder.items():
                    x, _ = layer(x)
                    if name == where:
                        break
                x = F.adaptive_avg_pool2d(x, min(x.shape[-1], PLACES))
            made.append(x.flatten(1).double())
    return torch.cat(made)


def fitted(code: Tensor, components: Tensor, held_back: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """Weight (numbers, components) and bias of the ridge regression of components on codes, by strength."""
    middle, mean = code.mean(0), components.mean(0)
    centred = code - middle
    square, product = centred.T @ centred, centred.T @ (components - mean)
    ridge = square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
    weights = [torch.linalg.solve(square + strength * ridge, product) for strength in held_back]
    return [(weight, mean - middle @ weight) for weight in weights]


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--recogniser", required=True)
@click.option("--people", default=150, show_default=True, type=click.IntRange(min=1), help="Test people.")
@click.option("--where", type=click.Choice(WHERE), default="code", show_default=True, help="What is read.")
def main(data: Path, run: Path, recogniser: str, people: int, where: str) -> None:
    dataset, judge = open_dataset(data), open_recogniser(recogniser)
    train, held, test = (load_split(dataset, name, "cpu") for name in ("train", "val", "test"))
    method = load_trained(find_run(run)).method
    if not isinstance(method, IFRP):
        raise click.BadParameter(f"{run}: expected a run of ifrp or of its ablations; no other has a code")

    # what is to be read
    eigenfaces = Eigenfaces()
    eigenfaces.learn(train.real)
    wanted, wanted_held = (
        eigenfaces.of(split.real)[split.real_index].double() for split in (train, held)
    )
    spread = eigenfaces.components.square().sum(1)

    # by the layer that reads the validation people best
    code, code_held = (codes(method, split, where) for split in (train, held))
    layers = fitted(code, wanted, HELD_BACK)
    errors = [
        float(((code_held @ weight + bias - wanted_held).square() * spread).sum(1).mean())
        for weight, bias in layers
    ]
    best = int(np.argmin(errors))
    weight, bias = layers[best]
    click.echo(f"held back by {HELD_BACK[best]:g}")

    # the reading, the decoder, and the two together
    some = of_first_faces(test, people)
    read = (codes(method, some, where) @ weight + bias).float()
    linear = np.concatenate([to_pictures(to_unit(eigenfaces.faces(part))) for part in read.split(AT_ONCE)])
    decoded = recover_shard(method, some.stylized.numpy())
    both = ((linear.astype(np.uint16) + decoded + 1) // 2).astype(np.uint8)
    gallery = judge.embed(some.real.numpy())
    seen = np.isin(some.style, dataset.seen)
    for name, faces in (("reading", linear), ("decoder", decoded), ("mean of both", both)):
        for styles, rows in (("seen", seen), ("unseen", ~seen)):
            if rows.any():
                click.echo(f"{name}, {styles}: {described(faces[rows], some.chosen(rows), judge, gallery)}")


if __name__ == "__main__":
    main()
