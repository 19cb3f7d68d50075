"""Recipes are checked key by key, and a mistake names what would have been right."""

import pytest

from ifrp_bench.data.recipe import load_recipe, recipe_from, recipe_names
from ifrp_bench.data.styles import NAMES, SEEN
from ifrp_bench.ground.errors import InputError


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_says_what_it_is(name):
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.description


def test_paper_recipes_have_the_papers_numbers():
    for name in ("celeba-paper", "celeba-lab", "celeba-random", "procedural-paper"):
        recipe = load_recipe(name)
        assert (recipe.train_faces, recipe.test_faces) == (10_000, 1_000)
        assert recipe.train_styles == SEEN and recipe.test_styles == NAMES
        assert recipe.misalignment == "lab" and recipe.stylize_px == 256
    assert load_recipe("celeba-lab").exclude_attributes == ("Blurry", "Eyeglasses", "Wearing_Hat")
    assert load_recipe("celeba-random").split == "random-image"


def test_settings_lie_over_the_recipe():
    recipe = load_recipe(
        "demo",
        (
            "train_faces=7",
            "misalignment=mild",
            'test_styles=["candy"]',
            "train_styles=candy,udnie",
            "val_faces=0",
        ),
        seed=5,
    )
    assert (recipe.train_faces, recipe.misalignment, recipe.seed) == (7, "mild", 5)
    assert recipe.test_styles == ("candy",) and recipe.train_styles == ("candy", "udnie")


@pytest.mark.parametrize(
    "settings, message",
    [
        (("train_face=7",), "did you mean train_faces"),
        (("misalignment=labb",), "did you mean lab"),
        (("train_faces=-1",), "count of faces"),
        (("train_faces=many",), "count of faces"),
        (("train_faces=true",), "count of faces"),
        (("stylize_px=130",), "multiple of 4"),
        (("stylize_px=64",), "at least 128"),
        (("nonsense",), "key=value"),
        (("border=wrap",), "reflect, zero"),
        (("exclude_attributes=Blurry",), "celeba"),
        (("train_styles=",), "empty"),
    ],
)
def test_a_wrong_setting_is_explained(settings, message):
    with pytest.raises(InputError, match=message):
        load_recipe("demo", settings)


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(InputError, match="did you mean celeba-paper"):
        load_recipe("celeba_paper")


def test_a_recipe_of_ones_own_is_a_toml_file(tmp_path):
    (tmp_path / "mine.toml").write_text('source = "procedural"\ntrain_faces = 3\n')
    assert load_recipe(str(tmp_path / "mine.toml")).name == "mine"
    (tmp_path / "broken.toml").write_text("source = \n")
    with pytest.raises(InputError, match="not a recipe"):
        load_recipe(str(tmp_path / "broken.toml"))


def test_a_recipe_goes_through_json_and_back():
    recipe = load_recipe("celeba-lab", ("test_styles=candy",))
    assert recipe_from(recipe.as_dict(), where="here") == recipe


@pytest.mark.parametrize(
    "setting, word",
    [
        ('misalignment=["lab","mild"]', "expected one of none, mild"),
        ("train_styles=5", "expected words"),
        ("name=5", "expected a word"),
        ('test_styles=[["candy"]]', "expected words"),
        ("train_styles=candy,candy", "has candy more than once"),
    ],
)
def test_a_value_of_another_kind_is_one_line(setting, word):
    with pytest.raises(InputError, match=word):
        load_recipe("demo", (setting,))
