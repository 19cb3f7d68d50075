"""Trains the embedded identity features: a narrow VGG-19 up to relu3_1 whose output is regressed on the real
one's (both after ReLU).

    python -m ifrp_bench.making.features --data data/lfw --pictures FOLDER_OF_PAINTINGS \
        --teacher vgg_normalised_conv3_1.pth --minutes 12

It writes ``ifrp_bench/nets/features/`` (``net.safetensors`` in the layout of the ``vgg_normalised`` files,
and ``card.toml``). Half of each batch is stylized faces, three eighths real faces, one eighth crops of
paintings. The explained variance, 1 - sum of squared errors / sum of squares around each channel's mean, is
measured on faces of the validation and test splits, whom training never sees.
"""

import time
from pathlib import Path

import click
import numpy as np
import tomli_w
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.data.format import open_dataset
from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.files import sha256_of, write_whole
from ifrp_bench.ground.images import SUFFIXES, read_picture, to_faces
from ifrp_bench.ground.precision import autocast
from ifrp_bench.ground.provenance import trained_on
from ifrp_bench.ground.warp import FACE_PX
from ifrp_bench.ground.weights import save_state
from ifrp_bench.nets.vgg import Features, channels_last, open_features

LAYER = "relu3_1"
BATCH = 16
CROP_PX = 64   # the regression is local: four times the updates for the same arithmetic
LEARNING_RATE = 2e-3
KEYS = (2, 5, 9, 12, 16)   # of the convolutions in the vgg_normalised layout


def student_of(teacher: Features, widths: list[int]) -> Features:
    """A fresh network of the teacher's topology with other widths, ready to train."""
    torch.manual_seed(0)
    convs = []
    for inputs, outputs in zip([3, *widths], widths):
        conv = channels_last(nn.Conv2d(inputs, outputs, 3))
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        convs.append(conv)
    first = nn.Conv2d(3, 3, 1)
    nn.init.dirac_(first.weight)
    first.weight.data *= 4
    assert first.bias is not None
    nn.init.constant_(first.bias, -2.0)   # [0, 1] to [-2, 2], about unit variance
    student = Features("builtin", "", first, convs, (2, 2, 1), padding="reflect", ceil=True)
    student.convs.requires_grad_(True)
    return student


def load_split(root: Path, split: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Stylized and real faces of a split, uint8 (N, 128, 128, 3) each."""
    stylized, real = [], []
    data = open_dataset(root)
    for path in data.shards(split):
        shard = data.read(path)
        stylized.append(shard.stylized)
        real.append(shard.real)
        if sum(map(len, stylized)) >= limit:
            break
    return np.concatenate(stylized)[:limit], np.concatenate(real)[:limit]


def crops(pictures: list[np.ndarray], count: int, draws: np.random.Generator) -> np.ndarray:
    """Random squares of the pictures at random scales, uint8 (count, 128, 128, 3)."""
    import cv2

    made = []
    for _ in range(count):
        picture = pictures[draws.integers(len(pictures))]
        side = int(draws.integers(FACE_PX, min(picture.shape[:2]) + 1))
        top, left = (int(draws.integers(size - side + 1)) for size in picture.shape[:2])
        made.append(
            cv2.resize(
                picture[top : top + side, left : left + side],
                (FACE_PX, FACE_PX),
                interpolation=cv2.INTER_AREA,
            )
        )
    return np.stack(made)


def features_of(net: Features, faces: Tensor) -> Tensor:
    """The layer's features, in bfloat16 where it is faster."""
    with autocast("cpu"):
        return net(faces, (LAYER,))[LAYER]


@torch.no_grad()
def explained_variance(student: Features, teacher: Features, pictures: np.ndarray) -> float:
    """In float32, over all channels and positions."""
    residual, total, count = 0.0, torch.zeros(1), 0
    means = torch.cat(
        [
            teacher(to_faces(part), (LAYER,))[LAYER].mean((2, 3))
            for part in np.array_split(pictures, max(1, len(pictures) // 32))
        ]
    ).mean(0)
    for part in np.array_split(pictures, max(1, len(pictures) // 32)):
        faces = to_faces(part)
        wanted, got = teacher(faces, (LAYER,))[LAYER], student(faces, (LAYER,))[LAYER]
        residual += float((wanted - got).square().sum())
        total = total + (wanted - means[:, None, None]).square().sum()
        count += len(part)
    return 1 - residual / float(total)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--pictures", type=click.Path(path_type=Path), required=True)
@click.option("--teacher", "teacher_file", required=True)
@click.option(
    "--widths", default="32,32,64,64", help="Of the four layers before relu3_1, which has the teacher's 256."
)
@click.option("--minutes", type=float, default=12)
@click.option("--out", type=click.Path(path_type=Path), default=Path("ifrp_bench/nets/features"))
def main(data: Path, pictures: Path, teacher_file: str, widths: str, minutes: float, out: Path) -> None:
    """Train, measure on people whom training never saw, and write the network with its card."""
    teacher = open_features(teacher_file)
    student = student_of(teacher, [int(width) for width in widths.split(",")] + [256])
    stylized, real = load_split(data, "train", 20_000)
    paintings = [read_picture(path) for path in sorted(pictures.iterdir()) if path.suffix in SUFFIXES]
    held = {
        "photographs": load_split(data, "test", 1200)[1][:128],
        "stylized": load_split(data, "test", 128)[0],
    }
    optimizer = torch.optim.Adam(
        [p for p in student.parameters() if p.requires_grad], LEARNING_RATE, fused=True
    )
    started, step = time.monotonic(), 0
    while (part := (time.monotonic() - started) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, step / 50) * (1 + np.cos(np.pi * part)) / 2
        draws = generator("features", step)
        batch = np.concatenate(
            [
                stylized[np.sort(draws.integers(len(stylized), size=BATCH // 2))],
                real[np.sort(draws.integers(len(real), size=BATCH * 3 // 8))],
                crops(paintings, BATCH // 8, draws),
            ]
        )
        top, left = draws.integers(FACE_PX - CROP_PX + 1, size=2)
        faces = to_faces(batch[:, top:top + CROP_PX, left:left + CROP_PX])
        with torch.no_grad():
            wanted = features_of(teacher, faces)
        loss = F.mse_loss(features_of(student, faces).float(), wanted.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 200 == 0:
            click.echo(
                f"{step} {part:.2f} {float(loss.detach()):.4f}"
                f" {explained_variance(student, teacher, held['photographs'][:32]):.4f}"
            )
    state: dict[str, Tensor] = {}
    for key, conv in zip((0, *KEYS), (student.first, *student.convs)):
        state |= {f"{key}.{name}": value.detach().half() for name, value in conv.named_parameters()}
    save_state(out / "net.safetensors", state)
    saved = open_features(out / "net.safetensors")   # measured as shipped, in float16's weights
    card = {
        "title": "VGG-19 up to relu3_1, narrow, regressed on vgg_normalised features",
        "layer": LAYER,
        "net": {
            "sha256": sha256_of(out / "net.safetensors"),
            "widths": [conv.out_channels for conv in saved.convs],
            "parameters": sum(p.numel() for p in saved.parameters()),
            "dtype": "float16",
        },
        "training": {
            "teacher": teacher.name,
            "teacher_sha256": teacher.sha256,
            "data": "LFW photographs and their stylized faces (recipe photos), crops of the eight paintings",
            "steps": step,
            "batch_size": BATCH,
            "crop_px": CROP_PX,
            "learning_rate": LEARNING_RATE,
            "minutes": round(minutes, 1),
            "machine": trained_on("cpu"),
        },
        "explained_variance": {
            name: round(explained_variance(saved, teacher, pictures), 4) for name, pictures in held.items()
        },
    }
    write_whole(out / "card.toml", tomli_w.dumps(card).encode())
    click.echo(card["explained_variance"])


if __name__ == "__main__":
    main()
