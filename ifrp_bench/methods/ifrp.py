"""Identity-preserving Face Recovery from Portraits (Shiri, Yu, Porikli, Hartley, Koniusz, WACV 2018), with its ablations.

A style removal network (SRN: encoder with spatial transformers, bottleneck, decoder) learns from a pixel loss, a discriminative network (DN) and
the distance of perceptual features, which is what keeps the identity. The tables are those of the paper and, where it is silent, of the
authors' later public release; "inferred" marks what neither says. Inside, faces are in [-1, 1].
"""

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ifrp_bench.errors import InputError
from ifrp_bench.methods import Learner, Pairs, Setup, to_unit
from ifrp_bench.nets.blocks import block_kernel
from ifrp_bench.nets.identity import open_identity
from ifrp_bench.nets.stn import LOCALISATION, SpatialTransformer, matrices, misplacement, transform
from ifrp_bench.nets.upsampled import RewrittenConv, UpsampledConv, interleave, pixels_first

PAIRED = True
TRAINABLE = True
EPOCHS = 245   # the WACV model is the checkpoint after 245 epochs [release]; schedules end where this many would
SLOPE = 0.2   # of LeakyReLU, in SRN's encoder and DN [release]
ENCODER = ((16, 5), (32, 5), (64, 3), (128, 3), (256, 1), (512, 1))   # channels, kernel; a 2x2 max-pool after each
ENCODER_STNS = {"e2": (32, 64), "e3": (64, 32)}   # key of LOCALISATION
DECODERS: dict[str, tuple[tuple[tuple[int, int], ...], dict[str, Any]]] = {   # (channels, kernel) of d1..d7; STNs after the upsampling that follows a layer
    "srn-3stn": (((256, 1), (128, 3), (64, 3), (512, 3), (256, 3), (128, 5), (64, 5)), {"d2": (128, 8)}),
    "srn-4stn": (((256, 1), (256, 3), (128, 3), (64, 3), (256, 3), (128, 5), (64, 5)), {"d3": (128, 16), "d4": (64, 32, "decoder")}),
}
NETWORKS = ("srn-3stn", "srn-4stn", "srn-2stn", "srn-0stn")   # the last two: srn-3stn without its decoder STN, and without any
LOSSES = ("srn", "srn-dn", "ifrp")
IDENTITY_SHARE = 0.3   # of the calibrated identity term: its gradient against the pixel term's; 0.1 to 1 keeps the paper's balance [I]
STAGES_PX = (32, 64, 128)   # output sizes while growing


@dataclass(frozen=True)
class Config:
    """What IFRP is trained with. Marks: [P] paper, [C] the authors' public release, [I] inferred, [O] an option of this project."""

    network: str = "srn-3stn"   # [C]; srn-4stn [P tables, I placement]; srn-2stn, srn-0stn: ablations
    losses: str = "ifrp"   # [P] ablation rows: srn pixel only, srn-dn and DN, ifrp all three
    features: str = "builtin"   # [O]; vgg19 relu3_2 [P], a vgg_normalised file, facenet (the journal version)
    adversarial_weight: float = 0.01   # [P] lambda_0, times 0.995 an epoch, down to half of it
    identity_weight: float = 0.0   # [P] eta_0 0.001 with Caffe's VGG-19; 0: calibrated to the pixel term's gradient
    optimizer: str = "rmsprop"   # [P]; adam [O]
    learning_rate: float = 1e-3   # [P]
    learning_rate_decay: float = 0.99   # [C] an epoch; the paper's "decay rate 1e-2"
    cooldown: float = 0.0   # [O] the last part of the steps, over which the learning rate falls to zero along a line
    warm_up: bool = True   # [C] a fiftieth of the learning rate for 50 updates, a fifth for the next 50
    gate: bool = True   # [C] SRN or DN waits while the other is far behind
    gate_margin: float = 0.3   # [C]
    legacy_stn_bias: bool = False   # [C] the release's initial bias, a rotation of 57 degrees
    grow_32: float = 0.0   # [O] the part of the steps at 32x32 with a light head
    grow_64: float = 0.0   # [O] the part after it at 64x64
    align_weight: float = 0.0   # [O] of STN1's distance from the misalignment that the data set stores; the paper's STNs are not told
    blend: float = 0.2   # [O] the part of a grown stage in which it is blended in

    def __post_init__(self) -> None:
        for name, value, known in (("network", self.network, NETWORKS), ("losses", self.losses, LOSSES), ("optimizer", self.optimizer, ("rmsprop", "adam"))):
            if value not in known:
                raise InputError(f"{name} {value!r} is none of {', '.join(known)}")
        if not (0 <= self.grow_32 and 0 <= self.grow_64 and self.grow_32 + self.grow_64 < 1):
            raise InputError(f"grow_32 {self.grow_32} and grow_64 {self.grow_64} are parts of the steps: at least 0, together below 1")


# Lengths are in epochs of the training split; batch size 64 [P]
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": EPOCHS},
    "short": {"epochs": 60},
    "cpu": {
        "steps": 6400, "batch_size": 32, "optimizer": "adam", "learning_rate_decay": 1.0, "cooldown": 0.05, "grow_32": 0.78, "grow_64": 0.14,
        "align_weight": 4.0, "mirror": True, "colour_maps": 0.5, "ema": 0.999,
    },
    "smoke": {
        "steps": 1100, "batch_size": 16, "optimizer": "adam", "learning_rate_decay": 1.0, "cooldown": 0.12, "grow_32": 0.7, "grow_64": 0.14,
        "align_weight": 4.0, "mirror": True, "colour_maps": 0.3, "ema": 0.98, "validations": 5,
    },
}
VARIANTS: dict[str, dict[str, Any]] = {"srn": {"losses": "srn"}, "srn-dn": {"losses": "srn-dn"}}   # rows of the paper's ablation


class Encode(nn.Module):
    """Convolution, batch normalisation, LeakyReLU, an STN where one stands, 2x2 max-pooling."""

    def __init__(self, inputs: int, outputs: int, size: int, stn: SpatialTransformer | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.stn = stn

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features, and the four numbers that the STN read off them."""
        x = self.norm(self.conv(x))
        if self.stn is None:
            return F.leaky_relu(F.max_pool2d(x, 2), SLOPE), None   # the pool first: the same, a quarter of the work
        x = F.leaky_relu(x, SLOPE)
        parameters = self.stn.parameters_of(x)
        return F.max_pool2d(transform(x, matrices(parameters)), 2), parameters


class Decode(nn.Module):
    """What comes before is doubled in size (``doubles``), an STN where one stands, convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, stn: SpatialTransformer | None, *, doubles: bool) -> None:
        super().__init__()
        self.doubles = doubles
        self.stn = stn
        self.conv = convolution(inputs, outputs, size, doubles and stn is None)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(inlet(x, self.stn))))


def convolution(inputs: int, outputs: int, size: int, doubles: bool) -> nn.Conv2d:
    """One that keeps the size, or doubles it first."""
    return UpsampledConv(inputs, outputs, size) if doubles else nn.Conv2d(inputs, outputs, size, padding=size // 2)


def inlet(x: Tensor, stn: SpatialTransformer | None) -> Tensor:
    """What an STN in the decoder does before a layer: it stands behind the upsampling."""
    return x if stn is None else stn(F.interpolate(x, scale_factor=2, mode="nearest"))


class BlockConv(RewrittenConv):
    """A 5x5 convolution as a 3x3 on 2x2 blocks of pixels, whose outputs ``interleave`` puts together."""

    def forward(self, blocks: Tensor) -> Tensor:
        return F.conv2d(blocks, *self.kernels(), padding=1)

    def rewritten(self) -> tuple[Tensor, Tensor]:
        """Weight (4 * outputs, 4 * inputs, 3, 3) and bias."""
        assert self.bias is not None
        return pixels_first(block_kernel(self.weight)), self.bias.repeat(4)


class SRN(nn.Module):
    """Style removal network: stylized faces (N, 3, 128, 128) in [-1, 1] to recovered ones, linear at the end, so they may leave the range.

    8.36 M parameters as ``srn-3stn`` [C]. Layers are named as in the tables: e1..e6, fc, d1..d8.
    """

    def __init__(self, network: str = "srn-3stn", *, legacy_stn_bias: bool = False) -> None:
        super().__init__()
        layers, decoder_stns = DECODERS.get(network, DECODERS["srn-3stn"])
        encoder_stns = {} if network == "srn-0stn" else ENCODER_STNS
        decoder_stns = {} if network in ("srn-0stn", "srn-2stn") else decoder_stns

        def stn(key: tuple[Any, ...] | None) -> SpatialTransformer | None:
            return SpatialTransformer(key[0], LOCALISATION[key], legacy_bias=legacy_stn_bias) if key else None   # type: ignore[index]

        self.encoder = nn.ModuleDict()
        channels = 3
        for number, (outputs, size) in enumerate(ENCODER, 1):
            self.encoder[f"e{number}"] = Encode(channels, outputs, size, stn(encoder_stns.get(f"e{number}")))
            channels = outputs
        self.fc = nn.Linear(4 * channels, 4 * channels)
        self.decoder = nn.ModuleDict()
        for number, (outputs, size) in enumerate(layers, 1):
            before = stn(decoder_stns.get(f"d{number - 1}"))
            self.decoder[f"d{number}"] = Decode(channels, outputs, size, before, doubles=number > 1)
            channels = outputs
        self.d8 = BlockConv(channels, 3, 5)

    def forward(self, stylized: Tensor) -> Tensor:
        return self.last(self.decoded(self.bottleneck(stylized)[0], 1, 6))

    def bottleneck(self, stylized: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, 512, 2, 2), what is known of the face, and how STN1 turned, scaled and shifted it, (N, 4)."""
        x, found = stylized, None
        for layer in self.encoder.values():
            x, parameters = layer(x)
            found = parameters if found is None else found
        return self.fc(x.contiguous().flatten(1)).view(x.shape), found

    def decoded(self, x: Tensor, first: int, last: int) -> Tensor:
        """Through the layers d``first`` to d``last``."""
        for number in range(first, last + 1):
            x = self.layer(number)(x)
        return x

    def layer(self, number: int) -> Decode:
        """d1 to d7."""
        return cast(Decode, self.decoder[f"d{number}"])

    def last(self, x: Tensor) -> Tensor:
        """d7 and d8 in 2x2 blocks: the 64 channels at 128x128 are never laid out as a picture."""
        layer = self.layer(7)
        blocks = cast(UpsampledConv, layer.conv).blocks(x)   # (N, 4 * 64, 64, 64)
        n, _, h, w = blocks.shape
        wide = blocks.permute(0, 2, 3, 1).reshape(n, h, 4 * w, -1).permute(0, 3, 1, 2)   # a view: normalisation knows no places
        wide = F.relu(layer.norm(wide))
        blocks = wide.permute(0, 2, 3, 1).reshape(n, h, w, -1).permute(0, 3, 1, 2)
        return interleave(self.d8(blocks))


def folded(srn: SRN) -> SRN:
    """A frozen copy for inference: batch normalisation folded into the convolutions, rewritten kernels computed once. The same function."""
    fast = copy.deepcopy(srn).eval().requires_grad_(False)
    for layer in cast(list[Encode | Decode], [*fast.encoder.values(), *fast.decoder.values()]):
        layer.conv = fuse_conv_bn_eval(layer.conv, cast(nn.BatchNorm2d, layer.norm))
        layer.norm = nn.Identity()
    for module in fast.modules():
        if isinstance(module, RewrittenConv):
            module.freeze()
    return fast.requires_grad_(False)


class Destylizer(nn.Module):
    """An SRN for use: faces (N, 3, 128, 128) in [0, 1] to recovered faces in [0, 1], clamped."""

    def __init__(self, srn: SRN) -> None:
        super().__init__()
        self.srn = folded(srn)
        self.eval()

    def forward(self, stylized: Tensor) -> Tensor:
        return to_unit(self.srn(2 * stylized - 1).float())


class Grown(nn.Module):
    """An SRN that can end early: light heads (one convolution) give 32x32 and 64x64 faces where d5 and d6 would go on."""

    def __init__(self, srn: SRN) -> None:
        super().__init__()
        self.srn = srn
        self.heads = nn.ModuleDict({
            str(px): convolution(srn.layer(number).conv.in_channels, 3, 3, srn.layer(number).stn is None) for px, number in ((32, 5), (64, 6))
        })

    def forward(self, stylized: Tensor, px: int, share: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Recovered faces (N, 3, px, px), and STN1's four numbers.

        With ``share`` (0 to 1) only so much of the newest stage, the rest from the one before, doubled.
        """
        srn = self.srn
        code, parameters = srn.bottleneck(stylized)
        x = srn.decoded(code, 1, 4)
        ends = {32: x}
        if px > 32:
            ends[64] = srn.decoded(x, 5, 5)
        if px == 128:
            ends[128] = srn.decoded(ends[64], 6, 6)
        recovered = self.end(ends[px], px)
        if share is None or px == 32:
            return recovered, parameters
        before = F.interpolate(self.end(ends[px // 2], px // 2).float(), scale_factor=2, mode="bilinear")
        return before + share * (recovered.float() - before), parameters

    def end(self, x: Tensor, px: int) -> Tensor:
        """The picture that a stage's features give."""
        if px == 128:
            return self.srn.last(x)
        return self.heads[str(px)](inlet(x, self.srn.layer(5 if px == 32 else 6).stn))


class DN(nn.Module):
    """Discriminative network: faces (N, 3, 128, 128) in [-1, 1] to logits (N,), above 0 for "real" [C]. 6.66 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((3, 32, 5), (32, 64, 5), (64, 128, 5), (128, 96, 3))
        self.convs = nn.ModuleList(nn.Conv2d(inputs, outputs, size, padding=size // 2) for inputs, outputs, size in widths)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _, outputs, _ in widths)
        self.hidden = nn.Linear(96 * 8 * 8, 1024)
        self.out = nn.Linear(1024, 1)

    def forward(self, faces: Tensor) -> Tensor:
        x = faces
        for conv, norm in zip(self.convs, self.norms):
            x = F.leaky_relu(norm(F.max_pool2d(conv(x), 2)), SLOPE)
        x = F.leaky_relu(self.hidden(x.contiguous().flatten(1)), SLOPE)
        return self.out(x).flatten()   # (N,)


class IFRP(Learner):
    """The method in training: networks, optimisers, schedules. ``build`` makes it."""

    def __init__(self, config: Config, setup: Setup) -> None:
        self.config = config
        torch.manual_seed(setup.seed)
        srn = SRN(config.network, legacy_stn_bias=config.legacy_stn_bias)
        self.grown = setup.place(Grown(srn))
        self.network: nn.Module = srn   # in use; heads are left behind
        self.dn = setup.place(DN()) if config.losses != "srn" else None
        self.identity = open_identity(config.features, setup.device) if config.losses == "ifrp" else None
        self.recover = setup.compile(self.grown)
        self.judge = setup.compile(self.dn) if self.dn else None
        networks: dict[str, nn.Module] = {"srn": srn, "heads": cast(nn.Module, self.grown.heads)} | ({"dn": self.dn} if self.dn else {})
        super().__init__(setup, networks, {"srn": self._optimizer(self.grown)} | ({"dn": self._optimizer(self.dn)} if self.dn else {}))
        self.identity_weight = config.identity_weight
        self._fast: tuple[int, Destylizer] | None = None   # the network for use, and the version of the weights that it was made of

    def _optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        rate = self.config.learning_rate
        if self.config.optimizer == "adam":
            return torch.optim.Adam(network.parameters(), rate, fused=True)
        return torch.optim.RMSprop(network.parameters(), rate, alpha=0.9, eps=1e-8)   # squared-gradient decay of the release

    def step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update of SRN, and of DN, at the size that the stage of growing has."""
        if len(batch.stylized) < 2:
            raise InputError("batch_size 1: at least 2, for the statistics of batch normalisation and DN's two halves")
        px, share = self.stage()
        self.set_learning_rate(self.learning_rate())
        real = 2 * batch.real - 1
        self.grown.train()
        with self.setup.autocast():
            recovered, parameters = self.recover(2 * batch.stylized - 1, px, share)
        recovered = recovered.float()
        losses = {"pixel": F.mse_loss(recovered, F.avg_pool2d(real, 128 // px) if px < 128 else real)}
        total = losses["pixel"]
        if self.config.align_weight and parameters is not None:
            losses["align"] = misplacement(matrices(parameters), batch.warp)
            total = total + self.config.align_weight * losses["align"]
        update_srn = True
        if self.judge and px == 128:
            verdicts, update_srn = self._step_dn(real, recovered.detach())
            losses |= verdicts
            losses["adversarial"] = self._adversarial(real, recovered)
            total = total + self.fade() * self.config.adversarial_weight * losses["adversarial"]
        if self.identity and px == 128 and self._identity_begins(batch):
            losses["identity"] = self._identity_loss(recovered, real)
            losses["identity_weight"] = torch.tensor(self.fade() * self.identity_weight, device=self.setup.device)   # for the log
            total = total + losses["identity_weight"] * losses["identity"]
        if update_srn:
            self.update("srn", total)
        self.done += 1
        return {name: value.detach() for name, value in losses.items()}

    def _step_dn(self, real: Tensor, recovered: Tensor) -> tuple[dict[str, Tensor], bool]:
        """Real faces of the first half of the batch against recovered ones of the second, in one pass: no face is in both. Then the gate."""
        assert self.dn and self.judge
        half = len(real) // 2
        self.dn.train().requires_grad_(True)
        with self.setup.autocast():
            logits = self.judge(torch.cat([real[:half], recovered[half:]])).float()
        on_real = F.binary_cross_entropy_with_logits(logits[:half], torch.ones_like(logits[:half]))
        on_recovered = F.binary_cross_entropy_with_logits(logits[half:], torch.zeros_like(logits[half:]))
        update_dn, update_srn = self._gate(on_real.detach(), on_recovered.detach())
        if update_dn:
            self.update("dn", (on_real + on_recovered) / 2)
        self.dn.requires_grad_(False)   # SRN's pass through it needs no gradients of its weights
        skipped = {"skip_srn": on_real.new_tensor(not update_srn), "skip_dn": on_real.new_tensor(not update_dn)}
        return {"dn_real": on_real, "dn_recovered": on_recovered} | skipped, update_srn

    def _gate(self, on_real: Tensor, on_recovered: Tensor) -> tuple[bool, bool]:
        """Whether DN and SRN are updated [C]: DN waits if it wins, SRN if DN is lost; the one look at the device in a step."""
        if not self.config.gate:
            return True, True
        losses = torch.stack([on_real, on_recovered])
        self.setup.average([losses])
        low, high = float(losses.min()), float(losses.max())
        update_dn, update_srn = low >= self.config.gate_margin, high <= 1 - self.config.gate_margin
        return (update_dn, update_srn) if update_dn or update_srn else (True, True)

    def _adversarial(self, real: Tensor, recovered: Tensor) -> Tensor:
        """-log D(recovered), non-saturating [C]; the sign printed in the paper would drive D the other way.

        Real faces stand beside the recovered ones in this pass too [I]: DN normalises by batch statistics and was taught on halves of each. Of a batch
        of recovered faces alone it called every one real (adversarial loss 0.0002), and nothing came back.
        """
        assert self.judge
        with self.setup.autocast():
            logits = self.judge(torch.cat([real, recovered])).float()
        return F.softplus(-logits[len(real):]).mean()

    def _identity_loss(self, recovered: Tensor, real: Tensor) -> Tensor:
        """Mean squared difference of the features of recovered and real faces [P equation 4]."""
        assert self.identity
        with self.setup.autocast():
            with torch.no_grad():
                wanted = self.identity((real + 1) / 2)
            got = self.identity((recovered + 1) / 2)
        return F.mse_loss(got.float(), wanted.float())

    def _identity_begins(self, batch: Pairs) -> bool:
        """Whether the identity term has its weight. Without a given one it is found once, when the first epoch is over: so that the gradient
        it sends into the recovered faces is ``IDENTITY_SHARE`` of the pixel term's.
        """
        if self.identity_weight or self.epoch() < 1:
            return bool(self.identity_weight)
        held = self.setup.validation or batch
        with torch.no_grad():
            recovered = self.destylize(held.stylized)
        recovered, real = (2 * recovered - 1).requires_grad_(), 2 * held.real - 1
        pixel, = torch.autograd.grad(F.mse_loss(recovered, real), recovered)
        identity, = torch.autograd.grad(self._identity_loss(recovered, real), recovered)
        norms = torch.stack([pixel.norm(), identity.norm()])
        self.setup.average([norms])
        self.identity_weight = IDENTITY_SHARE * float(norms[0]) / max(float(norms[1]), 1e-12)
        return True

    def epoch(self) -> int:
        """The epoch of the paper's 245 that a training of this length stands in."""
        return EPOCHS * self.done // self.setup.steps

    def fade(self) -> float:
        """What the weights of the adversarial and the identity term have fallen to: 0.995 an epoch, to a half [P]."""
        return max(0.995 ** self.epoch(), 0.5)

    def learning_rate(self) -> float:
        """Of this step: 1 % less an epoch, not below 1e-6; warmed up over 100 updates; cooled down if asked for."""
        config, left = self.config, 1 - self.part
        rate = max(config.learning_rate * config.learning_rate_decay ** self.epoch(), 1e-6)
        if config.warm_up and self.done < 100:
            rate /= 50 if self.done < 50 else 5
        return rate * min(1.0, left / config.cooldown) if config.cooldown else rate

    def stage(self) -> tuple[int, Tensor | None]:
        """The size of this step's faces, px, and the share of the newest stage while it is blended in."""
        config, part = self.config, self.part
        ends = (config.grow_32, config.grow_32 + config.grow_64, 1.0)
        number = next(n for n, end in enumerate(ends) if part < end)
        begin = ends[number - 1] if number else 0.0
        blended = (part - begin) / (config.blend * (ends[number] - begin)) if config.blend else 1.0
        share = torch.tensor(blended, device=self.setup.device) if begin and blended < 1 else None
        return STAGES_PX[number], share

    @torch.no_grad()
    def destylize(self, stylized: Tensor) -> Tensor:
        """Recovered faces (N, 3, 128, 128) in [0, 1] by running statistics, in float32; while growing, enlarged from the stage's size."""
        px, share = self.stage() if self.done < self.setup.steps else (128, None)
        if px == 128 and share is None:
            return self.inference()(stylized)
        self.grown.eval()
        return to_unit(F.interpolate(self.grown(2 * stylized - 1, px, share)[0].float(), size=128, mode="bilinear"))

    def inference(self) -> "Destylizer":
        """A frozen network for use, folded; made anew when a weight has changed."""
        version = sum(tensor._version for tensor in self.network.state_dict(keep_vars=True).values())
        if self._fast is None or self._fast[0] != version:
            self._fast = version, Destylizer(cast(SRN, self.network))
        return self._fast[1]

    def state(self) -> dict[str, Any]:
        """The calibrated weight is part of it."""
        return super().state() | {"identity_weight": self.identity_weight}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a ``state``."""
        super().restore(state)
        self.identity_weight = state["identity_weight"]


def build(config: Config, setup: Setup) -> IFRP:
    """The method, ready for its first step."""
    return IFRP(config, setup)
