"""A run's folder: what was asked, what happened, and the checkpoints.

* ``run.json``: schema version, method, resolved settings, the data set's hash, versions, seed; written before
  the first step;
* ``log.jsonl``: a line per logged step, validation or event;
* ``last.safetensors`` and ``best.safetensors`` (highest validation PSNR), each with a ``.json`` of the same
  name that holds what is no tensor and the tensors' sha256; both are written whole or not at all, the
  ``.json`` last;
* ``people.npy``: hashes of whom it is trained on, so that it is not tested on them (``data/shipped.py``);
* ``pictures/``: stylized, recovered and real faces of the validation split.

No pickle is ever written or read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of, write_whole
from ifrp_bench.ground.provenance import read_facts
from ifrp_bench.ground.weights import load_state, save_state

if TYPE_CHECKING:
    from torch import Tensor, nn

SCHEMA = 1
PLUS = "+"   # behind a name: mirrored; as EDSR+ is written (Lim et al. 2017, section 3.4)


class RunError(InputError):
    """A run's folder that is not what it should be; the text begins with its path."""


@dataclass(frozen=True)
class Run:
    """A run's folder and its parsed ``run.json``. ``mirrored``: it is to be used on both sides of each face,
    as ``NAME+`` asks for.
    """

    root: Path
    info: dict[str, Any]
    mirrored: bool = False

    @property
    def method(self) -> str:
        """The method's name on the command line, or the path of its file."""
        return self.info["method"]

    @property
    def sign(self) -> str:
        """``+`` where it is mirrored: behind its names, and behind hashes of what its faces are made of."""
        return PLUS if self.mirrored else ""

    @property
    def name(self) -> str:
        """What it is called in results: its folder's name, with its sign."""
        return self.root.name + self.sign

    @property
    def work(self) -> Path:
        """Where what is made with it is kept: its own folder."""
        return self.root

    def log(self, **facts: Any) -> None:
        """Add a line to ``log.jsonl``."""
        with (self.root / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """The lines of ``log.jsonl``; a last one that was cut off by a kill is left out."""
        path = self.root / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        facts = []
        for line in lines:
            try:
                facts.append(json.loads(line))
            except ValueError:
                continue
        return facts

    def summary(self) -> dict[str, Any]:
        """How far the run is: ``step``, ``seconds``, ``best_db`` and
        ``mean_face_db`` (None before the first validation).
        """
        log = self.read_log()
        validations = [facts for facts in log if "val_psnr_db" in facts]
        scores = [
            facts[key] for facts in validations for key in ("val_psnr_db", "val_psnr_ema_db") if key in facts
        ]
        return {
            "step": max((facts.get("step", 0) for facts in log), default=0),
            "seconds": max((facts.get("seconds", 0.0) for facts in log), default=0.0),
            "best_db": max(scores, default=None),
            "mean_face_db": validations[-1]["mean_face_psnr_db"] if validations else None,
        }

    def forget_after(self, step: int) -> None:
        """Drop log lines of steps after ``step``: a resumed run logs them again."""
        kept = [facts for facts in self.read_log() if facts.get("step", 0) <= step]
        write_whole(self.root / "log.jsonl", "".join(json.dumps(facts) + "\n" for facts in kept).encode())

    def has(self, name: str) -> bool:
        """Whether the checkpoint ``last`` or ``best`` is there."""
        return (self.root / f"{name}.json").is_file()

    def sha256(self, name: str) -> str:
        """Of a checkpoint's tensors. Raises RunError where there is none."""
        return str(self._facts(name)["sha256"])

    def progress(self, name: str) -> tuple[int, int]:
        """The step that a checkpoint stands at and the run's last one, its tensors unread.

        Raises RunError where there is none.
        """
        state = self._facts(name)["state"]
        return int(state["step"]), int(state["steps"])

    def styles_trained(self) -> dict[str, int] | None:
        """The styles that its training saw, each with the number of pictures it stands for: ``open`` for
        those of its bank, any other for one.

        None for a run of an earlier version, which does not say.
        """
        return self.info.get("training_styles")

    def finished(self) -> bool:
        """Whether a training has reached its last step."""
        if not self.has("last"):
            return False
        step, steps = self.progress("last")
        return step == steps

    def _facts(self, name: str) -> dict[str, Any]:
        keys = ("method", "tensors", "sha256", "state")
        none = f"no checkpoint {name!r} here; train first, or take another run"
        return read_facts(
            self.root / f"{name}.json",
            keys,
            schema=SCHEMA,
            error=RunError,
            none=none,
            mend="remove the folder and train again",
        )

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint.

        Raises RunError for one with values that are not finite: the one before it stays.
        """
        tensors: dict[str, Tensor] = {}
        tree = _split(state, "", tensors)
        bad = _not_finite(tensors)
        if bad:
            raise RunError(
                f"{self.root}: {bad[0]} is not finite at step {state.get('step')}; the last good checkpoint"
                " is kept: lower the learning rate"
            )
        path = self.root / f"{name}-{state.get('step', 0)}.safetensors"
        save_state(path, tensors)
        facts = {
            "schema": SCHEMA,
            "method": self.method,
            "tensors": path.name,
            "sha256": sha256_of(path),
            "state": tree,
        }
        # last: it names the tensors that are whole
        write_whole(self.root / f"{name}.json", (json.dumps(facts, indent=1) + "\n").encode())
        for old in self.root.glob(f"{name}-*.safetensors"):
            if old != path:
                old.unlink()

    def weights(self, network: nn.Module) -> dict[str, Tensor]:
        """The run's weights for a network like the one that recovers: averaged ones where they were better.

        Raises RunError where the last checkpoint has none that fit.
        """
        state = self.load("last")
        if "weights" in state:   # of a run that came back from elsewhere, as shipped ones
            found = [state["weights"]]
        else:
            found = [*state["method"].get("networks", {}).values()]
            found = [state["ema"], *found] if state["averaged"] else found
        for weights in found:
            if fit(weights, network):
                return weights   # type: ignore[no-any-return]
        raise RunError(f"{self.root}: its networks are not of the shape that is asked for ({self.method})")

    def load(self, name: str) -> dict[str, Any]:
        """A checkpoint's state.

        Raises RunError in one line if it is missing, truncated, changed, of another schema or method, or not
        finite.
        """
        path, facts = self.root / f"{name}.json", self._facts(name)
        method, tree, sha256 = facts["method"], facts["state"], str(facts["sha256"])
        tensors_path = self.root / Path(facts["tensors"]).name
        if method != self.method:
            raise RunError(f"{path}: a checkpoint of the method {method!r}; this run is of {self.method!r}")
        tensors = load_state(tensors_path, sha256=sha256)
        bad = _not_finite(tensors)
        if bad:
            raise RunError(
                f"{tensors_path}: {bad[0]} is not finite; take the other checkpoint or train again"
            )
        return _join(tree, tensors, path)


def fit(weights: Mapping[str, Tensor], network: nn.Module) -> bool:
    """Whether weights are of a network of this shape."""
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    return {name: value.shape for name, value in weights.items()} == wanted


def _not_finite(tensors: dict[str, Tensor]) -> list[str]:
    """Names of those with a value that is not."""
    import torch

    return [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]


def open_run(root: Path) -> Run:
    """A run's folder. Raises RunError if there is none or it is of another schema."""
    keys = ("method", "config", "loop", "data_sha256")
    none = f"no run here (no run.json); make one with `ifrp-bench train --out {root}`"
    info = read_facts(
        root / "run.json",
        keys,
        schema=SCHEMA,
        error=RunError,
        none=none,
        mend="remove the folder and train again",
    )
    return Run(root, info)


def start_run(
    root: Path, info: dict[str, Any], *, defaults: Mapping[str, Mapping[str, Any]] | None = None
) -> Run:
    """The run of these facts in ``root``: a new one, or the one that is there if what it was asked for is the
    same.

    ``defaults`` are those of ``config`` and ``loop``: a run that was begun before a setting existed was begun
    with its default. Raises RunError if another run with a checkpoint or recovered faces is there, naming the
    first difference; one without has nothing to lose.
    """
    new = Run(root, {"schema": SCHEMA} | json.loads(json.dumps(info)))
    if new.has("last") or new.has("best") or (root / "recovered").is_dir():
        there = open_run(root)
        for key in ("method", "config", "loop", "data_sha256"):
            old, asked = there.info[key], new.info[key]
            if isinstance(asked, dict):
                old = {**(defaults or {}).get(key, {}), **old}
                old = {name: old.get(name) for name in asked}
            if old != asked:
                difference = _difference(key, old, asked)
                raise RunError(
                    f"{root}: another run is there ({difference}); choose another --out or remove the folder"
                )
        return there
    (root / "log.jsonl").unlink(missing_ok=True)
    write_whole(root / "run.json", (json.dumps(new.info, indent=1) + "\n").encode())
    return new


def _difference(key: str, there: Any, asked: Any) -> str:
    if isinstance(there, dict) and isinstance(asked, dict):
        key = next(name for name in {**there, **asked} if there.get(name) != asked.get(name))
        there, asked = there.get(key), asked.get(key)
    return f"{key} is {_short(there)} there, {_short(asked)} here"


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 40 else repr(value)


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """What is no tensor, as JSON holds it; tensors go into ``tensors`` and leave their name.

    Whole numbers as keys are marked by a ``#``.
    """
    from torch import Tensor

    if isinstance(value, Tensor):
        tensors[name] = value
        return {"@": name}
    if isinstance(value, dict):
        keys = {f"#{key}" if isinstance(key, int) else str(key): child for key, child in value.items()}
        return {key: _split(child, f"{name}/{key}" if name else key, tensors) for key, child in keys.items()}
    if isinstance(value, (list, tuple)):
        return [_split(child, f"{name}/{number}", tensors) for number, child in enumerate(value)]
    return value


def _join(tree: Any, tensors: dict[str, Tensor], path: Path) -> Any:
    if isinstance(tree, dict):
        if set(tree) == {"@"}:
            if tree["@"] not in tensors:
                raise RunError(f"{path}: the tensor {tree['@']!r} is missing from its file; train again")
            return tensors[tree["@"]]
        return {
            int(key[1:]) if key.startswith("#") else key: _join(child, tensors, path)
            for key, child in tree.items()
        }
    return [_join(child, tensors, path) for child in tree] if isinstance(tree, list) else tree
