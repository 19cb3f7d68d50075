"""Trained weights that come with the package, each usable wherever a run is.

A folder of ``ifrp_bench/weights/`` is a name: ``card.toml`` (method and settings, data, length, machine,
commands, scores, limits, licence, the tensors' sha256), ``net.safetensors`` (float16; the recovering network
alone) and ``people.npy`` (hashes of whom it was trained on). ``making/weights.py`` makes them of a run.
Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ifrp_bench.data.exchange import SOURCE as PAIRS
from ifrp_bench.data.format import Dataset, read_manifest
from ifrp_bench.data.open_styles import pictures_of
from ifrp_bench.data.runs import PLUS, Run, RunError, fit, open_run
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import PACKAGE, write_whole
from ifrp_bench.ground.images import SUFFIXES
from ifrp_bench.ground.weights import floats, load_state

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULT = "portraits"   # what `destylize` takes where no run is named
FOLDER = PACKAGE / "weights"
PEOPLE = "people.npy"
CELEBA = "celeba"   # the source whose identities have numbers of their own


@dataclass(frozen=True)
class Shipped(Run):
    """Weights of the package as a run: ``root`` is their folder, which is only read; ``info`` their card."""

    @property
    def work(self) -> Path:
        """Where what is made with them is kept: not inside of the package."""
        return Path("runs") / "shipped" / self.root.name

    def has(self, name: str) -> bool:
        """They are the end of a training, and its best."""
        return True

    def sha256(self, name: str) -> str:
        """Of the tensors, whichever checkpoint is named."""
        return str(self.info["net"]["sha256"])

    def progress(self, name: str) -> tuple[int, int]:
        """The last step of a finished training."""
        steps = int(self.info["training"]["steps"])
        return steps, steps

    def styles_trained(self) -> dict[str, int]:
        """As their card says; ``open`` stands for the pictures of the bank that comes along."""
        dealt = str(self.info["loop"].get("redraw_styles", ""))
        names = [*self.info["data"]["recipe"]["train_styles"], *filter(None, dealt.split(","))]
        return {name: pictures_of(name) for name in names}

    def load(self, name: str) -> dict[str, Any]:
        """The recovering network's weights in float32; what training needs besides is not shipped."""
        step, steps = self.progress(name)
        return {"step": step, "steps": steps, "weights": self._weights}

    def weights(self, network: nn.Module) -> dict[str, Tensor]:
        """The weights, in float32. Raises RunError for a network of another shape."""
        if not fit(self._weights, network):
            raise RunError(f"{self.root.name}: weights of {self.method}, which do not fit this network")
        return self._weights

    @cached_property
    def _weights(self) -> dict[str, Tensor]:
        return floats(load_state(self.root / "net.safetensors", sha256=self.sha256("last")))

    @cached_property
    def people(self) -> np.ndarray:
        """Hashes of whom they were trained on, uint64, sorted."""
        return np.load(self.root / PEOPLE, allow_pickle=False)   # type: ignore[no-any-return]

    def knows(self, people: Iterable[str]) -> list[str]:
        """Those of the people, named as ``people_of`` names them, whom they were trained on."""
        return _known(people, self.people)


def shipped_names() -> list[str]:
    """What there is."""
    return sorted(path.parent.name for path in FOLDER.glob("*/card.toml"))


def open_shipped(name: str) -> Shipped:
    """The weights of this name. Raises RunError for a name or a card that there is not."""
    root = FOLDER / name
    if name not in shipped_names():
        raise RunError(f"{name}: none of the weights that come with ifrp-bench: {', '.join(shipped_names())}")
    try:
        card = tomllib.loads((root / "card.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{root}/card.toml: not readable: {error}; install ifrp-bench again") from None
    return Shipped(root, card)


def is_run(path: Path) -> bool:
    """Whether a name is meant as a run rather than as a picture or a folder of pictures."""
    if path.exists() or str(path) == "-":
        return (path / "run.json").is_file()
    return path.suffix.lower() not in SUFFIXES   # shipped weights, or a run that is not there


def find_run(run: Path) -> Run:
    """A run's folder, or shipped weights by their name; with a ``+`` behind either, mirrored.

    Raises RunError for what is neither.
    """
    if str(run).endswith(PLUS) and not run.exists():
        return replace(find_run(Path(str(run).removesuffix(PLUS))), mirrored=True)
    if str(run) in shipped_names() and not (run / "run.json").is_file():
        return open_shipped(str(run))
    if not run.exists() and run.name == str(run):
        there = ", ".join(shipped_names())
        raise RunError(f"{run}: no such folder of a run, and none of the weights that are shipped: {there}")
    return open_run(run)


def started_from(init: str) -> list[dict[str, Any]]:
    """What a training that starts from ``init`` goes on from, and what that one went on from, newest first:
    as ``run.json`` keeps it, since folders go. None for an empty ``init``.

    Raises RunError for what is neither a run nor shipped weights.
    """
    if not init:
        return []
    before = find_run(Path(init))
    shipped = isinstance(before, Shipped)
    of_data = before.info["data"]["sha256"] if shipped else before.info["data_sha256"]
    own = {
        "name": before.root.name,
        "shipped": shipped,
        "data_sha256": of_data,
        "styles": before.styles_trained(),
    }
    # shipped weights know the people of all that they went on from
    return [own] if shipped else [own, *gone_on_from(before)]


def gone_on_from(run: Run) -> list[dict[str, Any]]:
    """What a run went on from, newest first, as ``started_from`` says it."""
    if "started_from" in run.info:
        return run.info["started_from"]   # type: ignore[no-any-return]

    # a run of an earlier version does not say, and where it started from may be gone
    init = str(run.info["loop"].get("init", ""))
    try:
        return started_from(init)
    except RunError:
        return [{"name": Path(init).name, "shipped": False, "data_sha256": "unknown", "styles": None}]


def known_before(init: str, people: Iterable[str]) -> list[str]:
    """Those of the people, named as ``people_of`` names them, whom shipped weights that a training goes on
    from were trained on.
    """
    weights = [open_shipped(before["name"]) for before in started_from(init) if before["shipped"]]
    return sorted({name for known in weights for name in known.knows(people)})


def check_unseen(run: Run, data: Dataset, split: str = "test") -> None:
    """Raises InputError where a run cannot be tested on a split because of people that it, or what it started
    from, was trained on.

    A run is tested on the data set that it was trained on, or on one without a training split whose people it
    has not seen; shipped weights on any whose people they have not seen.
    """
    if isinstance(run, Shipped):
        _check_known(run.people, data, split, run.root.name)
        return
    _check_same(run.info, str(run.root), f"{run.info.get('data')}, ", data)
    if run.info["data_sha256"] != data.sha256:
        _check_known(_people_trained_on(run), data, split, str(run.root))
        return
    for before in gone_on_from(run):
        went_on = f"{run.root}: it went on from {before['name']}"
        if not before["shipped"]:
            _check_same(before, went_on, "", data)
        elif before["name"] in shipped_names():
            _check_known(open_shipped(before["name"]).people, data, split, went_on)


def _check_known(trained_on: np.ndarray, data: Dataset, split: str, who: str) -> None:
    people = people_of(data, split)
    known = _known(people, trained_on)
    if known:
        some = ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")
        raise InputError(
            f"{who}: {len(known)} of the {len(people)} people in the {split} split of {data.root}"
            f" were trained on ({some}), so its scores would say nothing; take a data set of others, or train"
            " on this one's own training split"
        )


def _check_same(facts: Mapping[str, Any], who: str, named: str, data: Dataset) -> None:
    if facts["data_sha256"] != data.sha256 and data.pairs("train"):
        raise InputError(
            f"{who}: trained on another data set ({named}{facts['data_sha256'][:12]}...) than {data.root}"
            f" ({data.sha256[:12]}...), so people it is tested on may have been trained on; evaluate it"
            " on its own, or train it again"
        )


def keep_people(run: Run, data: Dataset) -> None:
    """Write into a run's folder whom it is trained on, and whom what it starts from was."""
    people = hashes_of(people_of(data, "train"))
    init = run.info["loop"].get("init")
    if init:
        before = find_run(Path(init))
        there = before.people if isinstance(before, Shipped) else _people_trained_on(before)
        people = np.union1d(people, there)
    write_people(run.root, people)


def write_people(folder: Path, people: np.ndarray) -> None:
    """Hashes of people into ``people.npy``."""
    buffer = io.BytesIO()
    np.save(buffer, people, allow_pickle=False)
    write_whole(folder / PEOPLE, buffer.getvalue())


def _people_trained_on(run: Run) -> np.ndarray:
    """As ``keep_people`` left them; nobody where the run is of an earlier version."""
    path = run.root / PEOPLE
    if not path.is_file():
        return np.empty(0, np.uint64)
    return np.load(path, allow_pickle=False)   # type: ignore[no-any-return]


def _known(people: Iterable[str], trained_on: np.ndarray) -> list[str]:
    """Those of the people, named as ``people_of`` names them, whose hashes are there."""
    hashes = set(trained_on.tolist())
    return [name for name in sorted(people) if _hash(name) in hashes]


def people_of(data: Dataset, split: str) -> set[str]:
    """Who is in a split: of CelebA's people the number in its list, of rendered ones the number beside the
    seed that they were drawn with, of all others the folder that a photograph lies in, or else its name.
    """
    recipe = data.info["recipe"]
    rows = [row for row in read_manifest(data.root) if row["split"] == split]
    rendered = not data.info["faces"] and recipe["source"] != PAIRS
    if rendered:
        return {f"{recipe['source']} {recipe['seed']}: {row['identity']}" for row in rows}
    if recipe["source"] == CELEBA:
        return {f"{CELEBA}: {row['identity']}" for row in rows}
    return {row["face"].rpartition("/")[0] or row["face"] for row in rows}


def hashes_of(people: Iterable[str]) -> np.ndarray:
    """Sorted uint64 hashes of people as ``people_of`` names them: enough to know one again, not to list them.
    """
    return np.array(sorted(_hash(name) for name in people), dtype=np.uint64)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
