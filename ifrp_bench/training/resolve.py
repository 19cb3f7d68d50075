"""The one place where a method's name, a preset and settings become something that can be trained: a ``Job``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ifrp_bench import parts
from ifrp_bench.data.runs import Run
from ifrp_bench.ground.compiler import WISHES
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.settings import Count, Decay, NotNegative, Seed, Share, Size, nearest, settings_of
from ifrp_bench.parts import Part


@dataclass(frozen=True)
class Loop:
    """How long and with what batches: what any method is trained with.

    One of ``epochs`` and ``steps`` says the length.
    """

    epochs: NotNegative = 0.0
    steps: Size = 0
    batch_size: Count = 64   # [P]
    mirror: bool = False   # pairs mirrored at random; an option of this project, as the next four are
    colour_maps: Share = 0.0   # share of stylized faces whose colours are mapped at random
    strengths: Share = 0.0   # share that are mixed with their photograph, by random amounts; ours too
    # share whose structure is made stronger or weaker, and share whose tones are changed; ours, for styles
    # that nobody trained on
    distort: Share = 0.0
    # share that is put together from two pairs of one style; ours, for trainings that see few faces often
    cutmix: Share = 0.0
    # epochs after which every SF is made anew, misaligned otherwise; 0: never; an option of this project
    redraw: NotNegative = 0.0
    # the styles it is made in, with commas; one that is named twice twice as often; empty: each in its own
    redraw_styles: str = ""
    ema: Decay = 0.0   # decay of averaged weights, e.g. 0.999; both are validated, the better kept as best
    validations: Count = 20   # in the whole run
    tensorboard: bool = False   # events beside log.jsonl; needs the extra tensorboard
    checkpoint_seconds: NotNegative = 60.0   # at most so much is trained again after a kill
    # auto: on a GPU; on a CPU it gained nothing and costs a minute (benchmarks/results.md); graphs: CUDA
    # graphs, which want no compiler
    compile: str = "auto"
    seed: Seed = 0
    without_style: str = ""   # a style whose pairs are left out, to test on it; empty: none
    init: str = ""   # a run or shipped weights to start from; empty: from random ones

    def __post_init__(self) -> None:
        if (self.epochs > 0) == (self.steps > 0):
            lengths = f"epochs {self.epochs} and steps {self.steps}"
            raise InputError(f"{lengths}: one of them says how long to train, the other is 0")
        if self.compile not in WISHES:
            raise InputError(f"compile {self.compile!r} is none of {', '.join(WISHES)}")
        if self.redraw_styles and not self.redraw:
            raise InputError(f"redraw_styles {self.redraw_styles!r} says what redraw deals, and redraw is 0")

    @property
    def dealt_styles(self) -> tuple[str, ...]:
        """What ``redraw`` deals."""
        return tuple(word.strip() for word in self.redraw_styles.split(",") if word.strip())

    def length(self, steps_per_epoch: int) -> int:
        """Steps of the whole run."""
        return self.steps or max(1, round(self.epochs * steps_per_epoch))


@dataclass(frozen=True)
class Job:
    """What a name, a preset and settings stand for.

    ``loop`` is None for a method that optimises each face when it is used.
    """

    part: Part
    config: Any
    loop: Loop | None
    seed: int

    @property
    def name(self) -> str:
        """The method's name on the command line, or the path of its file."""
        return self.part.name

    @property
    def trained(self) -> Loop:
        """The loop of a method that is trained."""
        assert self.loop is not None, f"{self.name} is not trained"
        return self.loop

    @property
    def steps_a_face(self) -> int:
        """The steps of a method that optimises each face."""
        return int(getattr(self.config, self.part.method.steps_setting))

    def with_steps(self, steps: int, *, validations: int = 0) -> "Job":
        """The job at another length: of its training, or of what is optimised for each face."""
        # of a method that is not trained the length is what it spends on a face
        if self.loop is None:
            return replace(self, config=replace(self.config, **{self.part.method.steps_setting: steps}))
        loop = replace(self.loop, steps=steps, epochs=0.0, validations=validations or self.loop.validations)
        return replace(self, loop=loop)

    def as_long_as(self, other: Loop) -> "Job":
        """The job at the length of another training, with as many validations."""
        loop = replace(
            self.trained, steps=other.steps, epochs=other.epochs, validations=other.validations
        )
        return replace(self, loop=loop)

    def settings(self) -> dict[str, Any]:
        """``config`` and ``loop`` as ``run.json`` has them."""
        loop = {"seed": self.seed} if self.loop is None else asdict(self.loop)
        return {"config": asdict(self.config), "loop": loop}

    def defaults(self) -> dict[str, Any]:
        """The same by their defaults: what a run that was begun before a setting existed was begun with."""
        return {"config": asdict(self.part.declared.config()), "loop": asdict(Loop(steps=1))}

    def described(self) -> str:
        """The settings, a line each."""
        values = ({} if self.loop is None else asdict(self.loop)) | asdict(self.config)
        return "\n".join(f"{key} = {value}" for key, value in values.items())


def resolve(name: str, preset: str | None, settings: Mapping[str, Any], *, seed: int | None = None) -> Job:
    """The job of a method, variant, aligner or file of the user's own with one of its presets and settings
    laid over it.

    Without ``preset``, the settings alone. A length given in steps replaces a preset's epochs, and the other
    way round. Raises InputError for a method that is not trained, a preset that it does not have, and
    settings that there are not or that are of another kind.
    """
    # what the name stands for
    part = parts.trainable(name)
    if part.use == "fixed":
        raise InputError(
            f"{name} is not trained: it is a difficulty row, which stands in every table without being named"
        )

    # the preset, under the variant's settings, under the seed, under what was given
    presets = part.declared.presets
    if preset is not None and preset not in presets:
        raise InputError(f"preset {preset!r} is none of {name}'s: {', '.join(presets) or 'it has none'}")
    chosen = dict(presets[preset]) if preset is not None else {}
    values = (
        chosen | dict(part.settings) | ({} if seed is None else {"seed": seed}) | _with_one_length(settings)
    )
    return _job(part, values)


def resume(run: Run) -> Job:
    """The job that a run was begun with."""
    # runs of methods that are not trained once had a loop of one step: only its seed means something
    part = parts.trainable(run.method)
    loop = run.info["loop"]
    kept = {"seed": loop["seed"]} if part.use == "optimised" else loop
    return _job(part, kept | run.info["config"])


def _job(part: Part, values: Mapping[str, Any]) -> Job:
    """``Loop`` and ``config`` of the values.

    Raises InputError for a key that neither has and for a value of the wrong kind.
    """
    # every key belongs to the loop or to the method; a method that is not trained has no loop
    declared, optimised = part.declared, part.use == "optimised"
    of_loop = ["seed"] if optimised else [field.name for field in fields(Loop)]
    known = sorted({*of_loop, *(field.name for field in fields(declared.config))})
    for key in values:
        if key not in known:
            hint = nearest(key, known)
            raise InputError(f"{part.name}: {key!r} is no setting{hint}; there are {', '.join(known)}")
    loop = None if optimised else settings_of(Loop, values, part.name)
    config: Any = settings_of(declared.config, values, part.name)
    return Job(part, config, loop, seed=int(values.get("seed", 0)))


def _with_one_length(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which a length given in steps replaces a preset's epochs, and the other way round."""
    # both or neither: as they are, and the loop complains where they do not go together
    if ("epochs" in settings) == ("steps" in settings):
        return dict(settings)
    other: dict[str, Any] = {"steps": 0} if "epochs" in settings else {"epochs": 0.0}
    return dict(settings) | other


def default_preset(name: str, *, demo: bool, device: str) -> str | None:
    """The preset when none is named: ``smoke`` for the demo's data, else by the device.

    None for a method without presets.
    """
    if not parts.trainable(name).declared.presets:
        return None
    if demo:
        return "smoke"
    return "cpu" if device == "cpu" else "short"
