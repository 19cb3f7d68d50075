"""Makes what stylizes with any picture: the bank of styles and the network.

    python -m ifrp_bench.making.open_styles --pictures FOLDER --data data/lfw --minutes 600

It writes ``ifrp_bench/nets/open_styles/``. The bank has, of every picture, a square at each of four scales,
and of every square mean and spread of each channel of the embedded narrow VGG: numbers, from which no picture
can be made again. The network learns to stylize real faces by each square: content is held as Johnson et al.
(2016) do, style by Gram matrices, each dimensionless as in ``making/style.py``. Works at 128 px: brushwork
then has the size beside a face that it has on a canvas four squares wide.
"""

import time
from pathlib import Path

import click
import numpy as np
import tomli_w
import torch
from torch import Tensor
from torch.nn import functional as F

from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.open_styles import CHUNK, FOLDER, squares_of, styles_of
from ifrp_bench.data.split import load_split
from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of, write_whole
from ifrp_bench.ground.images import as_faces, to_faces
from ifrp_bench.ground.precision import autocast
from ifrp_bench.ground.provenance import trained_on
from ifrp_bench.ground.warp import FACE_PX
from ifrp_bench.ground.weights import save_state
from ifrp_bench.nets.averages import Averages
from ifrp_bench.nets.open_style import LAYERS, OpenStylizer
from ifrp_bench.nets.vgg import gram, grams, open_features
from ifrp_bench.sources.folder import list_photographs

CONTENT_LAYER = "relu3_1"
STYLE_WEIGHT, SMOOTH_WEIGHT = 8.0, 0.1   # against 1 of content
LEARNING_RATE = 2e-3
EMA = 0.999
LOG_EVERY = 50   # steps


class Training:
    """The network in training, on any device: uint8 faces (m, 128, 128, 3) and squares, both on the CPU."""

    def __init__(self, faces: Tensor, pictures: np.ndarray, device: str, batch_size: int) -> None:
        torch.manual_seed(0)
        self.device, self.batch_size, self.faces = device, batch_size, faces.to(device)
        self.features = open_features("builtin").to(device)

        # what is to be known of each style, and what it is held to
        self.styles = styles_of(pictures, device)
        with torch.no_grad():
            parts = (to_faces(pictures[n:n + CHUNK], device) for n in range(0, len(pictures), CHUNK))
            matrices = [grams(self.features(part, LAYERS), LAYERS) for part in parts]
        self.grams = {layer: torch.cat([found[layer] for found in matrices]) for layer in LAYERS}

        # a style's numbers are seen as they are spread over the bank's
        self.network = OpenStylizer(self.styles.shape[1])
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.mean.copy_(self.styles.mean(0))
        self.network.spread.copy_(self.styles.std(0) + 1e-3)
        self.optimizer = torch.optim.Adam(self.network.parameters(), LEARNING_RATE, (0.9, 0.99), fused=True)
        self.averages = Averages(self.network, EMA)

    def step(self, number: int, part: float) -> dict[str, Tensor]:
        """One update; ``part`` of the training is done."""
        draws = generator("open stylizer", number)
        rows = torch.from_numpy(draws.integers(len(self.faces), size=self.batch_size)).to(self.device)
        wanted = torch.from_numpy(draws.integers(len(self.styles), size=self.batch_size)).to(self.device)
        faces = as_faces(self.faces[rows])
        with autocast(self.device):
            with torch.no_grad():
                content = self.features(faces, LAYERS)
            made = self.network(faces, self.styles[wanted])
            found = self.features(made, LAYERS)

            # content by the spread of the features, style by how far the face itself is from it
            before, after = content[CONTENT_LAYER].float(), found[CONTENT_LAYER].float()
            terms = {"content": F.mse_loss(after, before) / before.var((0, 2, 3)).mean()}
            left = [
                (gram(found[layer]) - self.grams[layer][wanted]).square().sum((1, 2))
                / (gram(content[layer]) - self.grams[layer][wanted]).square().sum((1, 2)).clamp_min(1e-8)
                for layer in LAYERS
            ]
        # a face that is close to its style already counts no more than others
        terms["style"] = torch.stack(left).clamp_max(4).mean()
        terms["smooth"] = (made[:, :, 1:] - made[:, :, :-1]).abs().mean() + (
            made[:, :, :, 1:] - made[:, :, :, :-1]
        ).abs().mean()
        total = terms["content"] + STYLE_WEIGHT * terms["style"] + SMOOTH_WEIGHT * terms["smooth"]
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, 0.02 + number / 100) * min(1.0, 3 * (1 - part) + 0.01)
        self.optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.averages.update()
        return {name: value.detach() for name, value in terms.items()}


def make(
    data: Path, pictures: Path, *, minutes: float, batch_size: int = 8, device: str = "cpu",
    out: Path = FOLDER,
) -> Path:
    """``bank.safetensors`` and ``net.safetensors`` (float16) with one ``card.toml``; returns their folder."""
    dataset = open_dataset(data)
    files = list_photographs(pictures)
    if not files:
        raise InputError(f"{pictures}: no picture in it; --pictures wants a folder of paintings")
    faces, cut = load_split(dataset, "train", "cpu").real, squares_of(pictures, files)
    training = Training(faces, cut, device, batch_size)
    out.mkdir(parents=True, exist_ok=True)
    save_state(out / "bank.safetensors", {"styles": training.styles.half().cpu()})

    # for so many minutes
    started, number, part = time.monotonic(), 0, 0.0
    while part < 1:
        terms = training.step(number, part)
        if number % LOG_EVERY == 0:
            shown = {name: round(float(value), 4) for name, value in terms.items()}
            click.echo(f"step {number}, {time.monotonic() - started:.0f} s: {shown}", err=True)
        number += 1
        part = (time.monotonic() - started) / (60 * minutes)
    with training.averages.in_place():
        weights = {name: value.half().cpu() for name, value in training.network.state_dict().items()}
    save_state(out / "net.safetensors", weights)
    card = {
        "title": "Open styles: any picture's, and mixtures of a bank's",
        "net": {
            "sha256": sha256_of(out / "net.safetensors"),
            "parameters": sum(parameter.numel() for parameter in training.network.parameters()),
            "architecture": "Johnson et al. 2016, normalisation told by the style (Ghiasi et al. 2017)",
            "dtype": "float16",
        },
        "bank": {
            "sha256": sha256_of(out / "bank.safetensors"), "styles": len(cut), "pictures": len(files)
        },
        "training": {
            "faces": len(faces),
            "face_px": FACE_PX,
            "style_weight": STYLE_WEIGHT,
            "steps": number,
            "batch_size": batch_size,
            "minutes": round((time.monotonic() - started) / 60, 1),
            "machine": trained_on(device),
        },
        "losses": {name: round(float(value), 4) for name, value in terms.items()},
    }
    write_whole(out / "card.toml", tomli_w.dumps(card).encode())
    return out


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--pictures", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--minutes", type=float, default=600.0, show_default=True)
@click.option("--batch-size", type=int, default=8, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=FOLDER)
def main(data: Path, pictures: Path, minutes: float, batch_size: int, device: str, out: Path) -> None:
    """Fill the bank and train the network."""
    click.echo(make(data, pictures, minutes=minutes, batch_size=batch_size, device=device, out=out))


if __name__ == "__main__":
    main()
