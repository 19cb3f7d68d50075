"""Rendered faces: people who stay themselves, eyes where CelebA has them, the same pixels every time."""

from pathlib import Path

import numpy as np
import pytest

from ifrp_bench.data.pairs import open_faces
from ifrp_bench.data.recipe import load_recipe
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.warp import TEMPLATE_PX
from ifrp_bench.nets.detector import find_faces
from ifrp_bench.sources.procedural.rendering import render
from ifrp_bench.sources.procedural.traits import draw_traits


def rendered(*settings: str):
    """The faces of the recipe ``demo``."""
    return open_faces(
        load_recipe("demo", settings), None, landmarks=Path("none"), workers=0, device="cpu", quiet=True
    )


def test_the_detector_finds_every_face_with_its_eyes_on_the_template(frames):
    off = []
    for frame in frames:
        found = find_faces(frame)
        assert len(found) == 1
        off.append(np.abs(found[0].landmarks_px - TEMPLATE_PX))
    # eyes, which are there by construction: the rest is the detector's
    assert np.mean(off, 0)[:2].max() < 2.5
    assert np.mean(off, 0)[2:].max() < 8   # nose and mouth corners, which are the person's own


def test_a_picture_is_a_function_of_who_and_which():
    assert np.array_equal(render([draw_traits(0, 3, 1)]), render([draw_traits(0, 3, 1)]))
    assert not np.array_equal(render([draw_traits(0, 3, 1)]), render([draw_traits(0, 3, 2)]))
    assert not np.array_equal(render([draw_traits(0, 3, 1)]), render([draw_traits(1, 3, 1)]))


def test_a_person_keeps_bones_and_hair_and_changes_the_moment():
    first, second = draw_traits(0, 3, 1), draw_traits(0, 3, 2)
    changed = {name for name in first if first[name] != second[name]}
    assert {"yaw", "smile", "light_x", "back_r"} <= changed
    assert not {"skin", "nose_width", "hair_style", "iris", "beard"} & changed


def test_a_batch_holds_the_pictures_it_would_hold_alone():
    people = [draw_traits(0, person, 0) for person in range(3)]
    together = render(people).astype(int)
    alone = np.concatenate([render([person]) for person in people])
    assert np.abs(together - alone).mean() < 0.05   # rays march on together while one of them is not there


def test_people_differ_in_skin_hair_age_and_shape():
    people = [draw_traits(0, person, 0) for person in range(200)]
    for trait in ("skin", "hair_colour", "age", "jaw_width", "face_length", "nose_width"):
        values = np.array([person[trait] for person in people])
        assert len(np.unique(values)) > 5 and values.std() > 0.02
    assert len({person["hair_style"] for person in people}) == 10
    assert 0.3 < np.mean([person["male"] for person in people]) < 0.7


def test_pose_stays_within_about_twelve_degrees():
    yaw = np.rad2deg([draw_traits(0, 0, picture)["yaw"] for picture in range(300)])
    assert 3 < yaw.std() and np.abs(yaw).max() < 12


def test_a_source_holds_as_many_people_as_the_recipe_needs():
    source = rendered()
    assert source.identities == 240 // 3 + 20 + 40
    assert len(source.faces()) == source.identities * 3
    with pytest.raises(InputError, match="not 'auto'"):
        rendered("train_faces=auto")
