"""Who goes where: people are kept apart, counts are exact, and nothing
depends on anything but the recipe and the faces.
"""

from dataclasses import dataclass, field

import pytest

from ifrp_bench.data.plan import make_plan
from ifrp_bench.data.recipe import recipe_from
from ifrp_bench.ground.errors import InputError
from ifrp_bench.sources import Face, Skipped


@dataclass
class Names:
    """A source of names alone: planning reads no pixels."""

    listed: list[Face]
    official: bool = False
    bad: set[str] = field(default_factory=set)

    def faces(self):
        return self.listed

    def skipped(self):
        return [Skipped("before.jpg", "no face found")]

    def broken(self, face):
        return "broken picture" if face.name in self.bad else ""

    def digest(self, face):
        return "same"


def crowd(people=40, each=5, **options):
    return Names(
        [Face(f"{person:02d}-{picture}", person) for person in range(people) for picture in range(each)],
        **options,
    )


def recipe(**values):
    return recipe_from(
        {"name": "test", "source": "folder", "train_faces": "auto", "val_faces": "auto", "test_faces": "auto"}
        | values,
        where="test",
    )


def people(plan, split):
    return {face.identity for face in plan.faces(split)}


def test_nobody_is_in_two_splits_and_galleries_hold_a_face_each():
    plan = make_plan(recipe(), crowd())
    assert not (
        people(plan, "train") & people(plan, "test")
        or people(plan, "train") & people(plan, "val")
        or people(plan, "val") & people(plan, "test")
    )
    for split in ("val", "test"):
        assert len(people(plan, split)) == len(plan.faces(split))


def test_auto_takes_a_fifth_a_twentieth_and_the_rest():
    plan = make_plan(recipe(), crowd(people=40, each=5))
    assert [len(plan.faces(split)) for split in ("test", "val", "train")] == [8, 2, 30 * 5]
    assert (plan.recipe.train_faces, plan.recipe.val_faces, plan.recipe.test_faces) == (150, 2, 8)
    assert plan.pairs("train") == 450 and plan.pairs("test") == 64 and plan.pairs("val") == 6


def test_people_with_many_pictures_are_not_tested_more_often():
    listed = [
        Face(f"{person}-{picture}", person)
        for person in range(400)
        for picture in range(19 if person < 200 else 1)
    ]
    tested = people(make_plan(recipe(train_faces=100), Names(listed)), "test")
    assert len(tested) == 80 and 25 <= sum(person < 200 for person in tested) <= 55


def test_auto_tests_at_most_a_thousand():
    assert len(make_plan(recipe(), crowd(people=6000, each=1)).faces("test")) == 1000


@pytest.mark.parametrize(
    "wanted, message",
    [({"train_faces": 151}, "train_faces=150"), ({"test_faces": 41, "val_faces": 0}, "test_faces=40")],
)
def test_a_count_above_what_there_is_says_what_there_is(wanted, message):
    with pytest.raises(InputError, match=message):
        make_plan(recipe(**wanted), crowd())


def test_an_official_partition_is_kept():
    listed = [
        Face(f"{number:03d}.jpg", number // 2, ("train", "val", "test")[number % 6 // 2])
        for number in range(60)
    ]
    official = {face.name: face.partition for face in listed}
    plan = make_plan(recipe(train_faces=15, val_faces=5, test_faces=8), Names(listed, official=True))
    for split in ("train", "val", "test"):
        assert plan.faces(split) and all(official[face.name] == split for face in plan.faces(split))


def test_random_image_shares_people_but_no_picture():
    plan = make_plan(recipe(split="random-image", train_faces=100, val_faces=20, test_faces=50), crowd())
    names = [face.name for split in ("train", "val", "test") for face in plan.faces(split)]
    assert len(set(names)) == len(names) == 170
    assert people(plan, "train") & people(plan, "test")
    with pytest.raises(InputError, match="the source holds 200"):
        make_plan(recipe(split="random-image", train_faces=190, val_faces=20, test_faces=50), crowd())


def test_a_broken_face_gives_its_place_to_the_next_and_is_named():
    whole = make_plan(recipe(train_faces=100), crowd())
    lost = whole.faces("train")[3].name
    plan = make_plan(recipe(train_faces=100), crowd(bad={lost}))
    assert len(plan.faces("train")) == 100 and lost not in {face.name for face in plan.faces("train")}
    assert (
        Skipped(lost, "broken picture") in plan.skipped
        and Skipped("before.jpg", "no face found") in plan.skipped
    )


def test_all_pictures_of_a_face_stand_in_one_shard_and_shards_are_small():
    plan = make_plan(recipe(shard_pairs=30), crowd())
    seen = [face.name for shard in plan.shards for face in shard.faces]
    assert len(seen) == len(set(seen)) and all(shard.pairs <= 30 for shard in plan.shards)


def test_misalignment_is_drawn_per_style_in_training_and_shared_in_the_test():
    plan = make_plan(recipe(), crowd())
    train, test = ([shard for shard in plan.shards if shard.split == split][0] for split in ("train", "test"))
    assert len({train.misalignment(plan.recipe, train.faces[0], style) for style in train.styles}) == 3
    assert len({test.misalignment(plan.recipe, test.faces[0], style) for style in test.styles}) == 1


def test_the_same_recipe_gives_the_same_plan_and_another_seed_another():
    first, again, other = (make_plan(recipe(seed=seed), crowd()) for seed in (0, 0, 1))
    assert first == again and first.faces_sha256(crowd()) == again.faces_sha256(crowd())
    assert first.faces("test") != other.faces("test")
