"""IFRP in training: losses, schedules, the gate between SRN and DN, calibration of the identity term.

Marks: [P] paper, [C] the authors' public release, [I] inferred, [O] an option of this project. Inside, faces
are in [-1, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ifrp_bench.ground.settings import NotNegative, Positive, Share
from ifrp_bench.ground.errors import InputError
from ifrp_bench.methods import Learner, Pairs, Setup, adam, to_unit
from ifrp_bench.methods.ifrp.fast import Destylizer, FastSRN
from ifrp_bench.methods.ifrp.growing import Grown, stage_at
from ifrp_bench.methods.ifrp.network import DN, NETWORKS
from ifrp_bench.nets.identity import open_identity
from ifrp_bench.nets.stn import jittered, matrices, misplacement, nearest_similarity

EPOCHS = 245   # the WACV model is the checkpoint after 245 epochs [C]; schedules end where this many would
LOSSES = ("srn", "srn-dn", "ifrp")
OPTIMIZERS = ("rmsprop", "adam")


@dataclass(frozen=True)
class Config:
    """What IFRP is trained with.

    Marks: [P] paper, [C] the authors' public release, [I] inferred, [O] an option of this project.
    """

    network: str = "srn-3stn"   # [C]; srn-4stn [P tables, I placement]; srn-2stn, srn-0stn: ablations
    losses: str = "ifrp"   # [P] ablation rows: srn pixel only, srn-dn and DN, ifrp all three
    features: str = "builtin"   # [O]; vgg19 relu3_2 [P], a vgg_normalised file, facenet (the journal version)
    adversarial_weight: NotNegative = 0.01   # [P] lambda_0, times 0.995 an epoch, down to half of it
    # [O] the adversarial term's gradient into the faces against the pixel term's, no more than this; 0: no
    # bound. It reached 1.8 in short trainings, most of it in lines that stand in every face (docs/ifrp.md)
    adversarial_share: NotNegative = 0.0
    # [P] eta_0 0.001 with Caffe's VGG-19; 0: calibrated to the pixel term's gradient
    identity_weight: NotNegative = 0.0
    # of the calibrated identity term: its gradient against the pixel term's; 0.1 to 1 keeps the balance [I]
    identity_share: Positive = 0.3
    optimizer: str = "rmsprop"   # [P]; adam [O]
    learning_rate: Positive = 1e-3   # [P]
    learning_rate_decay: Positive = 0.99   # [C] an epoch; the paper's "decay rate 1e-2"
    # [O] the last part of the steps, over which the learning rate falls to zero along a line
    cooldown: Share = 0.0
    warm_up: bool = True   # [C] a fiftieth of the learning rate for 50 updates, a fifth for the next 50
    gate: bool = True   # [C] SRN or DN waits while the other is far behind
    gate_margin: NotNegative = 0.3   # [C]
    legacy_stn_bias: bool = False   # [C] the release's initial bias, a rotation of 57 degrees
    grow_32: Share = 0.0   # [O] the part of the steps at 32x32 with a light head
    grow_64: Share = 0.0   # [O] the part after it at 64x64
    # [O] of STN1's distance from the misalignment that the data set stores; the paper's STNs are not told
    align_weight: NotNegative = 0.0
    blend: Share = 0.2   # [O] the part of a grown stage in which it is blended in
    # [O] the part of the steps in which the parts are trained apart: the stored maps, with some noise, stand
    # in for the encoder's STNs, and STN1 learns them aside, of a quarter of each batch
    apart: Share = 0.0
    jitter: NotNegative = 0.03   # [O] spread of that noise, in half-sides

    def __post_init__(self) -> None:
        words = (
            ("network", self.network, NETWORKS),
            ("losses", self.losses, LOSSES),
            ("optimizer", self.optimizer, OPTIMIZERS),
        )
        for name, value, known in words:
            if value not in known:
                raise InputError(f"{name} {value!r} is none of {', '.join(known)}")
        if not (0 <= self.grow_32 and 0 <= self.grow_64 and self.grow_32 + self.grow_64 < 1):
            parts = f"grow_32 {self.grow_32} and grow_64 {self.grow_64}"
            raise InputError(f"{parts} are parts of the steps: at least 0, together below 1")
        if self.apart and not (self.align_weight and self.network != "srn-0stn"):
            raise InputError(
                f"apart {self.apart} wants an STN1 that is told the stored maps meanwhile; align_weight is"
                f" {self.align_weight} and the network {self.network}: set align_weight=4 and a network with"
                " STNs, or apart=0"
            )


# What the presets for CPUs have of our options
OURS = {
    "optimizer": "adam",
    "learning_rate_decay": 1.0,
    "align_weight": 4.0,
    "adversarial_share": 0.1,
    "mirror": True,
}
# Lengths are in epochs of the training split; batch size 64 [P]
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": EPOCHS},
    "short": {"epochs": 60},
    "cpu": (
        OURS | {
            "steps": 6400,
            "batch_size": 32,
            "cooldown": 0.05,
            "grow_32": 0.78,
            "grow_64": 0.14,
            "colour_maps": 0.5,
            "ema": 0.999,
        }
    ),
    "smoke": (
        OURS | {
            "steps": 1100,
            "batch_size": 16,
            "cooldown": 0.12,
            "grow_32": 0.7,
            "grow_64": 0.14,
            "colour_maps": 0.3,
            "ema": 0.98,
            "validations": 5,
        }
    ),
}


class IFRP(Learner):
    """The method in training: networks, optimisers, schedules. ``build`` makes it."""

    def __init__(self, config: Config, setup: Setup) -> None:
        self.config = config
        torch.manual_seed(setup.seed)
        srn = FastSRN(config.network, legacy_stn_bias=config.legacy_stn_bias)
        self.network: nn.Module = srn   # in use; heads are left behind
        self.grown = setup.place(Grown(srn))
        # what it is trained with, as far as its losses want it
        losses = config.losses if setup.trains else "srn"
        self.dn = setup.place(DN()) if losses != "srn" else None
        self.identity = open_identity(config.features, setup.device) if losses == "ifrp" else None

        # by name, for checkpoints
        networks: dict[str, nn.Module] = {"srn": srn, "heads": cast(nn.Module, self.grown.heads)}
        if self.dn:
            networks["dn"] = self.dn
        super().__init__(setup, networks, self._optimizers)

        self.call_grown = setup.compile(self.grown)
        self.call_dn = setup.compile(self.dn) if self.dn else None
        self.identity_weight = config.identity_weight
        # and the version of the weights that it was made of
        self._for_use: tuple[int, Destylizer] | None = None

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """DN has one of its own."""
        of_srn = {"srn": self._optimizer(self.grown)}
        return of_srn | ({"dn": self._optimizer(self.dn)} if self.dn else {})

    def _optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        rate = self.config.learning_rate
        # the release's squared-gradient decay is 0.9; the paper's "decay rate" is another thing, of the
        # learning rate
        if self.config.optimizer == "adam":
            return adam(network, rate)
        # squared-gradient decay of the release
        return torch.optim.RMSprop(network.parameters(), rate, alpha=0.9, eps=1e-8)

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update of SRN, and of DN, at the size that the stage of growing has."""
        config = self.config
        if len(batch.stylized) < 2:
            raise InputError(
                "batch_size 1: at least 2, for the statistics of batch normalisation and DN's two halves"
            )
        px, share = self.stage()
        self.set_learning_rate(self.learning_rate())
        real = 2 * batch.real - 1
        self.grown.train()
        with self.setup.autocast():
            recovered, parameters = self.call_grown(2 * batch.stylized - 1, px, share, self.told(batch.warp))
        recovered = recovered.float()

        # pixel loss, of all variants and stages [P equation 1]
        losses = {"pixel": F.mse_loss(recovered, F.avg_pool2d(real, 128 // px) if px < 128 else real)}
        total = losses["pixel"]

        # STN1 is told the misalignment where asked for [O]
        if config.align_weight and parameters is not None:
            losses["align"] = misplacement(matrices(parameters), batch.warp[: len(parameters)])
            total = total + config.align_weight * losses["align"]

        # DN learns first, then judges; the gate may let either of the two wait [C]
        update_srn = True
        if self.dn and px == 128:
            verdicts, update_srn = self._step_dn(real, recovered.detach())
            losses |= verdicts
            losses["adversarial"], weighted = self._adversarial_term(real, recovered)
            total = total + weighted

        # the identity term, from when it has a weight [P equation 4]
        if self.identity and px == 128:
            if self._calibration_is_due():
                self.identity_weight = self._calibrated_identity_weight(batch)
            if self.identity_weight:
                weight = torch.tensor(self.fade() * self.identity_weight, device=self.setup.device)
                losses["identity"], gradient = pull(lambda faces: self._identity_loss(faces, real), recovered)
                losses["identity_weight"] = weight   # for the log
                total = total + (recovered * (weight * gradient)).sum()

        if update_srn:
            self.update("srn", total)
        self.done += 1
        return {name: value.detach() for name, value in losses.items()}

    def _step_dn(self, real: Tensor, recovered: Tensor) -> tuple[dict[str, Tensor], bool]:
        """Real faces of the first half of the batch against recovered ones of the second, in one pass: no
        face is in both.

        Then the gate. Returns the losses, and whether SRN is to be updated.
        """
        assert self.dn and self.call_dn
        half = len(real) // 2
        self.dn.train().requires_grad_(True)
        with self.setup.autocast():
            logits = self.call_dn(torch.cat([real[:half], recovered[half:]])).float()
        on_real = F.binary_cross_entropy_with_logits(logits[:half], torch.ones_like(logits[:half]))
        on_recovered = F.binary_cross_entropy_with_logits(logits[half:], torch.zeros_like(logits[half:]))
        update_dn, update_srn = self._gate(on_real.detach(), on_recovered.detach())
        if update_dn:
            self.update("dn", (on_real + on_recovered) / 2)
        self.dn.requires_grad_(False)   # SRN's pass through it needs no gradients of its weights
        skipped = {
            "skip_srn": on_real.new_tensor(not update_srn),
            "skip_dn": on_real.new_tensor(not update_dn),
        }
        return {"dn_real": on_real, "dn_recovered": on_recovered} | skipped, update_srn

    def _gate(self, on_real: Tensor, on_recovered: Tensor) -> tuple[bool, bool]:
        """Whether DN and SRN are updated [C]: DN waits if it wins, SRN if DN is lost.

        The one look at the device in a step.
        """
        if not self.config.gate:
            return True, True
        losses = torch.stack([on_real, on_recovered])
        self.setup.average([losses])
        # DN wins where its smaller loss is below the margin, and is lost where its larger one is above 1 -
        # margin
        low, high = float(losses.min()), float(losses.max())
        update_dn, update_srn = low >= self.config.gate_margin, high <= 1 - self.config.gate_margin
        return (update_dn, update_srn) if update_dn or update_srn else (True, True)

    def _adversarial_term(self, real: Tensor, recovered: Tensor) -> tuple[Tensor, Tensor]:
        """The adversarial loss, and what has the gradient into the faces that its weight gives it or, where
        its share is bounded, the bound.
        """
        weight: Tensor | float = self.fade() * self.config.adversarial_weight
        share = self.config.adversarial_share
        # DN's gradient into the faces themselves, and the pixel term's, 2 (recovered - real) / n
        loss, gradient = pull(lambda faces: self._adversarial(real, faces), recovered)
        if share:
            pixel = 2 * (recovered.detach() - real) / recovered.numel()
            squares = torch.stack([pixel.square().sum(), gradient.square().sum()])
            self.setup.average([squares])
            bound = share * (squares[0] / squares[1].clamp_min(1e-30)).sqrt()
            weight = bound.clamp_max(weight)
        return loss, (recovered * (weight * gradient)).sum()

    def _adversarial(self, real: Tensor, recovered: Tensor) -> Tensor:
        """-log D(recovered), non-saturating [C]; the sign printed in the paper would drive D the other way.

        Real faces stand beside the recovered ones in this pass too [I]: DN normalises by batch statistics and
        was taught on halves of each. Of a batch of recovered faces alone it called every one real
        (adversarial loss 0.0002), and nothing came back.
        """
        assert self.call_dn
        with self.setup.autocast():
            logits = self.call_dn(torch.cat([real, recovered])).float()
        return F.softplus(-logits[len(real):]).mean()

    def _identity_loss(self, recovered: Tensor, real: Tensor) -> Tensor:
        """Mean squared difference of the features of recovered and real faces [P equation 4]."""
        assert self.identity
        with self.setup.autocast():
            with torch.no_grad():
                wanted = self.identity((real + 1) / 2)
            got = self.identity((recovered + 1) / 2)
        return F.mse_loss(got.float(), wanted.float())

    def _calibration_is_due(self) -> bool:
        """Whether the identity term still lacks a weight when the first epoch is over."""
        return not self.identity_weight and self.epoch() >= 1

    def _calibrated_identity_weight(self, batch: Pairs) -> float:
        """The weight with which the gradient that the identity term sends into recovered faces is
        ``identity_share`` of the pixel term's: on the validation batch, or, where there is none, on this
        one.
        """
        held = self.setup.validation or batch
        recovered, real = 2 * self.recover(held.stylized) - 1, 2 * held.real - 1

        # how hard each term pulls at the very faces
        _, pixel = pull(lambda faces: F.mse_loss(faces, real), recovered)
        _, identity = pull(lambda faces: self._identity_loss(faces, real), recovered)
        norms = torch.stack([pixel.norm(), identity.norm()])
        self.setup.average([norms])
        return self.config.identity_share * float(norms[0]) / max(float(norms[1]), 1e-12)

    def epoch(self) -> int:
        """The epoch of the paper's 245 that a training of this length stands in."""
        return EPOCHS * self.done // self.setup.steps

    def fade(self) -> float:
        """What the weights of the adversarial and the identity term
        have fallen to: 0.995 an epoch, to a half [P].
        """
        return max(0.995 ** self.epoch(), 0.5)

    def learning_rate(self) -> float:
        """Of this step: 1 % less an epoch, not below 1e-6; warmed up over 100 updates.

        Cooled down if asked for.
        """
        config, left = self.config, 1 - self.part
        rate = max(config.learning_rate * config.learning_rate_decay ** self.epoch(), 1e-6)
        if config.warm_up and self.done < 100:
            rate /= 50 if self.done < 50 else 5
        return rate * min(1.0, left / config.cooldown) if config.cooldown else rate

    def told(self, stored: Tensor) -> Tensor | None:
        """What stands in for the encoder's STNs as long as the parts are trained apart, (N, 2, 3); its noise
        is a function of seed and step.
        """
        if self.part >= self.config.apart:
            return None
        torch.manual_seed(self.setup.step_seed(self.done))
        return nearest_similarity(jittered(stored, self.config.jitter))

    def stage(self) -> tuple[int, Tensor | None]:
        """The size of this step's faces, px, and the share of the newest stage while it is blended in."""
        px, share = stage_at(self.config, self.part)
        return px, None if share is None else torch.tensor(share, device=self.setup.device)

    @torch.no_grad()
    def recover(self, stylized: Tensor, real: Tensor | None = None) -> Tensor:
        """Recovered faces (N, 3, 128, 128) in [0, 1] by running statistics, in float32; while growing,
        enlarged from the stage's size.
        """
        px, share = self.stage() if self.done < self.setup.steps else (128, None)
        if px == 128 and share is None:
            return self.inference()(stylized)
        self.grown.eval()
        small, _ = self.grown(2 * stylized - 1, px, share)
        return to_unit(F.interpolate(small.float(), size=128, mode="bilinear"))

    def inference(self) -> Destylizer:
        """A frozen network for use, folded; made anew when a weight has changed."""
        version = sum(tensor._version for tensor in self.network.state_dict(keep_vars=True).values())
        if self._for_use is None or self._for_use[0] != version:
            self._for_use = version, Destylizer(cast(FastSRN, self.network))
        return self._for_use[1]

    def state(self) -> dict[str, Any]:
        """The calibrated weight is part of it."""
        return super().state() | {"identity_weight": self.identity_weight}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a ``state``."""
        super().restore(state)
        self.identity_weight = state["identity_weight"]


def pull(loss_of: Callable[[Tensor], Tensor], faces: Tensor) -> tuple[Tensor, Tensor]:
    """A loss of faces, and its gradient into them.

    What it was computed by is gone when this returns: of several losses and the network behind the faces, one
    at a time holds its maps beside the network's.
    """
    leaves = faces.detach().requires_grad_()
    loss = loss_of(leaves)
    gradient, = torch.autograd.grad(loss, leaves)
    return loss.detach(), gradient


def build(config: Config, setup: Setup) -> IFRP:
    """The method, ready for its first step."""
    return IFRP(config, setup)
