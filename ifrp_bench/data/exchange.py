"""What comes from other systems and goes to them: pairs of photographs and drawings as a test-only data set,
SFs as pictures, and faces that another system recovered from them, as shards.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from ifrp_bench.data.format import (
    Dataset, Shard, make_info, open_dataset, shard_names, write_info, write_manifest, write_recovered,
    write_shard, write_skipped,
)
from ifrp_bench.data.plan import Plan, PlannedShard
from ifrp_bench.data.recipe import Recipe, recipe_from
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import locked
from ifrp_bench.ground.images import (
    SUFFIXES, PictureError, decode_picture, read_bytes, read_picture, tile, write_png,
)
from ifrp_bench.ground.warp import FACE_PX, align_by_eyes, face_window, warp_matrix
from ifrp_bench.sources import Face, Skipped
from ifrp_bench.sources.folder import Found, open_folder


File = TypeVar("File")
StemOf = Callable[[str], str]   # what two files of a pair have in common, of a path without its suffix

UNLISTED = "not in the list of pairs to test"
SOURCE = "pairs"   # what stands for a source in such a data set's recipe
PREVIEWED = 6   # pairs


@dataclass(frozen=True)
class _Pair:
    """A face's photograph and drawing, and what was found in each."""

    face: Face
    real_root: Path
    real: Found
    stylized_root: Path
    stylized: Found


def import_pairs(
    stylized: Sequence[Path],
    real: Sequence[Path],
    out: Path,
    *,
    style: str = "sketch",
    misalignment: str = "lab",
    seed: int = 0,
    stem_of: StemOf = str,
    listed: Sequence[str] | None = None,
    workers: int = 0,
    quiet: bool = False,
) -> Dataset:
    """A test-only data set in ``out`` of photographs in the folders ``real`` and drawings of the same people
    in ``stylized``, folder by folder.

    A pair has one file name (its suffix may differ) and is one identity; ``stem_of`` says what names have in
    common where they differ, and with ``listed`` only pairs of these names are taken. Both are brought into
    CelebA's frame by their own eyes, a drawing in which no face is found by the photograph's if both are of
    one size; the drawing is then misaligned as ``misalignment`` says, once. What has no partner or no face
    is named in ``skipped.csv``. Raises InputError for folders that do not go together, where no pair is left,
    and where ``out`` holds a data set of another origin.
    """
    if len(stylized) != len(real) or not real:
        raise InputError(
            f"{len(stylized)} folders of drawings and {len(real)} of photographs: give --stylized and --real"
            " in turn, as many of each"
        )
    if not style.isidentifier():
        raise InputError(f"style {style!r}: expected a word of letters, digits and underscores")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _refuse_other_data(out)
        pairs, skipped = _find_pairs(stylized, real, out, stem_of, workers, quiet)
        if listed is not None:
            skipped += [Skipped(one.face.name, UNLISTED) for one in pairs if one.face.name not in listed]
            kept = [one for one in pairs if one.face.name in listed]
            pairs = [replace(one, face=replace(one.face, identity=who)) for who, one in enumerate(kept)]
        if not pairs:
            # skipped.csv names what was left out, unless it is an earlier import's
            said = "; ".join(_listed("left out", [f"{one.name}: {one.reason}" for one in skipped]))
            if not (out / "dataset.json").exists():
                write_skipped(out, ((one.name, one.reason) for one in skipped))
                said = f"see {out / 'skipped.csv'}"
            raise InputError(
                f"{real[0]}, {stylized[0]}: no pair of a photograph and a drawing with one name and a face in"
                f" it; {said}"
            )
        values = {"name": out.name, "test_styles": (style,), "misalignment": misalignment, "seed": seed}
        return _write_pairs(pairs, skipped, values, out, quiet)


def _write_pairs(
    pairs: list[_Pair], skipped: list[Skipped], values: dict[str, Any], out: Path, quiet: bool
) -> Dataset:
    """The data set of these pairs, which is tested only; ``values`` are those of its recipe that vary."""
    (style,) = values["test_styles"]
    recipe = recipe_from(
        values | {
            "source": SOURCE,
            "train_faces": 0,
            "val_faces": 0,
            "test_faces": len(pairs),
            "stylize_px": FACE_PX,
            "description": f"{style}: pairs from elsewhere, for testing only",
        },
        where="import-pairs",
    )
    starts = range(0, len(pairs), recipe.shard_pairs)
    parts = [pairs[start:start + recipe.shard_pairs] for start in starts]
    shards = tuple(
        PlannedShard(name, "test", tuple(pair.face for pair in part), (style,))
        for name, part in zip(shard_names("test", len(parts)), parts)
    )
    plan = Plan(recipe, shards, tuple(skipped))

    # its shards, and the first pairs to look at
    entries = {}
    for planned, part in zip(plan.shards, tqdm(parts, desc="shards", unit="shard", disable=quiet)):
        shard = _shard_of(recipe, planned, part)
        entries[planned.name] = {"split": "test"} | write_shard(out / planned.name, shard)
        if planned is plan.shards[0]:
            first = range(min(PREVIEWED, len(part)))
            write_png(out / "preview.png", tile([[shard.real[row], shard.stylized[row]] for row in first]))

    # what stands beside them
    write_manifest(out, plan.rows())
    write_skipped(out, plan.left_out())
    names = "".join(f"{pair.face.name} {pair.real.sha256} {pair.stylized.sha256}\n" for pair in pairs)
    info = make_info(
        recipe=recipe.as_dict(),
        counts=plan.counts,
        faces=None,
        faces_sha256=hashlib.sha256(names.encode()).hexdigest(),
        styles={},
        device="cpu",
    ) | {"complete": True, "shards": entries}
    write_info(out, info)
    return Dataset(out, info)


def _refuse_other_data(out: Path) -> None:
    """A data set that was synthesized is not written over. Raises InputError."""
    if not (out / "dataset.json").exists():
        return
    recipe = open_dataset(out, complete=False).info["recipe"]
    if recipe["source"] != SOURCE:
        raise InputError(
            f"{out}: holds the data set {recipe['name']} of {recipe['source']}, which would be written over;"
            " choose another --out"
        )


def _find_pairs(
    stylized: Sequence[Path],
    real: Sequence[Path],
    out: Path,
    stem_of: StemOf,
    workers: int,
    quiet: bool,
) -> tuple[list[_Pair], list[Skipped]]:
    pairs: list[_Pair] = []
    skipped: list[Skipped] = []
    for number, roots in enumerate(zip(real, stylized)):

        # both folders by the files' paths without their suffixes
        found = []
        for kind, root in zip(("real", "stylized"), roots):
            landmarks = out / f"landmarks-{kind}-{number}.csv"
            found.append(open_folder(root, landmarks=landmarks, workers=workers, quiet=quiet).found)
        photographs, drawings = (_by_stem(files, stem_of) for files in found)
        stems = sorted(photographs.keys() | drawings.keys())
        flat = {stem: stem.replace("/", "_") for stem in stems}
        counts = Counter(flat.values())
        for stem in stems:

            # x/y and x_y stay two
            name = flat[stem] if counts[flat[stem]] == 1 else stem
            name = f"{number}-{name}" if len(real) > 1 else name
            reason = _not_a_pair(photographs.get(stem, []), drawings.get(stem, []))
            if reason:
                skipped.append(Skipped(name, reason))
                continue
            (photograph,), (drawing,) = photographs[stem], drawings[stem]
            drawn, note = _with_eyes(drawing, photograph, roots)
            if note:
                skipped.append(Skipped(name, note))
            if drawn:
                face = Face(name, len(pairs), partition="test")
                pairs.append(_Pair(face, roots[0], photograph, roots[1], drawn))
    return pairs, skipped


def _with_eyes(drawing: Found, photograph: Found, roots: tuple[Path, Path]) -> tuple[Found | None, str]:
    """A drawing with its own eyes or, where none are found and both pictures are of one size, with its
    photograph's, and what there is to say of it; None where that does not make a pair. ``roots`` are the
    photographs' folder and the drawings'.
    """
    if photograph.reason:
        return None, photograph.reason
    if not drawing.reason:
        return drawing, ""
    if _size(roots[0] / photograph.file) != _size(roots[1] / drawing.file):
        return None, f"drawing: {drawing.reason}"
    borrowed = replace(photograph, file=drawing.file, sha256=drawing.sha256)
    return borrowed, f"used: {drawing.reason} in the drawing, the photograph's eyes taken"


def _by_stem(found: Mapping[str, File], stem_of: StemOf = str) -> dict[str, list[File]]:
    """Files by their paths without suffixes; ``a.png`` and ``a.webp`` are two of one stem."""
    stems: dict[str, list[File]] = {}
    for file, one in found.items():
        stems.setdefault(stem_of(Path(file).with_suffix("").as_posix()), []).append(one)
    return stems


def _not_a_pair(photographs: list[Found], drawings: list[Found]) -> str:
    """Why the files of one stem are no pair; empty if they are one."""
    for kind, files in (("photograph", photographs), ("drawing", drawings)):
        if not files:
            return f"no {kind} of this name"
        if len(files) > 1:
            return f"more than one {kind} of this name: {', '.join(one.file for one in files)}"
    return ""


def _size(path: Path) -> tuple[int, ...]:
    try:
        return read_picture(path).shape
    except PictureError:
        return (0,)


def _shard_of(recipe: Recipe, planned: PlannedShard, pairs: list[_Pair]) -> Shard:
    style = planned.styles[0]
    moved = [planned.misalignment(recipe, pair.face, style) for pair in pairs]
    return Shard(
        stylized=np.stack(
            [
                face_window(_frame(pair.stylized_root, pair.stylized), one, border=recipe.border)
                for pair, one in zip(pairs, moved)
            ]
        ),
        real=np.stack([face_window(_frame(pair.real_root, pair.real)) for pair in pairs]),
        real_index=np.arange(len(pairs), dtype=np.int32),
        style=np.array([style.encode()] * len(pairs)),
        face=np.array([pair.face.name.encode() for pair in pairs]),
        identity=np.array([pair.face.identity for pair in pairs], dtype=np.int32),
        warp=np.array([warp_matrix(one) for one in moved], dtype=np.float32),
    )


def _frame(root: Path, found: Found) -> np.ndarray:
    """The picture in CelebA's frame, uint8 (218, 178, 3)."""
    eyes = np.array([[found.left_eye_x, found.left_eye_y], [found.right_eye_x, found.right_eye_y]])
    return align_by_eyes(decode_picture(read_bytes(root / found.file)), *eyes)


def write_pictures(
    data: Dataset, out: Path, *, split: str = "test", condition: str = "raw", quiet: bool = False
) -> int:
    """Every SF of a split as ``out/stylized/ID.png``, as it is (``raw``) or brought upright (``oracle``), and
    its RF as ``out/real/ID.png``, for other systems to work on; returns their number.
    """
    count = 0
    for path in tqdm(data.shards(split), desc="pictures", unit="shard", disable=quiet):
        shard = data.read(path)
        seen = shard.upright() if condition == "oracle" else shard.stylized
        for kind, faces in (("stylized", seen), ("real", shard.real[shard.real_index])):
            (out / kind).mkdir(parents=True, exist_ok=True)
            for row, face in enumerate(faces):
                write_png(out / kind / f"{picture_id(path, row)}.png", face)
        count += len(shard.stylized)
    return count


def import_recovered(pictures: Path, data: Dataset, out: Path, *, split: str = "test") -> Path:
    """Faces that another system recovered, as shards in ``out``; returns it.

    ``pictures`` holds one picture of 128x128 for each SF, named by its id, ``SHARD-ROW``
    (``test-00000-00012.png``), as ``write_pictures`` names them. Raises InputError with counts and examples
    of missing, extra, doubled, broken and wrongly sized files: nothing is written then.
    """
    if not pictures.is_dir():
        raise InputError(f"{pictures}: no such folder of recovered pictures")
    wanted = {
        name: [picture_id(data.root / name, row) for row in range(data.info["shards"][name]["pairs"])]
        for name in map(data.name_of, data.shards(split))
    }
    ids = [one for of_shard in wanted.values() for one in of_shard]
    faces, problems = _given_faces(pictures, ids)
    if problems:
        raise InputError(
            f"{pictures}: {'; '.join(problems)}; expected {len(ids)} pictures named as `ifrp-bench"
            " pictures` names them"
        )
    for name, of_shard in wanted.items():
        write_recovered(
            out / name,
            np.stack([faces[one] for one in of_shard]),
            {"data_sha256": data.sha256, "condition": "given", "pictures": pictures.name},
        )
    return out


def _given_faces(pictures: Path, ids: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The faces of these ids in a folder, and what is wrong with its files."""
    there = _by_stem({
        path.name: path
        for path in sorted(pictures.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    })
    files = {stem: paths[-1] for stem, paths in there.items()}
    twice = [path.name for paths in there.values() for path in paths[:-1]]

    # each that is wanted and there
    faces: dict[str, np.ndarray] = {}
    broken, sized = [], []
    for one in (one for one in ids if one in files):
        try:
            faces[one] = read_picture(files[one])
        except PictureError as error:
            broken.append(f"{files[one].name}: {error}")
            continue
        if faces[one].shape != (FACE_PX, FACE_PX, 3):
            sized.append(f"{files[one].name}: {faces[one].shape[1]}x{faces[one].shape[0]}")
    return faces, [
        *_listed("missing", [one for one in ids if one not in files]),
        *_listed("extra", sorted(files.keys() - set(ids))),
        *_listed("there a second time with another suffix", twice),
        *_listed("broken", broken),
        *_listed(f"not {FACE_PX}x{FACE_PX}", sized),
    ]


def picture_id(shard: Path, row: int) -> str:
    """The id of an SF: its shard and row."""
    return f"{shard.stem}-{row:05d}"


def _listed(what: str, names: list[str]) -> list[str]:
    return (
        [f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"] if names else []
    )
