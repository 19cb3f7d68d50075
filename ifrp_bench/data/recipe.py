"""Recipes: what a data set is made of, as a TOML file in
``manifests/`` or of the user's own, checked key by key.
"""

import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ifrp_bench import parts
from ifrp_bench.data.lists import open_list
from ifrp_bench.data.styles import NAMES, PRECISIONS, SEEN
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import package_folder
from ifrp_bench.ground.settings import nearest, parse_settings
from ifrp_bench.ground.warp import BORDERS, FACE_PX, TIERS

SPLITS = ("identity", "random-image")
SEARCHES = ("whole", "needed")
AUTO = "auto"


@dataclass(frozen=True)
class Recipe:
    """A data set, resolved: together with the faces and the style networks it determines every byte of the
    shards.

    Counts are faces; a count may be ``auto``. Marks as in the specification: [P] the paper, [C] the lab's
    released code, [I] inferred.
    """

    name: str
    source: str
    train_faces: int | str = 10_000   # [P]
    val_faces: int | str = 500   # [I] the paper has no validation split
    test_faces: int | str = 1_000   # [P]
    train_styles: tuple[str, ...] = SEEN   # [P]
    test_styles: tuple[str, ...] = NAMES   # [P]
    misalignment: str = "lab"   # [C] ranges of the lab's scripts
    border: str = "reflect"   # [I] the lab's had black corners: `zero`
    stylize_px: int = 256   # [I]
    # of the style networks' convolutions; bfloat16 is twice as fast on a CPU that has it, auto takes it there
    precision: str = "float32"
    split: str = "identity"   # [I] no person is in two splits; `random-image` is what the paper's words allow
    exclude_attributes: tuple[str, ...] = ()   # CelebA's, a face that has any of them is left out
    faces_per_identity: int = 5   # of the procedural source
    # about 25 MB a shard: a quarter of a minute of work to lose, enough pieces for many workers
    shard_pairs: int = 500
    seed: int = 0
    description: str = ""
    test_list: str = ""   # a frozen list: these faces are tested, nobody of them is trained or validated on
    # of a folder of photographs: `whole`, every one is searched for its face and then the splits are dealt;
    # `needed`, they are dealt by name and searched as their turn comes. Unless it is said, `needed` where the
    # training faces are a number
    search: str = SEARCHES[0]

    def styles_of(self, split: str) -> tuple[str, ...]:
        """The styles of a split; validation sees the seen ones only,
        so that no choice is made on unseen styles.
        """
        return self.test_styles if split == "test" else self.train_styles

    @property
    def styles(self) -> tuple[str, ...]:
        """Every style of any split, once."""
        return tuple(dict.fromkeys(self.train_styles + self.test_styles))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``dataset.json``; tuples become lists.

        A key that came later is left out where it is at its default, so that data sets begun before resume.
        """
        late = {"test_list": "", "search": SEARCHES[0]}
        values = {key: value for key, value in asdict(self).items() if value != late.get(key)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in package_folder("manifests").glob("*.toml"))


def load_recipe(name: str, settings: tuple[str, ...] = (), seed: int | None = None) -> Recipe:
    """A recipe by name or by the path of a TOML file, with ``key=value`` settings laid over it.

    Raises InputError for an unknown recipe, key or value; it names the nearest that exists.
    """
    path = Path(name) if name.endswith(".toml") else package_folder("manifests") / f"{name}.toml"
    if not path.is_file():
        raise InputError(
            f"recipe {name!r} is none of {', '.join(recipe_names())}{nearest(name, recipe_names())}; a file"
            " of your own ends in .toml"
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a recipe: {error}") from None
    values.setdefault("name", path.stem)
    values |= parse_settings(settings)
    if seed is not None:
        values["seed"] = seed
    source = values.get("source")
    if source in parts.source_names() and parts.source(source).searched and isinstance(
        values.get("train_faces", Recipe.train_faces), int
    ):
        values.setdefault("search", SEARCHES[1])
    return recipe_from(values, where=str(path) if name.endswith(".toml") else f"recipe {name}")


def recipe_from(values: dict[str, Any], *, where: str) -> Recipe:
    """A checked Recipe of plain values; ``where`` begins every complaint."""
    known = {field.name: field for field in fields(Recipe)}
    for key in values:
        if key not in known:
            raise InputError(
                f"{where}: unknown key {key!r}{nearest(key, known)}; the keys are {', '.join(known)}"
            )
    for key in ("train_styles", "test_styles", "exclude_attributes"):
        if key in values:
            values = values | {key: _listed(values[key], f"{where}: {key}")}
    if "source" not in values:
        known_sources = ", ".join(parts.source_names())
        raise InputError(
            f"{where}: the key 'source' is missing; it is one of {known_sources}, or a file that ends in .py"
        )
    recipe = Recipe(**values)
    _check(recipe, where)
    return recipe


def _listed(value: Any, where: str) -> tuple[str, ...]:
    """Words of a list, or of a text with commas. Raises InputError for others, and for a word twice."""
    words = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise InputError(f"{where} is {value!r}, expected words: a,b or [\"a\", \"b\"]")
    twice = sorted({word for word in words if words.count(word) > 1 and word})
    if twice:
        raise InputError(f"{where} has {', '.join(twice)} more than once")
    return tuple(word for word in words if word)


def _check(recipe: Recipe, where: str) -> None:
    for key in ("name", "source", "description", "test_list"):
        if not isinstance(getattr(recipe, key), str):
            raise InputError(f"{where}: {key} is {getattr(recipe, key)!r}, expected a word")
    words = {
        "source": parts.source_names(),
        "split": SPLITS,
        "misalignment": tuple(TIERS),
        "border": BORDERS,
        "precision": PRECISIONS,
        "search": SEARCHES,
    }
    for key, allowed in words.items():
        value = getattr(recipe, key)
        own = key == "source" and str(value).endswith(".py")
        if value not in allowed and not own:
            hint = nearest(str(value), allowed)
            raise InputError(f"{where}: {key} is {value!r}, expected one of {', '.join(allowed)}{hint}")
    source = parts.source(recipe.source)
    for key in ("train_faces", "val_faces", "test_faces"):
        value = getattr(recipe, key)
        if value != AUTO and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise InputError(f"{where}: {key} is {value!r}, expected a count of faces or {AUTO!r}")
    for key, least in (("stylize_px", FACE_PX), ("faces_per_identity", 1), ("shard_pairs", 1), ("seed", 0)):
        value = getattr(recipe, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{where}: {key} is {value!r}, expected a whole number of at least {least}")
    if recipe.stylize_px % 4 or recipe.stylize_px > 1024:
        raise InputError(f"{where}: stylize_px is {recipe.stylize_px}, expected a multiple of 4 up to 1024")
    if recipe.exclude_attributes and not source.attributes:
        having = ", ".join(name for name in parts.source_names() if parts.source(name).attributes)
        raise InputError(f"{where}: exclude_attributes needs the source {having}, which has attributes")
    if recipe.search != SEARCHES[0] and not source.searched:
        raise InputError(f"{where}: search is {recipe.search!r}, and source {recipe.source} searches nothing")
    if recipe.search != SEARCHES[0] and recipe.train_faces == AUTO:
        raise InputError(
            f"{where}: search is {recipe.search!r}, and train_faces {AUTO!r} is everyone who is left, which"
            " wants the whole folder searched; give a number"
        )
    if recipe.test_list:
        _check_list(recipe, where)
    for key in ("train_styles", "test_styles"):
        if not getattr(recipe, key):
            raise InputError(f"{where}: {key} is empty")


def _check_list(recipe: Recipe, where: str) -> None:
    people = open_list(recipe.test_list).people
    if recipe.split != SPLITS[0]:
        raise InputError(f"{where}: test_list {recipe.test_list} wants split = {SPLITS[0]!r}")
    if recipe.test_faces not in (AUTO, people):
        raise InputError(
            f"{where}: test_faces is {recipe.test_faces}, the list {recipe.test_list} has {people}; leave it"
            f" {AUTO!r}"
        )


def with_counts(recipe: Recipe, train: int, val: int, test: int) -> Recipe:
    """The recipe with every ``auto`` count replaced."""
    return replace(recipe, train_faces=train, val_faces=val, test_faces=test)
