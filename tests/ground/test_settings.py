"""Settings of the command line."""

from dataclasses import dataclass

import pytest

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.settings import parse_settings, settings_of


@dataclass(frozen=True)
class Wanted:
    steps: int = 1
    rate: float = 1.0
    mirror: bool = False
    name: str = "x"


def test_values_are_read_as_toml_reads_them():
    assert parse_settings(["steps=40", "rate = 1e-3", "mirror=true", "name=lab", "names=[\"a\"]"]) == {
        "steps": 40, "rate": 1e-3, "mirror": True, "name": "lab", "names": ["a"]}


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(InputError, match="expected key=value"):
        parse_settings(["steps"])


def test_a_whole_number_is_a_number_and_a_number_a_word():
    assert settings_of(Wanted, {"rate": 2, "name": 3}, "here") == Wanted(rate=2.0, name="3")


@pytest.mark.parametrize(
    "key, value, word",
    [
        ("steps", 1.5, "a whole number"),
        ("steps", True, "a whole number"),
        ("rate", "fast", "a number"),
        ("mirror", 1, "true or false"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_place(key, value, word):
    with pytest.raises(InputError, match=f"here: {key} is .*expected {word}"):
        settings_of(Wanted, {key: value}, "here")
