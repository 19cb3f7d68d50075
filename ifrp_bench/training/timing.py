"""How long a training takes on this machine, from a few of its very steps; how much fits into minutes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch

from ifrp_bench.data.format import Dataset
from ifrp_bench.data.runs import open_run
from ifrp_bench.data.split import load_split
from ifrp_bench.ground import memory
from ifrp_bench.ground.precision import autocast
from ifrp_bench.ground.timing import median_seconds
from ifrp_bench.methods import Growing, Setup, Stage
from ifrp_bench.training.batches import steps_per_epoch
from ifrp_bench.training.resolve import Job, Loop, resume

STEPS_TIMED = 8   # and recoveries, of each stage, at most: a burst is not taken for the machine
ENOUGH = 4.0   # seconds of them timed, where they are slow
VALIDATION_ROWS = 512   # at most: a few seconds on a CPU
# of a training that has minutes they are part of them: CycleGAN's take a minute each on two cores
BUDGET_VALIDATIONS = 4   # at most
VALIDATIONS_SHARE = 0.15   # of the minutes, at most, but for the one at the end


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

    @property
    def said(self) -> str:
        """The length, in words."""
        return f"{self.steps} steps, about {self.seconds / 60:.1f} minutes at {self.a_step:.2f} s a step"

    def within(self, seconds: float, validations: int = 0) -> "Timing":
        """The training that fits into so many seconds, validations counted: so many of them or, where 0 are
        asked for, as many as ``BUDGET_VALIDATIONS`` and ``VALIDATIONS_SHARE`` allow, and the one at the end;
        at least one step.
        """
        fit = int(VALIDATIONS_SHARE * seconds / self.a_validation)
        validations = validations or min(max(1, fit), BUDGET_VALIDATIONS)
        steps = max(1, int((seconds - self.a_validation * validations) / self.a_step))
        return replace(self, steps=steps, validations=validations)


def timed_for(
    job: Job, data: Dataset, root: Path, device: str, minutes: float | None, validations: int = 0
) -> tuple[Job, Timing]:
    """A job at the length that fits into so many minutes, and how long it takes; without minutes at its own.

    A run that is begun in ``root`` keeps its length, but for so many ``validations`` as are asked for.
    """
    begun = begun_loop(root) if minutes is not None else None
    if begun:
        job = job.as_long_as(replace(begun, validations=validations or begun.validations))
    timing = time_training(job, data, device)
    if minutes is None or begun:
        return job, timing
    timing = timing.within(60 * minutes, validations)
    return job.with_steps(timing.steps, validations=timing.validations), timing


def begun_loop(root: Path) -> Loop | None:
    """What the training in a folder was begun with; None where there is none."""
    return resume(open_run(root)).trained if (root / "run.json").is_file() else None


def time_training(job: Job, data: Dataset, device: str) -> Timing:
    """A training's timing: the median of a few steps on validation faces.

    Of a method that grows, in each of its stages.
    """
    # the very method on the very kind of batch, of people who are not trained on
    memory.keep()
    loop, declared = job.trained, job.part.declared
    steps = loop.length(steps_per_epoch(data.pairs("train"), loop.batch_size))
    split = load_split(data, "val", device)
    batch = split.pairs(torch.arange(loop.batch_size, device=device) % len(split))
    method = declared.build(job.config, Setup(device, steps, loop.seed, validation=batch, training=split))

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
        a_step += stage.share * median_seconds(partial(step_at, stage), STEPS_TIMED, enough=ENOUGH)
        with autocast(device):
            a_validation += stage.share * median_seconds(validate, STEPS_TIMED, enough=ENOUGH)

    # averaged weights are validated beside the plain ones
    rows = min(len(split), VALIDATION_ROWS) * (2 if loop.ema else 1)
    return Timing(a_step, a_validation * rows / loop.batch_size, steps, loop.validations)
