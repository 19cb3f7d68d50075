"""A run's method as its checkpoint left it, and faces through it in batches."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ifrp_bench import parts
from ifrp_bench.data.runs import Run
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.images import to_faces, to_pictures
from ifrp_bench.ground.settings import settings_of
from ifrp_bench.ground.workers import on_threads
from ifrp_bench.methods import Growing, Setup, Training, Usable
from ifrp_bench.nets.winograd import without_gradients
from ifrp_bench.parts import Part
from ifrp_bench.recovery.mirrored import Mirrored

FACES_AT_ONCE = 64


@dataclass(frozen=True)
class Trained:
    """A run's method with trained weights; ``step`` of ``steps`` says how far it is.

    ``part`` is its declaration.
    """

    part: Part
    method: Usable
    step: int
    steps: int


def load_trained(
    run: Run, *, checkpoint: str = "last", device: str = "cpu", training: Training | None = None,
) -> Trained:
    """The method of a run as a checkpoint (``last``, the end of training, or ``best`` on validation) left it.

    Averaged weights are taken where the run kept them and they were the better ones on validation.
    ``training`` is the training split for methods that look into it when they are used. One that optimises
    each face has no checkpoint and needs none. Of a run that is mirrored, the method on both sides of each
    face. Raises InputError for a checkpoint that does not fit, and for an aligner that is mirrored.
    """
    trained = _load(run, checkpoint, device, training)
    if not run.mirrored:
        return trained
    if trained.part.aligns:
        raise InputError(f"{run.name}: an aligner recovers no faces, of which + takes both sides")
    return replace(trained, method=Mirrored(trained.method))


def _load(run: Run, checkpoint: str, device: str, training: Training | None) -> Trained:
    part = parts.trainable(run.method)
    config: Any = settings_of(part.declared.config, run.info["config"], f"{run.root}/run.json")
    seed = int(run.info["loop"]["seed"])
    if part.use == "optimised":
        setup = Setup(device, seed=seed, training=training)
        return Trained(part, part.declared.build(config, setup), step=1, steps=1)
    state = run.load(checkpoint)
    steps = int(state["steps"])
    try:
        method = part.declared.build(config, Setup(device, steps, seed, training=training, trains=False))
        if "weights" in state:   # shipped: the recovering network alone
            assert method.network is not None
            method.network.load_state_dict(state["weights"])
            if part.declared.stages:   # one that grew is grown
                cast(Growing, method).at(steps)
        else:
            method.restore(state["method"])
            if state["averaged"] and method.network is not None:
                method.network.load_state_dict(state["ema"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{run.root}: the checkpoint {checkpoint!r} does not fit {run.method}: {reason}"
        ) from None
    return Trained(part, method, state["step"], steps)


def recovering_network(run: Run) -> nn.Module:
    """The network that recovers, alone, with the weights that a run ended with.

    Raises RunError where the run has none that fit.
    """
    part = parts.trainable(run.method)
    config: Any = settings_of(part.declared.config, run.info["config"], str(run.root))
    network = part.declared.build(config, Setup(trains=False)).network
    assert network is not None, f"{run.method} has no network"
    network.load_state_dict(run.weights(network))
    return network


def recover(
    method: Usable, stylized: np.ndarray, *, device: str = "cpu", bfloat16: bool = False
) -> np.ndarray:
    """uint8 (N, 128, 128, 3) stylized to recovered faces, in batches; in float32, or faster in bfloat16."""
    recovered = []
    for start in range(0, len(stylized), FACES_AT_ONCE):
        faces = to_faces(stylized[start:start + FACES_AT_ONCE], device)
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            recovered.append(to_pictures(method.recover(faces)))
    return np.concatenate(recovered) if recovered else np.empty_like(stylized)


def recover_shard(method: Usable, stylized: np.ndarray, device: str = "cpu") -> np.ndarray:
    """``recover`` in full float32, on a CPU one thread a batch: the same faces on any number of cores, and
    by the fastest convolutions, since a shard's batches are always the same.
    """
    if device != "cpu":
        return recover(method, stylized, device=device)

    def one(start: int) -> np.ndarray:
        with without_gradients():
            return recover(method, stylized[start:start + FACES_AT_ONCE])

    return np.concatenate(on_threads(one, range(0, len(stylized), FACES_AT_ONCE)))


def name_of(run: Run) -> str:
    """What a run's method is called in the tables: its name, or that of its file, with the run's sign."""
    return Path(run.method).stem + run.sign
