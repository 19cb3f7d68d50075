"""How long a training takes on this machine, from a few of its very steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch

from ifrp_bench.data.format import Dataset
from ifrp_bench.data.split import load_split
from ifrp_bench.ground import memory
from ifrp_bench.ground.precision import autocast
from ifrp_bench.ground.timing import median_seconds
from ifrp_bench.methods import Growing, Setup, Stage
from ifrp_bench.training.batches import steps_per_epoch
from ifrp_bench.training.resolve import Job

VALIDATION_ROWS = 512   # at most: a few seconds on a CPU


@dataclass(frozen=True)
class Timing:
    """How long a training is and takes: ``a_step`` and ``a_validation`` in seconds."""

    a_step: float
    a_validation: float
    steps: int
    validations: int

    @property
    def seconds(self) -> float:
        """Of the whole training."""
        return self.a_step * self.steps + self.a_validation * min(self.validations, self.steps)

    def steps_in(self, seconds: float) -> int:
        """The steps that fit, with their validations; at least one."""
        return max(1, int((seconds - self.a_validation * self.validations) / self.a_step))


def time_training(job: Job, data: Dataset, device: str, timed: int = 2) -> Timing:
    """A training's timing: the median of a few steps on validation faces.

    Of a method that grows, in each of its stages.
    """
    # the very method on the very kind of batch, of people who are not trained on
    memory.keep()
    loop, declared = job.trained, job.part.declared
    steps = loop.length(steps_per_epoch(data.pairs("train"), loop.batch_size))
    split = load_split(data, "val", device)
    batch = split.pairs(torch.arange(loop.batch_size, device=device) % len(split))
    method = declared.build(job.config, Setup(device, steps, loop.seed, validation=batch))

    def step_at(stage: Stage) -> None:
        if declared.stages:
            cast(Growing, method).at(stage.middle)
        for value in method.step(batch).values():
            float(value)   # a GPU's step is over when its losses are there

    # validations cost what their recovery costs
    def validate() -> None:
        method.recover(batch.stylized).cpu()

    # each stage by its share of the training
    whole = [Stage(middle=steps // 2, share=1.0)]
    stages: Sequence[Stage] = declared.stages(job.config, steps) if declared.stages else whole
    a_step = a_validation = 0.0
    for stage in stages:
        a_step += stage.share * median_seconds(partial(step_at, stage), timed)
        with autocast(device):
            a_validation += stage.share * median_seconds(validate, 1)

    # averaged weights are validated beside the plain ones
    rows = min(len(split), VALIDATION_ROWS) * (2 if loop.ema else 1)
    return Timing(a_step, a_validation * rows / loop.batch_size, steps, loop.validations)
