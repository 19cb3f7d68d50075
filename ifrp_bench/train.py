"""Stage 2: the one training loop, for every method. It gives a method batches, watches its losses, looks at it now and then and keeps checkpoints;
what an update is, the method knows. A run is a function of its settings, seed, data set and machine: stopped and resumed it ends with the same
weights.
"""

import copy
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ifrp_bench import memory
from ifrp_bench.batches import Batches, Unpaired, load_split, steps_per_epoch
from ifrp_bench.compiler import compiler
from ifrp_bench.errors import InputError
from ifrp_bench.images import as_faces, as_pictures, tile, write_png
from ifrp_bench.methods import Method, Setup
from ifrp_bench.metrics.psnr import psnr_db
from ifrp_bench.precision import autocast
from ifrp_bench.processes import Processes
from ifrp_bench.provenance import fingerprint, versions
from ifrp_bench.runs import Run, start_run
from ifrp_bench.settings import nearest, settings_of
from ifrp_bench.shards import Dataset
from ifrp_bench.weights import locked

VALIDATION_ROWS = 512   # at most: a few seconds on a CPU
LOG_LINES = 400   # in the whole run
PARTS = 100   # of a training, each in one stage of a method that grows, for an estimate
PICTURES = 8   # columns of the sheet of validation faces


@dataclass(frozen=True)
class Loop:
    """How long and with what batches: what any method is trained with. One of ``epochs`` and ``steps`` says the length."""

    epochs: float = 0.0
    steps: int = 0
    batch_size: int = 64   # [P]
    mirror: bool = False   # pairs mirrored at random; an option of this project, as the next two
    colour_maps: float = 0.0   # share of stylized faces whose colours are mapped at random
    ema: float = 0.0   # decay of averaged weights, e.g. 0.999; both are validated, the better kept as best
    validations: int = 20   # in the whole run
    tensorboard: bool = False   # events beside log.jsonl; needs the extra tensorboard
    checkpoint_seconds: float = 60.0   # at most so much is trained again after a kill
    compile: str = "auto"   # auto: on a GPU; on a CPU it gained nothing and costs a minute (benchmarks/results.md)
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.epochs > 0) == (self.steps > 0):
            raise InputError(f"epochs {self.epochs} and steps {self.steps}: one of them says how long to train, the other is 0")
        if self.batch_size < 1:
            raise InputError(f"batch_size {self.batch_size}: at least 1")
        if not 0 <= self.ema < 1 or not 0 <= self.colour_maps <= 1:
            raise InputError(f"ema {self.ema} is in [0, 1), colour_maps {self.colour_maps} in [0, 1]")
        if self.compile not in ("auto", "on", "off"):
            raise InputError(f"compile {self.compile!r} is none of auto, on, off")

    def length(self, steps_per_epoch: int) -> int:
        """Steps of the whole run."""
        return self.steps or max(1, round(self.epochs * steps_per_epoch))


def train(
    module: ModuleType, method: str, settings: dict[str, Any], data: Dataset, out: Path, *, device: str = "cpu", quiet: bool = False,
) -> Run:
    """Train a method on a data set into the run folder ``out``; a run that is there with the same settings is gone on with.

    ``settings`` are keys of ``Loop`` and of the method's ``Config``. Raises InputError for wrong settings, another run in the folder, losses
    that are no longer finite, and memory that does not suffice.
    """
    memory.keep()
    if getattr(module, "OPTIMISED", False):
        return _set_up(module, method, settings, data, out, device)
    loop, config = split_settings(module, method, settings)
    processes = Processes(device)
    with locked(out) if processes.first else nullcontext():
        run = start_run(out, _info(method, module, loop, config, data, device, processes))
        return _Training(module, loop, config, run, data, processes, quiet).run_to_the_end()


def _set_up(module: ModuleType, method: str, settings: dict[str, Any], data: Dataset, out: Path, device: str) -> Run:
    """A run of a method that optimises each face when it is used: its settings, and a checkpoint with nothing in it."""
    loop, config = split_settings(module, method, {"steps": 1} | settings)
    with locked(out):
        run = start_run(out, _info(method, module, loop, config, data, device, Processes(device)))
        if not run.has("last"):
            run.save("last", {"step": 1, "steps": 1, "seconds": 0.0, "averaged": False, "method": {}})
            run.log(step=1, seconds=0.0)
    return run


def split_settings(module: ModuleType, method: str, settings: dict[str, Any]) -> tuple[Loop, Any]:
    """``Loop`` and the method's ``Config`` of the settings. Raises InputError for a key that neither has and for a value of the wrong kind."""
    known = sorted({field.name for kind in (Loop, module.Config) for field in fields(kind)})
    for key in settings:
        if key not in known:
            raise InputError(f"{method}: {key!r} is no setting{nearest(key, known)}; there are {', '.join(known)}")
    return settings_of(Loop, settings, method), settings_of(module.Config, settings, method)


def describe(module: ModuleType, method: str, settings: dict[str, Any], data: Dataset) -> str:
    """The resolved settings and the length, for a dry run."""
    pairs = int(data.info["counts"]["train"]["pairs"])
    if getattr(module, "OPTIMISED", False):
        loop, config = split_settings(module, method, {"steps": 1} | settings)
        return "\n".join([*(f"{key} = {value}" for key, value in asdict(config).items()), f"{method}: not trained, each face is optimised when it is used"])
    loop, config = split_settings(module, method, settings)
    per_epoch = steps_per_epoch(pairs, loop.batch_size)
    steps = loop.length(per_epoch)
    lines = [f"{key} = {value}" for key, value in (asdict(loop) | asdict(config)).items()]
    return "\n".join([*lines, f"{method}: {steps} steps of {loop.batch_size} pairs, {steps / per_epoch:.1f} epochs of {pairs} pairs"])


@dataclass(frozen=True)
class Timing:
    """How long a training is and takes, from a few of its steps: ``a_step`` and ``a_validation`` in seconds."""

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


def time_training(module: ModuleType, method: str, settings: dict[str, Any], data: Dataset, device: str, timed: int = 2) -> Timing:
    """A training's timing: the median of a few steps on validation faces; of a method that grows, in each of its stages, by their shares of the training."""
    memory.keep()
    loop, config = split_settings(module, method, settings)
    pairs = int(data.info["counts"]["train"]["pairs"])
    steps = loop.length(steps_per_epoch(pairs, loop.batch_size))
    split = load_split(data, "val", device)
    batch = split.pairs(torch.arange(loop.batch_size, device=device) % len(split))
    running: Method = module.build(config, Setup(device, steps, loop.seed, validation=batch))

    def step_at(done: int) -> None:
        if hasattr(running, "done"):
            running.done = done
        for value in running.step(batch).values():
            float(value)   # a GPU's step is over when its losses are there

    a_step, a_validation = 0.0, 0.0
    for done, share in _stages(running, steps):
        a_step += share * _median_seconds(partial(step_at, done), timed)
        with autocast(device):
            a_validation += share * _median_seconds(lambda: running.destylize(batch.stylized).cpu(), 1)
    rows = min(len(split), VALIDATION_ROWS) * (2 if loop.ema else 1)
    return Timing(a_step, a_validation * rows / loop.batch_size, steps, loop.validations)


def _stages(method: Method, steps: int) -> list[tuple[int, float]]:
    """A step in the middle of each stage of a method that grows, and the stage's share of the training; the middle of all of it for another one."""
    if not hasattr(method, "stage") or not hasattr(method, "done"):
        return [(steps // 2, 1.0)]
    stages: dict[int, list[int]] = {}
    for part in range(PARTS):
        method.done = part * steps // PARTS
        stages.setdefault(method.stage()[0], []).append(method.done)
    return [(places[len(places) // 2], len(places) / PARTS) for places in stages.values()]


def _median_seconds(function: Callable[[], Any], timed: int) -> float:
    """Of ``timed`` calls after one to warm up."""
    taken = []
    for _ in range(timed + 1):
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:]))


def _info(method: str, module: ModuleType, loop: Loop, config: Any, data: Dataset, device: str, processes: Processes) -> dict[str, Any]:
    return {
        "method": method, "config": asdict(config), "loop": asdict(loop), "data": data.root.name, "data_sha256": data.sha256,
        "versions": versions(), "machine": fingerprint(device), "processes": processes.world,
    }


class _Training:
    """One training: the method, its data and its run folder."""

    def __init__(self, module: ModuleType, loop: Loop, config: Any, run: Run, data: Dataset, processes: Processes, quiet: bool) -> None:
        self.loop, self.run, self.processes = loop, run, processes
        self.device = processes.device
        self.quiet = quiet or not processes.first
        if loop.batch_size % processes.world:
            raise InputError(f"batch_size {loop.batch_size} is not a multiple of the {processes.world} processes")
        aligned = getattr(module, "ALIGNED", False)
        train_split = load_split(data, "train", self.device, aligned=aligned)
        self.validation = load_split(data, "val", self.device, aligned=aligned).first(VALIDATION_ROWS)
        batches = Batches if module.PAIRED else Unpaired
        self.batches = batches(train_split, loop.batch_size, loop.seed, loop.mirror, loop.colour_maps, processes.rank, processes.world)
        self.steps = loop.length(self.batches.steps_per_epoch)
        setup = Setup(
            self.device, self.steps, loop.seed, compiler(self.device, loop.compile), processes.average, processes.prepare,
            self.validation.pairs(torch.arange(min(64, len(self.validation)), device=self.device)),
        )
        self.method: Method = module.build(config, setup)
        self.averaged = copy.deepcopy(self.method.network) if loop.ema and self.method.network is not None else None
        self._trained = [0] * (len(list(self.averaged.modules())) if self.averaged is not None else 0)   # steps of each layer
        self.step = 0
        self.seconds = 0.0   # spent before a restart
        self._since: dict[str, list[Tensor]] = {}   # losses since the last log, on the device
        self.events = _events(run) if loop.tensorboard and processes.first else None
        self.best_db = -float("inf")
        self.averaged_is_better = False   # at the last validation
        self.mean_face_db = float(self._psnr(lambda stylized: train_split.mean_face.expand(len(stylized), -1, -1, -1)))

    def run_to_the_end(self) -> Run:
        """The loop."""
        if self.run.has("last"):
            self._restore()
        bad_step = torch.full((), torch.inf, device=self.device)   # the first step whose losses are not finite, known without asking every step
        every_log, every_validation = max(1, self.steps // LOG_LINES), max(1, self.steps // self.loop.validations)
        self._started = saved = self._logged = time.monotonic()
        bar = tqdm(total=self.steps, initial=self.step, desc=self.run.root.name, unit="step", disable=self.quiet)
        while self.step < self.steps:

            # one update
            batch = self.batches.at(self.step)
            losses = self._guarded(lambda: self.method.step(batch))
            self.step += 1
            bar.update()
            bad_step = torch.minimum(bad_step, torch.where(torch.isfinite(sum(losses.values())), torch.inf, float(self.step)))   # type: ignore[arg-type]
            for name, value in losses.items():
                self._since[name] = [*self._since.get(name, []), value]
            self._average()

            # look at it
            last = self.step == self.steps
            if self.step % every_log == 0 or last:
                self._log(bad_step, bar)
            if self.step % every_validation == 0 or last:
                self._check_finite(bad_step)
                self._validate(bar)

            # keep it
            if last or self.processes.agree(time.monotonic() - saved > self.loop.checkpoint_seconds):
                self._check_finite(bad_step)
                self._save("last")
                saved = time.monotonic()
        bar.close()
        if self.events:
            self.events.close()
        return self.run

    def _guarded(self, update: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        try:
            return update()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                half = max(2, self.loop.batch_size // 2)
                raise InputError(f"out of memory on {self.device} at batch size {self.loop.batch_size}; start anew with --set batch_size={half}") from None
            raise

    def _average(self) -> None:
        """Moving averages of weights, and of running statistics with them; a layer's memory is short while it has been trained for few steps."""
        if self.averaged is None or self.method.network is None:
            return
        with torch.no_grad():
            for number, (layer, mean) in enumerate(zip(self.method.network.modules(), self.averaged.modules())):
                pairs = list(zip(_own_tensors(mean), _own_tensors(layer)))
                if not self._trained[number] and all(torch.equal(average, value) for average, value in pairs):   # not trained yet
                    continue
                self._trained[number] += 1
                share = 1 - min(self.loop.ema, self._trained[number] / (self._trained[number] + 10))
                for average, value in pairs:
                    average.lerp_(value, share) if average.is_floating_point() else average.copy_(value)

    def _log(self, bad_step: Tensor, bar: tqdm) -> None:
        """The means of the losses since the last log: of the gate's decisions that is the rate at which networks are skipped."""
        self._check_finite(bad_step)
        names = list(self._since)
        values = self.processes.mean(torch.stack([torch.stack(self._since[name]).float().mean() for name in names])).tolist()   # one transfer
        steps = max(len(values) for values in self._since.values())
        self._since.clear()
        now = time.monotonic()
        rate = self.loop.batch_size * steps / max(now - self._logged, 1e-9)
        self._logged = now
        facts = {name: round(value, 6) for name, value in zip(names, values)}
        bar.set_postfix({"pixel" if "pixel" in facts else names[0]: f"{facts.get('pixel', values[0]):.4f}", "pairs/s": f"{rate:.0f}"})
        self._write(seconds=round(self._seconds(), 1), pairs_per_s=round(rate, 1), **facts)

    def _check_finite(self, bad_step: Tensor) -> None:
        step = float(bad_step)
        if np.isfinite(step):
            kept = "the last good checkpoint is kept" if self.run.has("last") else "there was no checkpoint yet"
            raise InputError(f"{self.run.root}: the losses are not finite at step {step:.0f}; {kept}; lower the learning rate (--set learning_rate=...)")

    @torch.no_grad()
    def _validate(self, bar: tqdm) -> None:
        """PSNR on people who are not trained on, a sheet of pictures, and the best checkpoint."""
        facts = {"val_psnr_db": round(self._psnr(self._recovered), 4)}
        if self.averaged is not None:
            with self._averaged_weights():
                facts["val_psnr_ema_db"] = round(self._psnr(self._recovered), 4)
                self._write_pictures()
        else:
            self._write_pictures()
        self._write(seconds=round(self._seconds(), 1), **facts, mean_face_psnr_db=round(self.mean_face_db, 4))
        if not self.quiet:
            bar.write(f"step {self.step}: {max(facts.values()):.2f} dB on validation, mean face {self.mean_face_db:.2f} dB", file=sys.stderr)
        self.averaged_is_better = facts.get("val_psnr_ema_db", -float("inf")) >= facts["val_psnr_db"]
        if max(facts.values()) > self.best_db:
            self.best_db = max(facts.values())
            self._save("best")

    def _averaged_weights(self) -> "_Swapped":
        assert self.averaged is not None and self.method.network is not None
        return _Swapped(self.method.network, self.averaged)

    def _recovered(self, stylized: Tensor) -> Tensor:
        """In the precision that it is trained in: in float32 CycleGAN's validations took longer than its training; PSNR moves by thousandths of a dB."""
        with autocast(self.device):
            return as_pictures(self.method.destylize(as_faces(stylized)))

    def _psnr(self, recover: Callable[[Tensor], Tensor]) -> float:
        """Mean over the validation rows, in dB."""
        split = self.validation
        rows = torch.arange(len(split), device=self.device).split(64)
        return float(torch.cat([psnr_db(recover(split.stylized[part]), split.real[split.real_index[part]]) for part in rows]).mean())

    def _write_pictures(self) -> None:
        if not self.processes.first:
            return
        split = self.validation
        rows = torch.linspace(0, len(split) - 1, min(PICTURES, len(split)), device=self.device).long()   # spread over people and styles
        recovered = self._recovered(split.stylized[rows]).cpu().numpy()
        sheet = tile([list(split.stylized[rows].cpu().numpy()), list(recovered), list(split.real[split.real_index[rows]].cpu().numpy())])
        (self.run.root / "pictures").mkdir(exist_ok=True)
        write_png(self.run.root / "pictures" / f"step-{self.step:06d}.png", sheet)
        if self.events:
            self.events.add_image("stylized, recovered, real", sheet, self.step, dataformats="HWC")

    def _save(self, name: str) -> None:
        if not self.processes.first:
            return
        state: dict[str, Any] = {
            "step": self.step, "steps": self.steps, "seconds": round(self._seconds(), 1), "best_db": self.best_db, "averaged": self.averaged_is_better,
        }
        state["method"] = self.method.state()
        if self.averaged is not None:
            state |= {"ema": self.averaged.state_dict(), "ema_steps": self._trained}
        self.run.save(name, state)

    def _restore(self) -> None:
        state = self.run.load("last")
        self.step, self.seconds, self.best_db = state["step"], state["seconds"], state["best_db"]
        self.averaged_is_better = state["averaged"]
        self.method.restore(state["method"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["ema"])
            self._trained = state["ema_steps"]
        if self.processes.first:
            self.run.forget_after(self.step)

    def _seconds(self) -> float:
        return self.seconds + time.monotonic() - self._started

    def _write(self, **facts: Any) -> None:
        if self.processes.first:
            self.run.log(step=self.step, **facts)
        if self.events:
            for name, value in facts.items():
                self.events.add_scalar(name, value, self.step)


def _events(run: Run) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("tensorboard=true needs the extra tensorboard: pip install 'ifrp-bench[tensorboard]'") from None
    return SummaryWriter(str(run.root / "events"))


def _own_tensors(layer: nn.Module) -> list[Tensor]:
    return [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]


class _Swapped:
    """Another network's weights in place of a network's, for as long as the context lasts."""

    def __init__(self, network: nn.Module, other: nn.Module) -> None:
        self.pairs = list(zip(network.state_dict().values(), other.state_dict().values()))

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for one, other in self.pairs:
            kept = one.clone()
            one.copy_(other)
            other.copy_(kept)
