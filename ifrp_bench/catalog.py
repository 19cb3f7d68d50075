"""What there is, by name: the catalogue behind ``ifrp-bench list`` and the tests that every part must pass."""

import importlib
import importlib.util
import pkgutil
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from ifrp_bench import methods
from ifrp_bench.errors import InputError
from ifrp_bench.recipe import SOURCES, load_recipe, recipe_names
from ifrp_bench.settings import nearest
from ifrp_bench.stylize import find_styles

INTERFACE = ("Config", "build", "PAIRED", "TRAINABLE")   # what a method's module must have


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """Recipes, sources, styles and methods with the facts that a user chooses by."""
    return {
        "recipes": [
            {"name": name, "source": recipe.source, "train_faces": recipe.train_faces, "test_faces": recipe.test_faces, "description": recipe.description}
            for name in recipe_names() for recipe in [load_recipe(name)]
        ],
        "sources": [{"name": name} for name in SOURCES],
        "styles": [
            {
                "name": style.name, "role": "seen" if style.seen else "unseen", "trained": style.trained, "title": style.card.get("title", ""),
                "artist": style.card.get("artist", ""), "year": style.card.get("year", ""),
                "gram_fall_percent": style.card.get("losses", {}).get("gram_fall_percent"), "auc": style.card.get("measured", {}).get("auc"),
            }
            for style in find_styles().values()
        ],
        "methods": [
            {
                "name": name, "module": module, "trainable": _module(module).TRAINABLE, "settings": settings,
                "presets": list(getattr(_module(module), "PRESETS", {})), "description": _title(module),
            } for name, (module, settings) in method_names().items()
        ],
    }


def method_names() -> dict[str, tuple[str, dict[str, Any]]]:
    """Every method that comes with the package and every ablation of one: name to module and settings."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for entry in sorted(pkgutil.iter_modules(methods.__path__), key=lambda entry: entry.name):
        found[entry.name.replace("_", "-")] = entry.name, {}
        found |= {name: (entry.name, settings) for name, settings in getattr(_module(entry.name), "VARIANTS", {}).items()}
    return found


def difficulty_rows() -> list[str]:
    """Methods that say how hard a data set is: neither trained nor optimised."""
    return [name for name, (module, _) in method_names().items() if not _module(module).TRAINABLE and not getattr(_module(module), "OPTIMISED", False)]


def load_method(name: str) -> tuple[ModuleType, dict[str, Any]]:
    """A method's module and the settings that its name stands for; a name that ends in ``.py`` is a file of the user's own.

    Raises InputError for an unknown name, and for a file that fails or lacks a part of the interface.
    """
    if name.endswith(".py"):
        return _from_file(Path(name)), {}
    names = method_names()
    if name not in names:
        raise InputError(f"method {name!r} is none of {', '.join(names)}{nearest(name, names)}; a file of your own ends in .py")
    module, settings = names[name]
    return _module(module), settings


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"ifrp_bench.methods.{name}")


def _title(name: str) -> str:
    return (_module(name).__doc__ or "").strip().split("\n")[0].rstrip(".")


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem.replace("-", "_"), path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception:   # the user's code may raise anything; they want to see where
        raise InputError(f"{path}: the method's file fails:\n{traceback.format_exc()}") from None
    missing = [part for part in INTERFACE if not hasattr(module, part)]
    if missing:
        raise InputError(f"{path}: a method's module has {', '.join(INTERFACE)}; {missing[0]} is missing")
    return module
