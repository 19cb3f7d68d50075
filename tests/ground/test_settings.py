"""Settings of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, get_origin, get_type_hints

import pytest

from ifrp_bench import parts
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.settings import Count, Decay, Positive, Seed, Share, parse_settings, settings_of
from ifrp_bench.training.resolve import Loop


@dataclass(frozen=True)
class Wanted:
    steps: int = 1
    rate: float = 1.0
    mirror: bool = False
    name: str = "x"
    learning_rate: Positive = 1.0
    beta1: Decay = 0.5
    share: Share = 0.5
    validations: Count = 1
    seed: Seed = 0


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


@pytest.mark.parametrize(
    "key, bad, good",
    [
        ("learning_rate", (0, -1, float("nan"), float("inf")), 1e-3),
        ("beta1", (-0.1, 1, 2, float("nan")), 0.0),
        ("share", (-0.1, 1.1), 1.0),
        ("validations", (0, -1), 1),
        ("seed", (-1, 2**63), 20251125123000),
        ("rate", (float("nan"), float("-inf")), -1.0),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_the_range(key, bad, good):
    for value in bad:
        with pytest.raises(InputError, match=f"here: {key} is {value:.1f}|here: {key} is {value}"):
            settings_of(Wanted, {key: value}, "here")
    assert getattr(settings_of(Wanted, {key: good}, "here"), key) == good


def test_every_number_that_can_be_set_has_a_range():
    for kind in (Loop, *(part.declared.config for part in parts.trainables().values())):
        for name, hint in get_type_hints(kind, include_extras=True).items():
            assert hint in (str, bool) or get_origin(hint) is Annotated, f"{kind.__module__}: {name}"
