"""The one training loop, for every method: it gives a method batches, watches its losses, validates it and
keeps checkpoints.

What an update is, the method knows. A run is a function of its settings, seed, data set and machine: stopped
and resumed it ends with the same weights.
"""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ifrp_bench import parts
from ifrp_bench.data.format import Dataset
from ifrp_bench.data.open_styles import OPEN, pictures_of
from ifrp_bench.data.runs import Run, RunError, open_run, start_run
from ifrp_bench.data.shipped import find_run, keep_people, started_from
from ifrp_bench.data.split import Split, load_split
from ifrp_bench.ground import memory
from ifrp_bench.ground.compiler import compiler
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import locked
from ifrp_bench.ground.images import as_faces, as_pictures, tile, write_png
from ifrp_bench.ground.precision import autocast
from ifrp_bench.ground.processes import Processes
from ifrp_bench.ground.provenance import fingerprint, versions
from ifrp_bench.ground.stopping import Stopping
from ifrp_bench.methods import Method, Recoverer, Setup, unchanged
from ifrp_bench.metrics.psnr import psnr_db
from ifrp_bench.nets.batch_norm import synchronized
from ifrp_bench.nets.averages import Averages
from ifrp_bench.training.batches import Batches, Unpaired, steps_per_epoch
from ifrp_bench.training.redraw import PairRemaker, Redrawing
from ifrp_bench.training.resolve import Job, Loop
from ifrp_bench.training.timing import VALIDATION_ROWS

LOG_LINES = 400   # in the whole run
PICTURES = 8   # columns of the sheet of validation faces
VALIDATION_BATCH = 64   # faces recovered at a time


def train(
    job: Job,
    data: Dataset,
    out: Path,
    *,
    faces: Path | None = None,
    styles: Path | None = None,
    device: str = "cpu",
    quiet: bool = False,
) -> Run:
    """Train a method on a data set into the run folder ``out``; a run that is there with the same settings is
    resumed.

    For a training that makes its pairs anew ``faces`` says where the photographs are if they have moved, and
    ``styles`` is a folder of further style folders. A method that optimises each face when it is used gets a
    folder with its settings and no checkpoint.
    Raises InputError for another run in the folder, losses that are no longer finite, and memory that does
    not suffice.
    """
    # what the run is of: settings, data, versions, machine; and what it starts from, which may be gone when
    # it is resumed
    memory.keep()
    processes = Processes(device)
    begun = Run(out, {}).has("last")
    before = started_from(job.loop.init) if job.loop and not begun else []
    info = job.settings() | {
        "method": job.name,
        "data": data.root.name,
        "data_sha256": data.sha256,
        "versions": versions(),
        "machine": fingerprint(device),
        "processes": processes.world,
        "training_styles": _styles_of(job, data, before),
        "started_from": before,
    }

    # one writer a folder; the other processes of a distributed training come along
    with locked(out) if processes.first else nullcontext():
        run = _start(out, info, job.defaults(), processes)
        if job.loop is None:
            return run
        if processes.first and not begun:
            keep_people(run, data)
        return _Training(job, run, data, processes, quiet, faces, styles).run_to_the_end()


def _styles_of(job: Job, data: Dataset, before: list[dict[str, Any]]) -> dict[str, int]:
    """The styles that a training sees, and that what it goes on from has seen, as ``Run.styles_trained`` says
    them.
    """
    if job.loop is None:
        return {}
    own = (style for style in data.seen if style != job.loop.without_style)
    styles = {style: pictures_of(style, data.root / OPEN) for style in (*own, *job.loop.dealt_styles)}
    for facts in before:
        styles = (facts["styles"] or {}) | styles
    return styles


def _start(
    out: Path, info: dict[str, Any], defaults: Mapping[str, Mapping[str, Any]], processes: Processes
) -> Run:
    """The run, begun by the first process alone: the lock clears what a killed writer left half-written, and
    another process's unfinished file looks the same.
    """
    if processes.first:
        run = start_run(out, info, defaults=defaults)
        processes.wait()
        return run
    processes.wait()
    return open_run(out)


def describe(job: Job, data: Dataset) -> str:
    """The resolved settings and the length, for a dry run."""
    if job.loop is None:
        return f"{job.described()}\n{job.name}: not trained, each face is optimised when it is used"
    pairs = data.pairs("train")
    if job.loop.without_style in data.seen:
        pairs -= pairs // len(data.seen)
    per_epoch = steps_per_epoch(pairs, job.loop.batch_size)
    steps = job.loop.length(per_epoch)
    length = f"{steps} steps of {job.loop.batch_size} pairs, {steps / per_epoch:.1f} epochs of {pairs} pairs"
    return f"{job.described()}\n{job.name}: {length}"


def validation_steps(steps: int, validations: int) -> set[int]:
    """After which of so many steps a run is validated: so often, evenly, the last time at the end; after
    each step where it has fewer.
    """
    validations = min(validations, steps)
    return {number * steps // validations for number in range(1, validations + 1)}


def _check_together(loop: Loop, processes: int) -> None:
    """Raises InputError for settings that so many processes cannot share."""
    if loop.batch_size % processes:
        raise InputError(f"batch_size {loop.batch_size} is not a multiple of the {processes} processes")
    if loop.compile == "graphs" and processes > 1:
        raise InputError("compile=graphs is for a single process; compile=on is for several")


def _sees_upright(job: Job) -> bool:
    """Whether the method declares that its SFs are brought upright."""
    declared = job.part.declared
    return isinstance(declared, Method) and declared.sees == "upright"


def _splits(job: Job, data: Dataset, device: str) -> tuple[Split, Split]:
    """What is trained on and what is validated on, without the style that is left out."""
    upright, without = _sees_upright(job), job.trained.without_style
    splits = [load_split(data, name, device, upright=upright) for name in ("train", "val")]
    training, held_out = (split.without(without) if without else split for split in splits)
    return training, held_out


def _batches(job: Job, split: Split, processes: Processes) -> Batches:
    """In pairs or, where the method declares that it does not use them, not."""
    declared, loop = job.part.declared, job.trained
    paired = not isinstance(declared, Method) or declared.paired
    return (Batches if paired else Unpaired)(
        split,
        batch_size=loop.batch_size,
        seed=loop.seed,
        mirror=loop.mirror,
        colour_maps=loop.colour_maps,
        strengths=loop.strengths,
        distort=loop.distort,
        cutmix=loop.cutmix,
        rank=processes.rank,
        world=processes.world,
    )


class _Training:
    """One training: the method, its data and its run folder."""

    def __init__(
        self,
        job: Job,
        run: Run,
        data: Dataset,
        processes: Processes,
        quiet: bool,
        faces: Path | None = None,
        styles: Path | None = None,
    ) -> None:
        self.loop, self.run, self.processes = job.trained, run, processes
        self.device = processes.device
        self.quiet = quiet or not processes.first
        declared, loop = job.part.declared, self.loop
        _check_together(loop, processes.world)

        # the data
        train_split, held_out = _splits(job, data, self.device)
        self.validation = held_out.first(VALIDATION_ROWS)
        self.batches: Batches | Redrawing = _batches(job, train_split, processes)
        if loop.redraw:
            maker = PairRemaker(
                data,
                self.device,
                faces=faces,
                style_folder=styles,
                styles=loop.dealt_styles,
                upright=_sees_upright(job),
                quiet=self.quiet,
            )
            self.batches = Redrawing(self.batches, maker, loop.redraw)
        self.steps = loop.length(self.batches.steps_per_epoch)

        # the method
        held = torch.arange(min(VALIDATION_BATCH, len(self.validation)), device=self.device)
        setup = Setup(
            device=self.device,
            steps=self.steps,
            seed=loop.seed,
            compile=compiler(self.device, loop.compile),
            average=processes.average,
            prepare=synchronized if processes.world > 1 else unchanged,
            validation=self.validation.pairs(held),
            training=train_split,
        )
        self.method: Recoverer = declared.build(job.config, setup)
        if loop.init and not run.has("last"):
            _start_from(find_run(Path(loop.init)), self.method, asdict(job.config))
        self.averages = (
            Averages(self.method.network, loop.ema) if loop.ema and self.method.network is not None else None
        )

        # what is known of the run so far
        self.shown_loss = declared.shown_loss
        self.step = 0
        self.seconds = 0.0   # spent before a restart
        self.best_db = -float("inf")
        self.averaged_is_better = False   # at the last validation
        self.mean_face_db = self._psnr(
            lambda stylized: train_split.mean_face.expand(len(stylized), -1, -1, -1)
        )
        self.events = _events(run) if loop.tensorboard and processes.first else None
        self._since: dict[str, list[Tensor]] = {}   # losses since the last log, on the device

    def run_to_the_end(self) -> Run:
        """The loop. Asked to stop, it keeps what it has after the step that is under way."""
        with Stopping() as stopping:
            return self._run(stopping)

    def _run(self, stopping: Stopping) -> Run:
        # where it was, if it was begun
        if self.run.has("last"):
            self._restore()

        # when to look at it and when to keep it
        # the first step that was not finite, known without asking
        bad_step = torch.full((), torch.inf, device=self.device)
        every_log = max(1, self.steps // LOG_LINES)
        validated = validation_steps(self.steps, self.loop.validations)
        self._started = saved = self._logged = time.monotonic()
        bar = tqdm(
            total=self.steps, initial=self.step, desc=self.run.root.name, unit="step", disable=self.quiet
        )
        while self.step < self.steps:

            # one update
            batch = self.batches.at(self.step)
            losses = self._guarded(lambda: self.method.step(batch))
            self.step += 1
            bar.update()
            finite = torch.isfinite(torch.stack([value.float() for value in losses.values()]).sum())
            bad_step = torch.minimum(bad_step, torch.where(finite, torch.inf, float(self.step)))
            for name, value in losses.items():
                self._since.setdefault(name, []).append(value)
            if self.averages:
                self.averages.update()

            # look at it
            last = self.step == self.steps
            if self.step % every_log == 0 or last:
                self._log(bad_step, bar)
            if self.step in validated:
                self._check_finite(bad_step)
                self._validate(bar)

            # keep it
            late = time.monotonic() - saved > self.loop.checkpoint_seconds
            if last or self.processes.agree(late or stopping.asked is not None):
                self._check_finite(bad_step)
                self._save("last")
                saved = time.monotonic()
                if not last and self.processes.agree(stopping.asked is not None):
                    bar.close()
                    stopping.stop()
        bar.close()
        if self.events:
            self.events.close()
        return self.run

    def _guarded(self, update: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        # memory that does not suffice is the one error that another setting mends
        try:
            return update()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                size = self.loop.batch_size
                where = f"{self.device} at batch size {size}"
                mend = f"start anew with --set batch_size={max(2, size // 2)}"
                raise InputError(f"out of memory on {where}; {mend}") from None
            raise

    def _log(self, bad_step: Tensor, bar: tqdm) -> None:
        """The means of the losses since the last log: of the gate's decisions
        that is the rate at which networks are skipped.
        """
        self._check_finite(bad_step)
        means = torch.stack([torch.stack(values).float().mean() for values in self._since.values()])
        facts = dict(zip(self._since, self.processes.mean(means).tolist()))   # one transfer
        steps = max(len(values) for values in self._since.values())
        self._since.clear()

        # pairs a second since then, over all processes
        now = time.monotonic()
        rate = self.loop.batch_size * steps / max(now - self._logged, 1e-9)
        self._logged = now
        shown = self.shown_loss if self.shown_loss in facts else next(iter(facts))
        bar.set_postfix({shown: f"{facts[shown]:.4f}", "pairs/s": f"{rate:.0f}"})
        rounded = {name: round(value, 6) for name, value in facts.items()}
        self._write(seconds=round(self._seconds(), 1), pairs_per_s=round(rate, 1), **rounded)

    def _check_finite(self, bad_step: Tensor) -> None:
        step = float(bad_step)
        if np.isfinite(step):
            kept = (
                "the last good checkpoint is kept" if self.run.has("last") else "there was no checkpoint yet"
            )
            what = f"the losses are not finite at step {step:.0f}"
            raise InputError(
                f"{self.run.root}: {what}; {kept}; lower the learning rate (--set learning_rate=...)"
            )

    @torch.no_grad()
    def _validate(self, bar: tqdm) -> None:
        """PSNR on people who are not trained on, a sheet of pictures, and the best checkpoint."""
        facts = {"val_psnr_db": round(self._psnr(self._recovered), 4)}
        with self.averages.in_place() if self.averages else nullcontext():
            if self.averages:
                facts["val_psnr_ema_db"] = round(self._psnr(self._recovered), 4)
            self._write_pictures()
        self._write(seconds=round(self._seconds(), 1), **facts, mean_face_psnr_db=round(self.mean_face_db, 4))

        # the better of plain and averaged weights counts
        best = max(facts.values())
        if not self.quiet:
            line = f"step {self.step}: {best:.2f} dB on validation, mean face {self.mean_face_db:.2f} dB"
            bar.write(line, file=sys.stderr)
        self.averaged_is_better = facts.get("val_psnr_ema_db", -float("inf")) >= facts["val_psnr_db"]
        if best > self.best_db:
            self.best_db = best
            self._save("best")

    def _recovered(self, stylized: Tensor) -> Tensor:
        """In the precision that it is trained in.

        In float32 CycleGAN's validations took longer than its training; PSNR moves by thousandths of a dB.
        """
        with autocast(self.device):
            return as_pictures(self.method.recover(as_faces(stylized)))

    def _psnr(self, recover: Callable[[Tensor], Tensor]) -> float:
        """Mean over the validation rows, in dB."""
        split = self.validation
        # face by face, then averaged: the mean of PSNRs is not the PSNR of the mean
        found = []
        for rows in torch.arange(len(split), device=self.device).split(VALIDATION_BATCH):
            found.append(psnr_db(recover(split.stylized[rows]), split.real[split.real_index[rows]]))
        return float(torch.cat(found).mean())

    def _write_pictures(self) -> None:
        """Stylized, recovered and real faces, spread over people and styles."""
        if not self.processes.first:
            return
        split = self.validation
        # evenly over people and styles
        rows = torch.linspace(0, len(split) - 1, min(PICTURES, len(split)), device=self.device).long()
        stylized, real = split.stylized[rows], split.real[split.real_index[rows]]
        sheet = tile([list(faces.cpu().numpy()) for faces in (stylized, self._recovered(stylized), real)])
        (self.run.root / "pictures").mkdir(exist_ok=True)
        write_png(self.run.root / "pictures" / f"step-{self.step:06d}.png", sheet)
        if self.events:
            self.events.add_image("stylized, recovered, real", sheet, self.step, dataformats="HWC")

    def _save(self, name: str) -> None:
        if not self.processes.first:
            return
        # what the loop knows, what the method knows, the averages
        state: dict[str, Any] = {
            "step": self.step,
            "steps": self.steps,
            "seconds": round(self._seconds(), 1),
            "best_db": self.best_db,
            "averaged": self.averaged_is_better,
            "method": self.method.state(),
        }
        self.run.save(name, state | (self.averages.state() if self.averages else {}))

    def _restore(self) -> None:
        state = self.run.load("last")
        self.step, self.seconds, self.best_db = state["step"], state["seconds"], state["best_db"]
        self.averaged_is_better = state["averaged"]
        self.method.restore(state["method"])
        if self.averages:
            self.averages.restore(state)

        # lines of steps after the checkpoint are logged again
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


def _start_from(run: Run, method: Recoverer, config: dict[str, Any]) -> None:
    """Give a method, built by ``config``, the weights that another run ended with.

    Raises InputError where they do not fit, with the settings by which they may.
    """
    if run.mirrored:
        raise InputError(f"init={run.name}: + is a way to use weights, not others; name them without it")
    if method.network is None:
        raise InputError(f"init={run.root}: this method has no network that could start from weights")
    try:
        weights = run.weights(method.network)
    except RunError as error:
        theirs = asdict(parts.trainable(run.method).declared.config(**run.info["config"]))
        other = [f"{key}={value}" for key, value in theirs.items() if config.get(key, value) != value]
        said = f"{error}; its settings differ: {', '.join(other)}" if other else str(error)
        raise InputError(said) from None
    method.network.load_state_dict(weights)


def _events(run: Run) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            "tensorboard=true needs the extra tensorboard: pip install 'ifrp-bench[tensorboard]'"
        ) from None
    return SummaryWriter(str(run.root / "events"))
