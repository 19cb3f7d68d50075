"""A folder is searched as a plan asks for its faces: work in proportion to what is wanted, and the same plan
whatever was searched before.
"""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ifrp_bench.data.plan import Plan, make_plan
from ifrp_bench.data.recipe import Recipe, load_recipe
from ifrp_bench.ground.errors import InputError
from ifrp_bench.sources import Face, Searching, Skipped
from tests.conftest import hashes, run
from tests.data.test_plan import Names, crowd, people

COUNTS = {"train": 10, "val": 2, "test": 4}


class Sought(Names, Searching):
    """Names alone, which counts what it looked into, and for whom it was asked."""

    def __init__(self, listed: list[Face], bad: set[str] | None = None) -> None:
        super().__init__(listed, bad=bad or set())
        self.seen: set[str] = set()
        self.calls: list[int] = []
        self.asked: set[str] = set()

    def look_at(self, faces: Sequence[Face]) -> None:
        new = {face.name for face in faces} - self.seen
        self.seen |= new
        self.calls += [len(new)] if new else []

    def note(self, face: Face) -> str:
        return ""

    def broken(self, face: Face) -> str:
        self.look_at([face])
        self.asked.add(face.name)
        return super().broken(face)

    def skipped(self) -> list[Skipped]:
        return [Skipped(name, "broken picture") for name in sorted(self.asked & self.bad)]


def asked(**values: object) -> Recipe:
    counts = {f"{split}_faces": count for split, count in COUNTS.items()} | values
    return load_recipe("photos", tuple(f"{key}={value}" for key, value in counts.items()))


def planned(bad: set[str] | None = None, **values: object) -> tuple[Plan, Sought]:
    source = Sought(crowd(people=400, each=5).listed, bad)
    return make_plan(asked(**values), source), source


def test_only_what_is_used_is_looked_into_and_in_few_calls() -> None:
    plan, source = planned()
    used = {face.name for split in COUNTS for face in plan.faces(split)}
    assert {split: len(plan.faces(split)) for split in COUNTS} == COUNTS
    assert source.seen == used and len(source.calls) == 3   # a split each
    assert not people(plan, "train") & (people(plan, "val") | people(plan, "test"))
    assert not people(plan, "val") & people(plan, "test")


def test_who_cannot_be_used_gives_the_place_to_the_next() -> None:
    whole, _ = planned()
    tested, trained = whole.faces("test")[1], whole.faces("train")[3]
    lost = {face.name for face in crowd(400, 5).listed if face.identity == tested.identity} | {trained.name}
    plan, source = planned(lost)
    assert {split: len(plan.faces(split)) for split in COUNTS} == COUNTS
    assert tested.identity not in people(plan, "test") and trained not in plan.faces("train")
    assert [face for face in whole.faces("test") if face != tested] == [
        face for face in plan.faces("test") if face in whole.faces("test")
    ]
    assert set(plan.skipped) == {Skipped(name, "broken picture") for name in lost}
    assert len(source.seen) <= sum(COUNTS.values()) + len(lost) + 2


def test_the_plan_does_not_hang_on_what_was_searched_before() -> None:
    lost = {face.name for face in crowd(400, 5).listed if face.identity % 7 == 0}
    plan, _ = planned(lost)
    source = Sought(crowd(400, 5).listed, lost)
    source.look_at(source.listed)
    assert make_plan(asked(), source) == plan
    # and the resolved recipe, which a data set keeps, gives it again
    assert make_plan(plan.recipe, Sought(crowd(400, 5).listed, lost)) == plan


def test_auto_counts_are_of_names_and_take_what_there_is() -> None:
    plan, source = planned(test_faces="auto", val_faces="auto")
    assert len(plan.faces("test")) == 80 and len(plan.faces("val")) == 20
    assert len(source.seen) == 110
    # eight in ten have no face: nobody is left for the last split
    lost = {face.name for face in crowd(400, 5).listed if face.identity % 10 > 1}
    plan, _ = planned(lost, test_faces="auto", val_faces="auto", train_faces=0)
    assert (plan.recipe.test_faces, plan.recipe.val_faces) == (80, 0)
    with pytest.raises(InputError, match="test_faces=100, but the source holds 80 people"):
        planned(lost, test_faces=100)


def test_pictures_dealt_one_by_one_are_searched_as_needed_too() -> None:
    plan, source = planned(split="random-image")
    assert {split: len(plan.faces(split)) for split in COUNTS} == COUNTS
    assert len(source.seen) == sum(COUNTS.values())


def test_everyone_who_is_left_wants_the_whole_folder() -> None:
    assert load_recipe("photos").search == "whole" and "search" not in load_recipe("photos").as_dict()
    assert load_recipe("demo").search == "whole" and asked().as_dict()["search"] == "needed"
    with pytest.raises(InputError, match="wants the whole folder searched"):
        asked(train_faces="auto", search="needed")
    with pytest.raises(InputError, match="source procedural searches nothing"):
        load_recipe("demo", ("search=needed",))


def test_a_folder_or_list_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    missing = ("--faces", tmp_path / "none", "--set", "train_faces=2", "--out", tmp_path / "out")
    assert "no such folder" in run("synth", "photos", *missing, exit_code=1)
    with pytest.raises(InputError, match="official test partition, the source has 0;"):
        planned(test_faces="auto", test_list="celeba")


SETTINGS = ("--set", "train_faces=2", "--set", "val_faces=1", "--set", "test_faces=1")
SMALL = (*SETTINGS, "--set", "train_styles=candy", "--set", "test_styles=udnie", "--quiet")


def lines(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["file"] for row in csv.DictReader(file)]


def test_a_folder_is_searched_no_further_than_its_pairs_want(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    run("synth", "photos", "--faces", photographs, *SMALL, "--workers", 0, "--out", out)
    assert len(lines(out / "landmarks.csv")) == 4   # of twelve
    assert "search" in json.loads((out / "dataset.json").read_text())["recipe"]
    assert "good" in run("verify", out, "--sample", 4, "--quiet")

    # over processes, with everything known before, and resumed: the same bytes
    known = tmp_path / "known.csv"
    run("synth", "photos", "--faces", photographs, "--landmarks", known, "--dry-run", "--quiet")
    assert len(lines(known)) == 12
    other = tmp_path / "other"
    where = ("--faces", photographs, "--landmarks", known, "--out", other, "--workers", 2)
    run("synth", "photos", *where, *SMALL)
    assert hashes(other) == hashes(out)
    shutil.rmtree(other)
    shutil.copytree(out, other)
    (other / "train-00000.h5").unlink()
    run("synth", "photos", *where, *SMALL)
    assert hashes(other) == hashes(out)


def test_a_picture_under_two_names_is_taken_once(photographs: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(photographs, tmp_path / "root"))
    for person in root.iterdir():   # everyone's pictures are one
        for file in person.iterdir():
            shutil.copy(photographs / "Person_0" / "Person_0_0000.jpg", file)
    output = run("synth", "photos", "--faces", root, *SMALL, "--out", tmp_path / "out", exit_code=1)
    assert "the same picture as" in output


def test_a_data_set_begun_before_goes_on_as_it_was(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    old = ("--set", "search=whole")
    run("synth", "photos", "--faces", photographs, *SMALL, *old, "--workers", 0, "--out", out)
    assert "search" not in json.loads((out / "dataset.json").read_text())["recipe"]
    assert len(lines(out / "landmarks.csv")) == 12
    before = hashes(out)
    (out / "test-00000.h5").unlink()
    run("synth", "photos", "--faces", photographs, *SMALL, "--workers", 0, "--out", out)
    assert hashes(out) == before


def test_photographs_without_a_face_are_named(photographs: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(photographs, tmp_path / "root"))
    for person in ("Person_1", "Person_2"):
        for file in (root / person).iterdir():
            Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(file)
    output = run("synth", "photos", "--faces", root, *SMALL, "--out", tmp_path / "out", exit_code=1)
    assert "no face found" in output and "lower it with" in output
    fewer = (*SMALL, "--set", "val_faces=0", "--set", "train_faces=1")
    run("synth", "photos", "--faces", root, *fewer, "--out", tmp_path / "out", "--workers", 0)
    with (tmp_path / "out" / "skipped.csv").open(newline="") as file:
        left_out = list(csv.DictReader(file))
    assert all(row["reason"] == "no face found" for row in left_out)
