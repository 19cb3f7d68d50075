"""Settings as ``--set KEY=VALUE`` gives them: read as TOML reads
values, checked against the fields of a dataclass.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

from ifrp_bench.ground.errors import InputError

Settings = TypeVar("Settings")


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
    """A dataclass of the values, each of its field's type (a whole number is a float too).

    Raises InputError that begins with ``where``.
    """
    checked = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in values:
            value = values[field.name]
            wanted = (
                field.type
                if isinstance(field.type, type)
                else {"int": int, "float": float, "bool": bool}.get(str(field.type), str)
            )
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if wanted is str and not isinstance(value, (bool, dict, list)):
                value = str(value)
            if type(value) is not wanted:
                raise InputError(f"{where}: {field.name} is {value!r}, expected {_WORDS[wanted]}")
            checked[field.name] = value
    return kind(**checked)


_WORDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that is meant, or nothing."""
    close = get_close_matches(word, list(known), 1, 0.5)
    return f" (did you mean {close[0]}?)" if close else ""
