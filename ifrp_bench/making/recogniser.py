"""Trains the embedded recogniser on rendered people whom no recipe uses (their seed is this script's own).

    python -m ifrp_bench.making.recogniser --people 1200 --pictures 5 --minutes 12

Renders once into ``--cache`` and resumes where it was stopped; trains with a large-margin cosine softmax
(Wang et al. 2018) on faces that are moved, blurred and re-coloured, never stylized: what stylization costs is
what it is to measure. It writes ``ifrp_bench/nets/faces/`` (``net.safetensors`` in float16 and ``card.toml``)
with the ROC-AUC on two hundred people who are never trained on, of their faces, and of their stylized faces
against their real ones.
"""

import time
from pathlib import Path

import click
import numpy as np
import tomli_w
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ifrp_bench.data.styles import NAMES, Stylizer, pick_styles
from ifrp_bench.ground import memory
from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.files import write_whole
from ifrp_bench.ground.images import to_faces
from ifrp_bench.ground.precision import autocast, fast_precision
from ifrp_bench.ground.provenance import trained_on
from ifrp_bench.ground.ranks import roc_auc
from ifrp_bench.ground.warp import FACE_PX, face_window
from ifrp_bench.ground.weights import halves, save_state
from ifrp_bench.ground.workers import default_workers, map_in_order
from ifrp_bench.nets.embedder import EMBEDDING, FOLDER, FaceEmbedder, load_embedder
from ifrp_bench.nets.recogniser import TorchRecogniser, probe_face
from ifrp_bench.sources.procedural.rendering import render
from ifrp_bench.sources.procedural.traits import draw_traits

SEED = 20180312   # of the people; recipes count from 0
HELD_OUT = 200
BATCH = 64
LEARNING_RATE = 3e-3
SCALE, MARGIN = 24.0, 0.2


def frame_of(job: tuple[int, int]) -> np.ndarray:
    """One rendered face in CelebA's frame, uint8 (218, 178, 3)."""
    return render([draw_traits(SEED, *job)])[0]


def rendered(people: int, pictures: int, cache: Path) -> np.ndarray:
    """uint8 (people, pictures, 218, 178, 3), kept in ``cache`` person by person; its first ``HELD_OUT``
    people are never trained on.
    """
    cache.mkdir(parents=True, exist_ok=True)
    wanted = [person for person in range(people) if not (cache / f"{person:05d}.npy").is_file()]
    frames = map_in_order(
        frame_of,
        [(person, picture) for person in wanted for picture in range(pictures)],
        workers=default_workers(),
        initializer=torch.set_num_threads,
        arguments=(1,),
    )
    for person in tqdm(wanted, desc="render", unit="person"):
        np.save(cache / f"{person:05d}.npy", np.stack([next(frames) for _ in range(pictures)]))
    return np.stack([np.load(cache / f"{person:05d}.npy")[:pictures] for person in range(people)])


def jittered(faces: Tensor, draws: np.random.Generator) -> Tensor:
    """Moved by a few pixels, degrees and per cent, some blurred (as recovered faces are), brightness,
    contrast and tint changed.
    """
    count = len(faces)
    uniform = torch.from_numpy(draws.uniform(-1, 1, (count, 12)).astype(np.float32))
    angle, scale = uniform[:, 0] * 0.09, 1 + uniform[:, 1] * 0.06
    cos, sin, shift = scale * angle.cos(), scale * angle.sin(), uniform[:, 2:4] * 0.06
    rows = torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)
    grid = F.affine_grid(torch.stack(rows, 1), list(faces.shape), align_corners=False)
    moved = F.grid_sample(faces, grid, padding_mode="reflection", align_corners=False)

    # blur, as of a smaller picture
    side = int(draws.choice([20, 28, 40, 64]))
    small = F.interpolate(moved, size=side, mode="bilinear", antialias=True)
    blurred = F.interpolate(small, size=FACE_PX, mode="bicubic")
    moved = torch.where((uniform[:, 4] > 0.2)[:, None, None, None], blurred, moved)

    # colours and noise
    tint, contrast = 1 + uniform[:, 5:8] * 0.12, 1 + uniform[:, 8] * 0.25
    brighter = uniform[:, 9, None, None, None] * 0.12
    moved = (moved - 0.5) * (contrast[:, None] * tint)[:, :, None, None] + 0.5 + brighter
    noise = torch.from_numpy(draws.standard_normal(moved.shape).astype(np.float32))
    return (moved + 0.02 * noise).clamp(0, 1)


@torch.inference_mode()
def embed(net: FaceEmbedder, faces: np.ndarray) -> np.ndarray:
    """Embeddings (N, 128) of uint8 (N, 128, 128, 3) faces."""
    return np.concatenate(
        [net(to_faces(part)).numpy() for part in np.array_split(faces, max(1, len(faces) // 50))]
    )


def areas(net: FaceEmbedder, frames: np.ndarray) -> dict[str, float]:
    """ROC-AUC of genuine against impostor cosines: real faces among themselves, and upright stylized faces
    (first pictures) against real ones (second).
    """
    people, pictures = frames.shape[:2]
    real = np.stack([face_window(frame) for frame in frames.reshape(-1, *frames.shape[2:])])
    embedded = embed(net, real)
    who = np.repeat(np.arange(people), pictures)
    upper = np.triu_indices(len(who), 1)
    same, scores = (who[:, None] == who[None])[upper], (embedded @ embedded.T)[upper]
    found = {"real": roc_auc(scores[same], scores[~same])}
    queries = real[::pictures]
    stylizer = Stylizer(pick_styles(list(NAMES)), precision=fast_precision("cpu"), device="cpu", batch_size=1)
    own = np.eye(people, dtype=bool)
    for style in NAMES:
        windows = np.stack([face_window(frame, size_px=256) for frame in frames[:, 0]])
        scores = embed(net, stylizer(style, windows, FACE_PX)) @ embedded[1::pictures].T
        found[style] = roc_auc(scores[own], scores[~own])
    scores = embed(net, queries) @ embedded[1::pictures].T
    return {"real_same_protocol": roc_auc(scores[own], scores[~own])} | found


def train(faces: Tensor, who: Tensor, minutes: float) -> tuple[FaceEmbedder, int]:
    """The trained network and the number of updates."""
    torch.manual_seed(0)
    net = FaceEmbedder().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    people = nn.Parameter(torch.randn(int(who.max()) + 1, EMBEDDING))
    optimizer = torch.optim.AdamW([*net.parameters(), people], LEARNING_RATE, weight_decay=0.01, fused=True)
    started, step = time.monotonic(), 0
    while (part := (time.monotonic() - started) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = (
            LEARNING_RATE * min(1.0, (step + 1) / 100) * (1 + np.cos(np.pi * part)) / 2
        )
        draws = generator("recogniser", step)
        rows = torch.from_numpy(draws.integers(len(faces), size=BATCH))
        batch = jittered(to_faces(faces[rows].numpy()), draws).contiguous(memory_format=torch.channels_last)
        with autocast("cpu"):
            embedded = net(batch)
        cosines = embedded.float() @ F.normalize(people).T
        margin = MARGIN * min(1.0, part / 0.2) * F.one_hot(who[rows], len(people))
        loss = F.cross_entropy(SCALE * (cosines - margin), who[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            click.echo(
                f"{step} {part:.2f} {float(loss.detach()):.3f}"
                f" {float((cosines.argmax(1) == who[rows]).float().mean()):.3f}"
            )
    return net.eval(), step


@click.command()
@click.option("--people", default=1200, help="To train on, beside two hundred for measuring.")
@click.option("--pictures", default=5)
@click.option("--minutes", type=float, default=12)
@click.option("--cache", type=click.Path(path_type=Path), default=Path("data/recogniser"))
@click.option("--out", type=click.Path(path_type=Path), default=FOLDER)
def main(people: int, pictures: int, minutes: float, cache: Path, out: Path) -> None:
    """Render, train, measure on people whom training never saw, and write the network with its card."""
    memory.keep()
    frames = rendered(HELD_OUT + people, pictures, cache)
    held, training = frames[:HELD_OUT], frames[HELD_OUT:].reshape(-1, *frames.shape[2:])
    faces = torch.from_numpy(np.stack([face_window(frame) for frame in training]))
    net, steps = train(faces, torch.arange(people).repeat_interleave(pictures), minutes)
    save_state(out / "net.safetensors", halves(net.state_dict()))
    shipped, sha256, _ = load_embedder(out)   # measured as shipped, in float16's weights
    found = {name: round(float(value), 4) for name, value in areas(shipped, held).items()}
    card = {
        "title": "Small residual network that tells rendered people apart",
        "net": {
            "sha256": sha256,
            "parameters": sum(p.numel() for p in shipped.parameters()),
            "dtype": "float16",
        },
        "training": {
            "data": f"{people} rendered people (seed {SEED}, which no recipe uses), {pictures} pictures each",
            "loss": f"large-margin cosine, scale {SCALE}, margin {MARGIN}",
            "steps": steps,
            "batch_size": BATCH,
            "learning_rate": LEARNING_RATE,
            "minutes": minutes,
            "machine": trained_on("cpu"),
        },
        "expected": TorchRecogniser("builtin", shipped, sha256).embed(probe_face())[0].round(5).tolist(),
        "auc": {"people": HELD_OUT, "pictures": pictures} | found,
    }
    write_whole(out / "card.toml", tomli_w.dumps(card).encode())
    click.echo(card["auc"])


if __name__ == "__main__":
    main()
