"""Frozen lists: the same faces for everybody, and nobody of them trained on."""

import shutil

import pytest

from ifrp_bench.data import lists
from ifrp_bench.data.format import Dataset, open_dataset, write_manifest
from ifrp_bench.data.lists import frozen_of, list_names, listed_eyes, listed_faces, open_list
from ifrp_bench.data.pairs import open_faces
from ifrp_bench.data.plan import make_plan
from ifrp_bench.data.recipe import load_recipe
from ifrp_bench.data.styles import pick_styles
from ifrp_bench.ground.errors import InputError
from ifrp_bench.sources import EYES, Face
from tests.conftest import TINY_COUNTS, run
from tests.data.test_plan import Names, crowd, people, recipe


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    """A folder of lists of the test's own."""
    place = tmp_path / "lists"
    place.mkdir()
    monkeypatch.setattr(lists, "_folder", lambda: place)
    open_list.cache_clear()
    yield place
    open_list.cache_clear()


def write_list(folder, name: str, faces: dict[str, str], **values: object) -> None:
    facts = {"title": "a crowd", "version": 1, "kind": "files", "people": len(faces)} | values
    (folder / f"{name}.toml").write_text("".join(f"{key} = {value!r}\n" for key, value in facts.items()))
    rows = "".join(f"{face},{sha256}\n" for face, sha256 in faces.items())
    (folder / f"{name}.csv").write_text("face,sha256\n" + rows)


def test_the_listed_faces_are_tested_and_their_people_nowhere_else(folder):
    write_list(folder, "crowd", {"31-2": "same", "07-0": "same", "12-4": "same"})
    for seed in (0, 1):
        plan = make_plan(recipe(test_list="crowd", seed=seed), crowd())
        assert [face.name for face in plan.faces("test")] == ["31-2", "07-0", "12-4"]
        assert not people(plan, "test") & (people(plan, "train") | people(plan, "val"))
        assert len(people(plan, "train")) == 40 - 3 - len(people(plan, "val"))


def test_the_listed_faces_are_tested_where_others_are_searched_as_needed(folder):
    write_list(folder, "crowd", {"31-2": "same", "07-0": "same"})
    counts = {"search": "needed", "train_faces": 9, "val_faces": 4}
    plan = make_plan(recipe(test_list="crowd", **counts), crowd())
    assert [face.name for face in plan.faces("test")] == ["31-2", "07-0"]
    assert (len(plan.faces("train")), len(plan.faces("val"))) == (9, 4)
    assert not people(plan, "test") & (people(plan, "train") | people(plan, "val"))


def test_a_listed_photograph_is_aligned_by_the_eyes_in_the_list(folder, photographs, tmp_path):
    """Whatever a detector finds and a cache holds: everybody tests on the same pixels."""
    cache = tmp_path / "landmarks.csv"
    options = {"landmarks": cache, "workers": 0, "device": "cpu", "quiet": True}
    found = open_faces(recipe(source="folder"), photographs, **options)
    face, other = found.faces()[:2]
    sha256, _, eyes = found.digest(face).partition(":")
    moved = [float(value) + 1.5 for value in eyes.split(",")]
    (folder / "crowd.toml").write_text('title = "a crowd"\nversion = 1\nkind = "files"\npeople = 1\n')
    columns = ("face", "sha256", *EYES)
    (folder / "crowd.csv").write_text(
        f"{','.join(columns)}\n{face.name},{sha256},{','.join(map(str, moved))}\n"
    )
    before = cache.read_bytes()
    listed = open_faces(recipe(source="folder", test_list="crowd"), photographs, **options)
    assert listed.digest(face) == f"{sha256}:{','.join(map(str, moved))}"
    assert listed.digest(other) == found.digest(other)
    assert (listed.read(face) != found.read(face)).any()
    assert cache.read_bytes() == before   # the cache keeps what was found


def test_faces_that_are_missing_or_others_are_named(folder):
    write_list(folder, "crowd", {"07-0": "same", "99-0": "same"})
    with pytest.raises(InputError, match=r"1 of its 2 photographs are not in the folder.*\(99-0\).*a crowd"):
        make_plan(recipe(test_list="crowd"), crowd())
    write_list(folder, "other", {"07-0": "changed"})
    with pytest.raises(InputError, match=r"another content here \(07-0\)"):
        make_plan(recipe(test_list="other"), crowd())
    with pytest.raises(InputError, match="test_list 'crowds' is none of crowd, other .did you mean crowd"):
        recipe(test_list="crowds")
    with pytest.raises(InputError, match="test_faces is 5, the list crowd has 2"):
        recipe(test_list="crowd", test_faces=5)
    with pytest.raises(InputError, match="wants split = 'identity'"):
        recipe(test_list="crowd", split="random-image")


def partitioned(**options) -> Names:
    """Thirty people, ten a partition."""
    names = ("train", "val", "test")
    faces = [Face(f"{p:02d}-{k}", p, partition=names[p % 3]) for p in range(30) for k in range(3)]
    return Names(faces, official=True, **options)


def test_a_rule_picks_the_same_faces_whatever_else_is_asked(folder):
    write_list(folder, "official", {}, kind="rule", people=6)
    values = {"source": "celeba", "test_list": "official"}
    first = make_plan(recipe(**values), partitioned()).faces("test")
    assert len(first) == 6 and all(face.identity % 3 == 2 and face.name.endswith("-0") for face in first)
    again = make_plan(recipe(**values, seed=9, train_faces=3), partitioned()).faces("test")
    assert [face.name for face in again] == [face.name for face in first]
    # a picture that cannot be read gives its place to the person's next one
    bad = first[2].name
    mended = make_plan(recipe(**values), partitioned(bad={bad})).faces("test")
    assert [face.identity for face in mended] == [face.identity for face in first]
    assert mended[2].name == bad.replace("-0", "-1")
    with pytest.raises(InputError, match="6 people of the official test partition, the source has 0"):
        make_plan(recipe(**values), crowd())


def test_a_frozen_test_set_is_known_by_what_it_asks(folder, tiny, tmp_path):
    data = open_dataset(tiny)
    assert frozen_of(data) is None
    here = {path.name: data.info["shards"][path.name]["sha256"] for path in data.shards("test")}
    assert TINY_COUNTS["test"] == data.pairs("test")
    write_list(folder, "mine", {}, kind="recipe", people=3, split_sha256=data.split_sha256("test"))
    assert "its test split is the frozen list mine, version 1" in run("verify", tiny, "--quiet")
    # with hashes of this kind of machine, and of none
    kind = data.info["rendered_with"]
    with (folder / "mine.toml").open("a") as file:
        file.write(f'[shards."{kind}"]\n' + "".join(f'"{name}" = "{sha}"\n' for name, sha in here.items()))
    open_list.cache_clear()
    assert "version 1, byte for byte" in run("verify", tiny, "--quiet")
    (folder / "mine.toml").write_text((folder / "mine.toml").read_text().replace(kind, "another kind"))
    open_list.cache_clear()
    assert "no hashes are recorded for this kind of machine" in run("verify", tiny, "--quiet")
    # a manifest that says otherwise is another test set
    copy = shutil.copytree(tiny, tmp_path / "copy")
    (copy / "manifest.csv").write_text((copy / "manifest.csv").read_text().replace("candy", "udnie"))
    assert frozen_of(open_dataset(copy)) is None


def test_the_lists_that_come_along_are_whole():
    assert list_names() == ["celeba", "lfw", "procedural-bench"]
    faces = listed_faces("lfw")
    assert len(faces) == open_list("lfw").people == 848
    assert len({face.split("/")[0] for face in faces}) == 848
    assert all(len(sha) == 64 for sha in faces.values())
    eyes = listed_eyes("lfw")
    assert set(eyes) == set(faces.values()) and listed_eyes("celeba") == {}
    assert all(left < right for left, _, right, _ in eyes.values())
    for name in ("lfw-bench", "celeba-bench"):
        assert load_recipe(name).test_list in list_names()


def test_the_rendered_test_set_is_the_one_that_its_list_names(tmp_path):
    """Its plan, made anew; rendering it takes minutes."""
    asked = load_recipe("procedural-bench")
    source = open_faces(asked, None, landmarks=tmp_path / "none", workers=0, device="cpu", quiet=True)
    plan = make_plan(asked, source)
    write_manifest(tmp_path, plan.rows())
    styles = {style.name: style.sha256 for style in pick_styles(asked.styles, None)}
    data = Dataset(tmp_path, {"recipe": plan.recipe.as_dict(), "styles": styles})
    assert frozen_of(data) == open_list("procedural-bench") and plan.pairs("test") == 8000
