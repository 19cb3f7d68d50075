"""Training a style network: feed-forward style transfer (Johnson, Alahi and Fei-Fei 2016) on misaligned
faces.

Those are the very pictures that the data set is made of. It writes a style folder that ``data/styles.py``
reads; an interrupted training resumes at its last checkpoint.
"""

import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ifrp_bench.data.runs import Run
from ifrp_bench.data.styles import Style, check_picture, load_net
from ifrp_bench.ground import memory
from ifrp_bench.ground.compiler import compiler
from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of, write_whole
from ifrp_bench.ground.images import PictureError, read_picture, resize_shorter_side, to_faces
from ifrp_bench.ground.precision import autocast
from ifrp_bench.ground.provenance import trained_on
from ifrp_bench.ground.warp import draw_misalignment, face_window
from ifrp_bench.ground.weights import save_state
from ifrp_bench.methods import restore_optimizer
from ifrp_bench.nets.averages import Averages
from ifrp_bench.nets.transformer import Transformer
from ifrp_bench.nets.vgg import Features, gram, loss_layers, open_features
from ifrp_bench.sources import Face, Faces

HELD_OUT = 48   # faces that the losses before and after are measured on
CHECKPOINT_SECONDS = 60
VERSION = 2   # of the eight networks: 1 was trained at the larger size alone
STYLE_WEIGHT = 8.0   # as much style as public networks of the same paintings have, and more of the face


@dataclass(frozen=True)
class Config:
    """What a training is a function of, beside its inputs.

    The release trains 40,000 updates of batch 4 at 256 px with a constant rate. Here most updates see random
    128 px crops of the 256 px picture (``crop_px``), the last quarter (``whole_part``) one whole picture, and
    the rate falls along a cosine: it is convincing after a hundredth of the arithmetic. The losses are made
    dimensionless, so that a weight means the same for any feature file: style is divided by its value on
    unstylized faces, content by the variance of the features. The release's weights, 1 and 5, belong to its
    own scale.

    Style is held to the painting at two sizes: that of stylizing, and half of it, which is what data sets
    store. At the larger one alone, as published, a network finds texture that the average takes away: of
    Udnie's Gram distance 97 % was gone at 256 px and 13 % at 128.
    """

    steps: int = 1200
    batch_size: int = 4
    size_px: int = 256   # as the release, and the data set's default stylizing resolution
    crop_px: int = 128
    whole_part: float = 0.25
    style_px: int = 256   # shorter side of the painting; the release uses 256 to 384
    content_weight: float = 1.0
    style_weight: float = STYLE_WEIGHT
    large_share: float = 0.5   # of style at ``size_px``
    small_share: float = 1.0   # of style at half of it
    tv_weight: float = 1.0   # on [0, 1] pictures, averaged over pixels
    learning_rate: float = 1e-3
    ema: float = 0.995   # of the weights that are kept
    width: int = 16
    seed: int = 0


class Losses:
    """Content and style losses of one painting, dimensionless; ``shares`` are of style at the two sizes."""

    def __init__(
        self,
        features: Features,
        painting: Tensor,
        photographs: Tensor,
        shares: tuple[float, float] = (0.5, 1.0),
    ) -> None:
        self.features, self.shares = features, shares
        self.content_layers, self.style_layers = loss_layers(features)
        with torch.no_grad():
            # what the painting has, and how far photographs are from it at either size
            targets = features(painting, self.style_layers)
            self.grams = {name: gram(value) for name, value in targets.items()}   # (1, C, C)
            plain = self._all(photographs)
            small = features(halved(photographs), self.style_layers)
            self.style_unit = {name: self._distance(name, plain[name]) for name in self.style_layers}
            self.small_unit = {name: self._distance(name, small[name]) for name in self.style_layers}
            self.content_unit = {name: plain[name].float().var() for name in self.content_layers}

    def _distance(self, name: str, features: Tensor) -> Tensor:
        """Mean squared difference of Gram matrices to the painting's."""
        return F.mse_loss(gram(features), self.grams[name].expand(len(features), -1, -1))

    def _all(self, faces: Tensor) -> dict[str, Tensor]:
        return self.features(faces, tuple(dict.fromkeys(self.style_layers + self.content_layers)))

    def __call__(self, stylized: Tensor, photographs: Tensor) -> dict[str, Tensor]:
        """``content`` (0: the photograph's features; 1: as far as its features vary), ``tv``, and ``style``.

        ``style`` is the sum of ``large`` and ``small`` by their shares, of which each is 1 for photographs.
        """
        with torch.no_grad():
            wanted = self.features(photographs, self.content_layers)
        got = self._all(stylized)
        content = [
            F.mse_loss(got[name].float(), wanted[name].float()) / self.content_unit[name]
            for name in self.content_layers
        ]
        got_small = self.features(halved(stylized), self.style_layers)
        large = self._style(got, self.style_unit)
        small = self._style(got_small, self.small_unit)
        return {
            "content": torch.stack(content).mean(),
            "style": self.shares[0] * large + self.shares[1] * small,
            "tv": stylized.diff(dim=2).square().mean() + stylized.diff(dim=3).square().mean(),
            "large": large,
            "small": small,
        }

    def relative(self, pictures: Tensor) -> Tensor:
        """Squared Gram distance to the painting over the square of its own, averaged over layers and
        pictures.
        """
        got = self.features(pictures, self.style_layers)
        ratios = []
        for name in self.style_layers:
            squares = (gram(got[name]) - self.grams[name]).square().flatten(1).sum(1)
            ratios.append(squares.mean() / self.grams[name].square().sum())
        return torch.stack(ratios).mean()

    def _style(self, got: dict[str, Tensor], unit: dict[str, Tensor]) -> Tensor:
        """Distance to the painting, 1 for photographs, averaged over layers."""
        return torch.stack(
            [self._distance(name, got[name]) / unit[name] for name in self.style_layers]
        ).mean()


def halved(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) averaged down by two, as data sets store stylized faces."""
    return F.avg_pool2d(pictures, 2)


def train_style(
    style: Style, picture: Path, source: Faces, features_source: str, config: Config, *, command: str,
    init: Style | None = None, device: str = "cpu", quiet: bool = False,
) -> dict[str, Any]:
    """Train ``style``'s network and write it with its card into ``style.folder``; returns the card.

    ``init`` is a trained style to start from: five of the eight took 160 to 410 updates from their version 1,
    of which candy had taken 1,200 from nothing and the others 700 from candy. The folder's ``training/``
    holds the checkpoint and the log (JSON lines); with the same arguments a second call resumes from there.
    Raises InputError for a picture that the card does not name, too few faces, or a checkpoint of other
    settings.
    """
    memory.keep()
    picture_sha256 = check_picture(style, picture)
    painting = to_faces(resize_shorter_side(read_picture(picture), config.style_px)[None], device)
    features = open_features(features_source).to(device)
    faces = source.faces()
    if len(faces) < 2 * HELD_OUT:
        raise InputError(f"{len(faces)} faces found; training a style needs at least {2 * HELD_OUT}")
    order = generator(config.seed, "style faces").permutation(len(faces))
    held_out = load_windows(source, [faces[i] for i in order[:HELD_OUT]], config, "held out")
    training = [faces[i] for i in order[HELD_OUT:]]

    with autocast(device):
        shares = config.large_share, config.small_share
        losses = Losses(features, painting, to_faces(held_out, device), shares)
    run = _Run(style, config, device, init)
    started = time.monotonic()
    run.train(losses, training, source, quiet)
    with autocast(device):
        held = _held_out_losses(run.averages.averaged, losses, to_faces(held_out, device))
    kept = run.averages.averaged.state_dict()
    save_state(style.weights, {name: value.half() for name, value in kept.items()})
    card = style.card | {
        "picture_sha256": picture_sha256,
        "net": {
            "version": VERSION,
            "sha256": sha256_of(style.weights),
            "architecture": "Johnson et al. 2016, instance normalisation",
            "width": config.width,
            "parameters": sum(p.numel() for p in run.net.parameters()),
            "dtype": "float16",
        },
        "training": (
            asdict(config) | {
                "command": command,
                "features": features.name,
                "features_sha256": features.sha256,
                "faces": len(training),
                "init": f"{init.name} {init.sha256}" if init else "",
                "content_layers": list(losses.content_layers),
                "style_layers": list(losses.style_layers),
                "minutes": round(run.seconds_before / 60 + (time.monotonic() - started) / 60, 1),
                "machine": trained_on(device),
            }
        ),
        "losses": held,
    }
    write_whole(style.folder / "card.toml", tomli_w.dumps(card).encode())
    return card


def load_windows(source: Faces, faces: list[Face], config: Config, *key: str | int) -> np.ndarray:
    """Misaligned windows of the faces, uint8 (N, size_px, size_px, 3), drawn by ``key``; a broken face gives
    its place to its neighbour.
    """
    windows: list[np.ndarray] = []
    for number, face in enumerate(faces):
        try:
            windows.append(
                face_window(
                    source.read(face),
                    draw_misalignment("lab", config.seed, *key, number),
                    size_px=config.size_px,
                )
            )
        except PictureError:
            if windows:
                windows.append(windows[-1])
    return np.stack(windows)


class _Run:
    """A training in progress: network, optimiser, and the place they are kept in."""

    def __init__(self, style: Style, config: Config, device: str, init: Style | None) -> None:
        self.run = Run(style.folder / "training", {"method": "style"})
        self.run.root.mkdir(parents=True, exist_ok=True)
        self.config = config
        self.device = device
        torch.manual_seed(config.seed)
        net = load_net(init).train().requires_grad_(True) if init else Transformer(config.width)
        if net.width != config.width:
            raise InputError(
                f"{init.weights if init else ''}: width {net.width}, this training is for width"
                f" {config.width}"
            )
        self.net = net.to(device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), config.learning_rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, config.steps, config.learning_rate / 50
        )
        self.averages = Averages(self.net, config.ema)
        self.step = 0
        self.seconds_before = 0.0
        if self.run.has("last"):
            self.restore()

    def train(self, losses: Losses, faces: list[Face], source: Faces, quiet: bool) -> None:
        """Run the remaining steps. Raises InputError if the loss is not finite at a logged step."""
        started = saved = time.monotonic()

        def forward(batch: Tensor) -> dict[str, Tensor]:
            # anew each step: autocast keeps its copies of the weights until it is left
            with autocast(self.device):
                return losses(self.net(batch), batch)

        # on a CPU it gains little, and with torch 2.14 its backward pass fails
        compute = compiler(self.device)(forward)
        bar = tqdm(
            total=self.config.steps,
            initial=self.step,
            desc=self.run.root.parent.name,
            unit="step",
            disable=quiet,
        )
        for batch in self.batches(faces, source):
            values = compute(batch)
            weights = {
                "content": self.config.content_weight,
                "style": self.config.style_weight,
                "tv": self.config.tv_weight,
            }
            total = sum((weight * values[name] for name, weight in weights.items()), torch.zeros(()))
            self.optimizer.zero_grad()
            total.backward()
            self.optimizer.step()
            self.schedule.step()
            self.averages.update()
            self.step += 1
            bar.update()
            if self.step % 20 == 0:
                self.log({name: round(float(value.detach()), 5) for name, value in values.items()}, bar)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                saved = time.monotonic()
                self.save(self.seconds_before + saved - started)
        bar.close()
        self.save(self.seconds_before + time.monotonic() - started)

    def batches(self, faces: list[Face], source: Faces) -> Iterator[Tensor]:
        """The batch of each step is a function of (seed, step), so a
        resumed training sees what an uninterrupted one does.
        """
        config = self.config
        while self.step < config.steps:
            draws = generator(config.seed, "style batch", self.step)
            whole = self.step >= (1 - config.whole_part) * config.steps
            # the same arithmetic a step
            count = max(1, config.batch_size // 4) if whole else config.batch_size
            chosen = [faces[i] for i in draws.integers(len(faces), size=count)]
            windows = load_windows(source, chosen, config, "training", self.step)
            if not whole:
                windows = np.stack([self._crop(window, draws) for window in windows])
            yield to_faces(windows, self.device)

    def _crop(self, window: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        top, left = draws.integers(self.config.size_px - self.config.crop_px + 1, size=2)
        return window[top:top + self.config.crop_px, left:left + self.config.crop_px]

    def log(self, values: dict[str, float], bar: tqdm) -> None:
        """A line of the log. Raises InputError for losses that are not finite."""
        if not all(np.isfinite(list(values.values()))):
            kept = f"the last checkpoint is in {self.run.root}"
            raise InputError(
                f"step {self.step}: the loss is no longer finite ({values}); lower the learning rate; {kept}"
            )
        bar.set_postfix(values)
        self.run.log(step=self.step, **values)

    def save(self, seconds: float) -> None:
        """A checkpoint, whole or not at all."""
        self.run.save("last", {
            "step": self.step,
            "steps": self.config.steps,
            "seconds": seconds,
            "config": asdict(self.config),
            "net": self.net.state_dict(),
            "adam": self.optimizer.state_dict()["state"],
        } | self.averages.state())

    def restore(self) -> None:
        """Take up the checkpoint. Raises InputError for one of other settings."""
        state = self.run.load("last")
        if state["config"] != asdict(self.config):
            there = f"a training with other settings is there ({state['config']})"
            raise InputError(f"{self.run.root}: {there}; remove the folder to start anew")
        self.step, self.seconds_before = state["step"], state["seconds"]
        self.net.load_state_dict(state["net"])
        restore_optimizer(self.optimizer, state["adam"])
        self.averages.restore(state)
        with warnings.catch_warnings():
            # stepping the schedule alone, on purpose: its steps are taken again
            warnings.simplefilter("ignore")
            for _ in range(self.step):
                self.schedule.step()


@torch.no_grad()
def _held_out_losses(net: torch.nn.Module, losses: Losses, photographs: Tensor) -> dict[str, Any]:
    """Gram loss of held-out faces at both sizes against the photographs' (1 a layer), and the content paid
    for it.

    ``stored_gone`` is how much of the Gram distance to the painting, relative to the painting's own Gram
    matrices and averaged over layers, is gone at the size that data sets store.
    """
    losses_of: list[dict[str, Tensor]] = []
    distances = []   # of stylized faces and of photographs, relative to the painting's own
    for part in photographs.split(4):
        stylized = net(part).clamp(0, 1)
        losses_of.append(losses(stylized, part))
        distances.append(torch.stack([losses.relative(halved(stylized)), losses.relative(halved(part))]))
    mean = {name: float(torch.stack([values[name] for values in losses_of]).mean()) for name in losses_of[0]}
    of_stylized, of_photographs = torch.stack(distances).mean(0).tolist()
    return {
        "held_out_faces": len(photographs),
        "gram_before": 1.0,
        "gram_after": round(mean["large"], 4),
        "gram_fall_percent": round(100 * (1 - mean["large"]), 1),
        "stored_gram_after": round(mean["small"], 4),
        "stored_gone": round(1 - of_stylized / of_photographs, 3),
        "content_after": round(mean["content"], 4),
    }
