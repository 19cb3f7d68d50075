"""Our training steps and stylization against public code of the same methods, in one run: each side in a
process of its own as it comes, in turns, the median of all its steps.

    git clone https://github.com/taesungp/contrastive-unpaired-translation
    git clone https://github.com/pytorch/examples
    python -m benchmarks.public_code contrastive-unpaired-translation examples

Their side is run, not copied: CycleGAN's model whole (six blocks, width 64, no identity term, as ours by
default), pix2pix' networks and losses put together as its paper has the step, the transformer's step of
``fast_neural_style/neural_style/neural_style.py``. Both sides see as many faces of 128x128 at a time as a
batch of our preset ``cpu``. VGG-16 has random weights on both sides: its arithmetic is the same.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn import functional as F

from ifrp_bench.ground import memory
from ifrp_bench.ground.provenance import fingerprint
from ifrp_bench.methods import Pairs, Setup
from ifrp_bench.training.resolve import resolve

ROUNDS, STEPS = 3, 3   # turns of each side, steps in a turn after one to warm up
FACE_PX = 128
STYLIZE_PX, STYLIZED_AT_ONCE = 256, 4   # of a face in synthesis
Step = Callable[[Tensor, Tensor], object]   # stylized and real faces (N, 3, 128, 128) in [0, 1]


def their_cyclegan(root: Path) -> Step:
    """CycleGANModel.optimize_parameters."""
    sys.path.insert(0, str(root))
    from models.cycle_gan_model import CycleGANModel

    model = CycleGANModel(SimpleNamespace(
        gpu_ids=[], isTrain=True, checkpoints_dir=".", name="speed", preprocess="none", amp=False,
        input_nc=3, output_nc=3, ngf=64, ndf=64, netG="resnet_6blocks", netD="basic", n_layers_D=3,
        normG="instance", normD="instance", no_dropout=True, no_antialias=True, no_antialias_up=True,
        init_type="normal", init_gain=0.02, lambda_identity=0.0, lambda_A=10.0, lambda_B=10.0, pool_size=50,
        gan_mode="lsgan", lr=2e-4, beta1=0.5, direction="AtoB",
    ))

    def step(stylized: Tensor, real: Tensor) -> None:
        model.set_input({"A": 2 * stylized - 1, "B": 2 * real - 1, "A_paths": []})
        model.optimize_parameters()

    return step


def their_pix2pix(root: Path) -> Step:
    """Critic, then generator, of their U-Net, PatchGAN and losses."""
    sys.path.insert(0, str(root))
    from models import networks

    generator = networks.define_G(3, 3, 64, "unet_128", "batch", True)
    critic = networks.define_D(6, 64, "basic", norm="batch", no_antialias=True)
    gan = networks.GANLoss("vanilla")
    adam = {"lr": 2e-4, "betas": (0.5, 0.999)}
    of_generator = torch.optim.Adam(generator.parameters(), **adam)
    of_critic = torch.optim.Adam(critic.parameters(), **adam)

    def step(stylized: Tensor, real: Tensor) -> None:
        stylized, real = 2 * stylized - 1, 2 * real - 1
        made = generator(stylized)
        critic.requires_grad_(True)
        of_critic.zero_grad()
        on_made = critic(torch.cat([stylized, made.detach()], 1))
        on_real = critic(torch.cat([stylized, real], 1))
        ((gan(on_made, False) + gan(on_real, True)) / 2).backward()
        of_critic.step()
        critic.requires_grad_(False)
        of_generator.zero_grad()
        (gan(critic(torch.cat([stylized, made], 1)), True) + 100 * F.l1_loss(made, real)).backward()
        of_generator.step()

    return step


def transformer_modules(root: Path) -> None:
    """Their modules on the path; VGG-16 without its download."""
    import torchvision.models

    with_weights = torchvision.models.vgg16
    torchvision.models.vgg16 = lambda weights=None: with_weights(weights=None)
    sys.path.insert(0, str(root / "fast_neural_style" / "neural_style"))


def their_johnson(root: Path) -> Step:
    """The inner loop of ``train``, against the Gram matrices of one style picture."""
    transformer_modules(root)
    import utils
    from transformer_net import TransformerNet
    from vgg import Vgg16

    net, vgg = TransformerNet(), Vgg16()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    style = torch.rand(1, 3, FACE_PX, FACE_PX) * 255
    wanted = [utils.gram_matrix(found) for found in vgg(utils.normalize_batch(style))]

    def step(stylized: Tensor, real: Tensor) -> None:
        optimizer.zero_grad()
        made = utils.normalize_batch(net(255 * stylized))
        got, content = vgg(made), vgg(utils.normalize_batch(255 * real))
        loss = 1e5 * F.mse_loss(got.relu2_2, content.relu2_2)
        for found, gram in zip(got, wanted):
            loss = loss + 1e10 * F.mse_loss(utils.gram_matrix(found), gram.expand(len(real), -1, -1))
        loss.backward()
        optimizer.step()

    return step


def their_stylization(root: Path) -> Step:
    """A pass of the network, whose width is 32."""
    transformer_modules(root)
    from transformer_net import TransformerNet

    net = TransformerNet().eval()

    def step(stylized: Tensor, real: Tensor) -> None:
        with torch.no_grad():
            net(255 * stylized)

    return step


def our_step(name: str, values: dict[str, object]) -> Step:
    """A method's, with the settings of its preset ``cpu``."""
    memory.keep()
    job = resolve(name, "cpu", values)
    method = job.part.declared.build(job.config, Setup("cpu", 1000))
    identity = torch.eye(2, 3)

    def step(stylized: Tensor, real: Tensor) -> None:
        faces = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (stylized, real)]
        for value in method.step(Pairs(*faces, identity.expand(len(real), 2, 3))).values():
            float(value)

    return step


def our_johnson(_: Path) -> Step:
    """On a whole VGG-16, as theirs."""
    import torchvision.models

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vgg16.pth"
        torch.save(torchvision.models.vgg16(weights=None).state_dict(), path)
        return our_step("johnson", {"features": str(path)})


def our_stylization(_: Path) -> Step:
    """A pass of one of the shipped networks, as synthesis makes it: width 16, the fast form."""
    from ifrp_bench.data.styles import load_net, pick_styles
    from ifrp_bench.nets.fast_transformer import FastTransformer

    memory.keep()
    net = FastTransformer(load_net(pick_styles(("candy",))[0]))

    def step(stylized: Tensor, real: Tensor) -> None:
        with torch.inference_mode():
            net(stylized)

    return step


# name: theirs (which of the two checkouts), ours
SIDES: dict[str, tuple[int, Callable[[Path], Step], Callable[[Path], Step]]] = {
    "pix2pix": (0, their_pix2pix, lambda _: our_step("pix2pix", {})),
    "cyclegan": (0, their_cyclegan, lambda _: our_step("cyclegan", {})),
    "johnson": (1, their_johnson, our_johnson),
    "stylization": (1, their_stylization, our_stylization),
}


def batch_of(name: str) -> tuple[Tensor, Tensor]:
    """Stylized and real faces."""
    count, size = (
        (STYLIZED_AT_ONCE, STYLIZE_PX)
        if name == "stylization"
        else (resolve(name, "cpu", {}).trained.batch_size, FACE_PX)
    )
    draws = torch.Generator().manual_seed(0)
    stylized, real = torch.rand(2, count, 3, size, size, generator=draws)
    return stylized, real


def measure(name: str, side: str, root: Path) -> None:
    """Print the seconds of a few steps: the child process."""
    _, theirs, ours = SIDES[name]
    torch.manual_seed(0)
    step, batch, seconds = (theirs if side == "theirs" else ours)(root), batch_of(name), []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        step(*batch)
        seconds.append(time.perf_counter() - started)
    print(json.dumps(seconds[1:]))


def child(name: str, side: str, root: Path) -> list[float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.public_code", "--child", name, side, str(root)]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{name}, {side}:\n{ran.stderr}")
    return json.loads(ran.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkouts", nargs="*", type=Path, help="of the two repositories, in the order above")
    parser.add_argument("--only", choices=SIDES, action="append")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, side, root = options.child
        return measure(name, side, Path(root))
    if len(options.checkouts) != 2:
        parser.error("name the checkouts of the two repositories")

    print(fingerprint("cpu"), f"{torch.get_num_threads()} threads")
    for name in options.only or SIDES:
        root = options.checkouts[SIDES[name][0]].resolve()
        found: dict[str, list[float]] = {"theirs": [], "ours": []}
        for _ in range(ROUNDS):
            for side, seconds in found.items():
                seconds += child(name, side, root)
        theirs, ours = (statistics.median(seconds) for seconds in found.values())
        count = len(batch_of(name)[0])
        print(
            f"{name}, {count} at a time: theirs {theirs:.3f} s, ours {ours:.3f} s, {theirs / ours:.2f} x",
            flush=True,
        )


if __name__ == "__main__":
    main()
