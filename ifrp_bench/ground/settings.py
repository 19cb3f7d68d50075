"""Settings as ``--set KEY=VALUE`` gives them: read as TOML reads values, checked against the fields of a
dataclass, whose types say in which range a number may be.
"""

import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar, get_type_hints

from ifrp_bench.ground.errors import InputError

Settings = TypeVar("Settings")

LARGEST_SEED = 2**63 - 1   # what torch and numpy both take; a time stamp fits


@dataclass(frozen=True)
class Range:
    """Which values a number may have, in words and as a check."""

    words: str
    holds: Callable[[Any], bool]


Positive = Annotated[float, Range("a number above 0", lambda value: value > 0)]
NotNegative = Annotated[float, Range("a number of at least 0", lambda value: value >= 0)]
Share = Annotated[float, Range("a number from 0 to 1", lambda value: 0 <= value <= 1)]
Decay = Annotated[float, Range("a number from 0 to below 1", lambda value: 0 <= value < 1)]
Count = Annotated[int, Range("a whole number of at least 1", lambda value: value >= 1)]
Size = Annotated[int, Range("a whole number of at least 0", lambda value: value >= 0)]
Seed = Annotated[
    int, Range(f"a whole number from 0 to {LARGEST_SEED}", lambda value: 0 <= value <= LARGEST_SEED)
]


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """``key=value`` texts as a dictionary: ``40``, ``lab`` and ``["candy"]`` all work. Raises InputError
    where there is no ``=``.
    """
    values = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: expected key=value")
        values[key.strip()] = _parse(text.strip())
    return values


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def settings_of(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """A dataclass of the values, each of its field's type (a whole number is a float too), finite, and in the
    range that the type says.

    Raises InputError that begins with ``where``.
    """
    checked = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name not in values:
            continue
        value = values[name]
        wanted = getattr(hint, "__origin__", hint)
        ranges = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range)]
        words = ranges[0].words if ranges else _WORDS[wanted]

        # as TOML reads them: 2 is a float too, and 3 may be a word
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if wanted is str and not isinstance(value, (bool, dict, list)):
            value = str(value)

        # its kind, then its range
        fits = type(value) is wanted and not (wanted is float and not math.isfinite(value))
        if not fits or not all(one.holds(value) for one in ranges):
            raise InputError(f"{where}: {name} is {value!r}, expected {words}")
        checked[name] = value
    return kind(**checked)


_WORDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that is meant, or nothing."""
    close = get_close_matches(word, list(known), 1, 0.5)
    return f" (did you mean {close[0]}?)" if close else ""
