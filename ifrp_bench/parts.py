"""The catalogue of declared parts: methods, aligners, metrics and sources, by name or from a file of the
user's own.

Parts are found by looking into their folders, so adding one is adding its file. No other module knows a part
by its name.
"""

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ifrp_bench import methods, metrics as metrics_folder, sources
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.settings import nearest
from ifrp_bench.methods import Aligner, Method
from ifrp_bench.metrics import Metric
from ifrp_bench.sources import Source

OWN_ROW = 1000   # where methods of the user's own stand in a table: behind all others


@dataclass(frozen=True)
class Part:
    """A method or aligner under its name on the command line, with
    the settings that a variant's name stands for.
    """

    name: str
    declared: Method | Aligner
    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    row: int = 0
    reported: Mapping[str, float] = field(default_factory=dict)

    @property
    def method(self) -> Method:
        """The declaration of a method. Raises InputError for an aligner, which recovers no faces."""
        if isinstance(self.declared, Aligner):
            raise InputError(
                f"{self.name} is an aligner: it brings faces upright for other methods and recovers none"
            )
        return self.declared

    @property
    def aligns(self) -> bool:
        """Whether it is an aligner."""
        return isinstance(self.declared, Aligner)

    @property
    def use(self) -> str:
        """``trained``, ``optimised`` or ``fixed``; aligners are trained."""
        return "trained" if isinstance(self.declared, Aligner) else self.declared.use


def trainables() -> dict[str, Part]:
    """Every method and aligner that comes with the package, and every variant of one, by name."""
    found: dict[str, Part] = {}
    for stem, module in _modules(methods).items():
        for part in _parts_of(stem.replace("_", "-"), module):
            found[part.name] = part
    return found


def _parts_of(name: str, module: ModuleType) -> list[Part]:
    """A module's part and its variants."""
    title = (module.__doc__ or "").strip().split("\n")[0].rstrip(".")
    aligner = module.__dict__.get("ALIGNER")
    if isinstance(aligner, Aligner):
        return [Part(name, aligner, title)]
    method: Method = module.__dict__["METHOD"]
    parts = [Part(name, method, title, row=method.row, reported=method.reported)]
    for variant_name, variant in method.variants.items():
        parts.append(
            Part(variant_name, method, variant.title, variant.settings, variant.row, variant.reported)
        )
    return parts


def trainable(name: str) -> Part:
    """A method, variant or aligner by name; a name that ends in ``.py`` is a file of the user's own.

    Raises InputError for an unknown name, and for a file that fails or declares neither.
    """
    if name.endswith(".py"):
        module = load_file(Path(name))
        if not isinstance(module.__dict__.get("ALIGNER"), Aligner):
            _declared(module, "METHOD", Method, name)
        part = _parts_of(name, module)[0]
        return part if part.aligns else Part(name, part.declared, part.title, row=OWN_ROW)
    known = trainables()
    if name not in known:
        raise _unknown("method", name, known)
    return known[name]


def aligner_names() -> list[str]:
    """Every aligner."""
    return [name for name, part in trainables().items() if part.aligns]


def difficulty_rows(*, with_training: bool = True, of_sketches: bool = False) -> list[str]:
    """Methods that say how hard a data set is: neither trained nor optimised.

    Without a training split, those that do not look into it; of drawings, also those that say something of
    drawings alone.
    """
    fixed = {name: part.method for name, part in trainables().items() if part.use == "fixed"}
    names = [name for name, method in fixed.items() if with_training or not method.needs_training]
    return [name for name in names if of_sketches or not fixed[name].of_sketches]


def paper_rows() -> tuple[str, ...]:
    """What a whole paper trains, in order: the aligners first, then its tables' rows."""
    rows = [part for part in trainables().values() if part.row]
    return (*aligner_names(), *(part.name for part in sorted(rows, key=lambda part: part.row)))


def reported_values() -> dict[str, Mapping[str, float]]:
    """The paper's values by method and column."""
    return {name: part.reported for name, part in trainables().items() if part.reported}


def metrics() -> dict[str, Metric]:
    """Every metric that comes with the package, by name, in their order."""
    found = {name: module.__dict__["METRIC"] for name, module in _modules(metrics_folder).items()}
    return dict(sorted(found.items(), key=lambda item: item[1].place))


def metric(name: str) -> Metric:
    """A metric by name; a name that ends in ``.py`` is a file of the user's own.

    Raises InputError for an unknown name, and for a file that fails or declares none.
    """
    if name.endswith(".py"):
        return _declared(load_file(Path(name)), "METRIC", Metric, name)   # type: ignore[no-any-return]
    known = metrics()
    if name not in known:
        raise _unknown("metric", name, known)
    return known[name]


def default_metrics() -> tuple[str, ...]:
    """What is computed when no metrics are named."""
    return tuple(name for name, found in metrics().items() if found.default)


def source_names() -> tuple[str, ...]:
    """Every source of faces that comes with the package."""
    return tuple(_modules(sources))


def source(name: str) -> Source:
    """A source by name; a name that ends in ``.py`` is a file of the user's own.

    Raises InputError for an unknown name, and for a file that fails or declares none.
    """
    if name.endswith(".py"):
        return _declared(load_file(Path(name)), "SOURCE", Source, name)   # type: ignore[no-any-return]
    if name not in source_names():
        raise _unknown("source", name, source_names())
    module = importlib.import_module(f"{sources.__name__}.{name}")
    return module.__dict__["SOURCE"]  # type: ignore[no-any-return]


def _unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """What to say of a part that there is not."""
    listed = ", ".join(known)
    return InputError(
        f"{kind} {name!r} is none of {listed}{nearest(name, known)}; a file of your own ends in .py"
    )


def _modules(folder: ModuleType) -> dict[str, ModuleType]:
    """The modules of a folder of parts, by name."""
    return {name: importlib.import_module(f"{folder.__name__}.{name}") for name in _names(folder.__name__)}


@cache
def _names(package: str) -> tuple[str, ...]:
    paths = sys.modules[package].__path__
    return tuple(sorted(entry.name for entry in pkgutil.iter_modules(paths)))


def load_file(path: Path) -> ModuleType:
    """A Python file of the user's own as a module; the same content is the same module.

    Raises InputError for a file that is not there, and with the traceback for one that fails.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    name = f"ifrp_bench_own_{path.stem.replace('-', '_')}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module   # dataclasses and pickle look a class's module up by name
    try:
        spec.loader.exec_module(module)
    except Exception:   # the user's code may raise anything; they want to see where
        del sys.modules[name]
        raise InputError(f"{path}: the file fails:\n{traceback.format_exc()}") from None
    return module


def _declared(module: ModuleType, name: str, kind: type, path: str) -> Any:
    """A module's declaration of a kind."""
    found = module.__dict__.get(name)
    if not isinstance(found, kind):
        came = f"{name} is {type(found).__name__}" if found is not None else f"{name} is missing"
        raise InputError(f"{path}: the file ends with {name} = {kind.__name__}(...); {came}")
    return found
