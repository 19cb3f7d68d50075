"""FS2K (Fan et al. 2022), photographs and drawings in three styles, as its authors publish it.

``photo/photo1`` to ``photo3`` with ``image0001.jpg`` and on, ``sketch/sketch1`` to ``sketch3`` with
``sketch0001.jpg``; ``anno_test.json`` lists what is tested. The folders may also stand without ``photo/`` and
``sketch/`` around them.
"""

import json
from pathlib import Path

from ifrp_bench.ground.errors import InputError

STYLES = (1, 2, 3)
TESTED = "anno_test.json"


def folders_of(root: Path) -> tuple[list[Path], list[Path]]:
    """The folders of drawings and of photographs, in turn. Raises InputError where one is missing."""
    drawings, photographs = (
        [_folder(root, kind, number) for number in STYLES] for kind in ("sketch", "photo")
    )
    return drawings, photographs


def _folder(root: Path, kind: str, number: int) -> Path:
    places = [root / kind / f"{kind}{number}", root / f"{kind}{number}"]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise InputError(
            f"{places[0]}: no such folder; --fs2k wants FS2K's, with photo/photo1 to photo3 and"
            " sketch/sketch1 to sketch3"
        )
    return found


def stem_of(stem: str) -> str:
    """What ``image0001`` and ``sketch0001`` have in common: ``0001``."""
    return stem.removeprefix("image").removeprefix("sketch")


def tested(root: Path) -> list[str] | None:
    """The names that pairs of the official test have in a data set, ``0-0001`` of the first style and on;
    None where the list is not at hand.

    Raises InputError for a list that is not as FS2K publishes it.
    """
    path = root / TESTED
    if not path.is_file():
        return None
    try:
        names = [str(entry["image_name"]) for entry in json.loads(path.read_text(encoding="utf-8-sig"))]
        places = [name.removesuffix(".jpg").split("/")[-2:] for name in names]
        return [
            f"{int(folder.removeprefix('photo')) - 1}-{stem_of(name)}" for folder, name in places
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not FS2K's list (expected image_name, photo1/image0001, of each): {str(error)[:80]}"
        ) from None
