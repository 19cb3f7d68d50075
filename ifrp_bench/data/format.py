"""The data set on disk: HDF5 shards, ``dataset.json`` and ``manifest.csv``. This module is the only one that
imports h5py.

It knows nothing of recipes, plans or styles: reading a data set needs this file and ``ground/`` alone. A data
set is a folder:

* ``dataset.json``: schema version, resolved recipe, seed, counts, versions, sha256 of every shard, of every
  style network and of the face list; a shard's entry is made after the shard is whole, ``complete`` when all
  are;
* ``manifest.csv``: a row per stylized face (split, shard, row, face, identity, style, angle_deg, scale,
  shift_x, shift_y);
* ``skipped.csv``: faces and files left out, with the reason, and choices made on the way;
* ``train-00000.h5``, ``val-00000.h5``, ``test-00000.h5``, ...: the shards; of a split that has more than
  ten thousand in numbered folders of a thousand, ``00012/train-12345.h5``;
* ``.made-00000.jsonl``, ... while it is being made: the entries of whole shards, a file for each process that
  makes some, which ``dataset.json`` takes over in the end.

A shard holds ``stylized`` uint8 (n, 128, 128, 3) RGB; ``real`` uint8 (m, 128, 128, 3) RGB, each real face
once; ``real_index`` int32 (n,) into ``real``; ``style`` and ``face`` fixed-length ASCII (n,); ``identity``
int32 (n,); ``warp`` float32 (n, 2, 3), taking pixel coordinates of the RF to pixel coordinates of the SF. A
chunk is one picture, checked with Fletcher-32, not compressed. Read a shard whole: rows picked by a list of
indices are hundreds of times slower.

A shard of recovered faces holds ``recovered`` uint8 (n, 128, 128, 3) RGB, row by row as in the shard of the
same name.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import write_whole
from ifrp_bench.ground.provenance import fingerprint, read_facts, versions
from ifrp_bench.ground.warp import FACE_PX, undo_warp

SCHEMA = 1
SPLIT_NAMES = ("train", "val", "test")
FOLDER_SHARDS = 1_000   # in a numbered folder, of a split that has too many for one
MOST_SHARDS = 10_000   # of a split, side by side in one folder: beyond it file systems and people get slow
JOURNALS = ".made-*.jsonl"
MANIFEST_COLUMNS = (
    "split", "shard", "row", "face", "identity", "style", "angle_deg", "scale", "shift_x", "shift_y",
)
_COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {   # dtype kind and shape after the first dimension
    "stylized": ("uint8", (FACE_PX, FACE_PX, 3)),
    "real": ("uint8", (FACE_PX, FACE_PX, 3)),
    "real_index": ("int32", ()),
    "style": ("S", ()),
    "face": ("S", ()),
    "identity": ("int32", ()),
    "warp": ("float32", (2, 3)),
}


class ShardError(InputError):
    """A shard or data set on disk that is not what it should be; the text begins with its path."""


@dataclass(frozen=True)
class Shard:
    """The columns of one shard, in memory. ``style`` and ``face`` are byte strings (ASCII)."""

    stylized: np.ndarray
    real: np.ndarray
    real_index: np.ndarray
    style: np.ndarray
    face: np.ndarray
    identity: np.ndarray
    warp: np.ndarray

    def upright(self) -> np.ndarray:
        """The SFs brought upright with their stored warps, uint8 (n, 128, 128, 3).

        Black where an SF shows nothing.
        """
        return np.stack([undo_warp(face, warp) for face, warp in zip(self.stylized, self.warp)])


def write_shard(path: Path, shard: Shard) -> dict[str, Any]:
    """Write a shard whole or not at all; returns its entry for ``dataset.json``.

    Equal columns give equal bytes.
    """
    data = encode_shard(shard)
    write_whole(path, data)
    return {
        "pairs": len(shard.stylized),
        "faces": len(shard.real),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def encode_shard(shard: Shard) -> bytes:
    """The HDF5 file as bytes: built in memory, so that a full disk is an ordinary error of an ordinary write.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:   # not libver="latest", whose root group carries the time
        file.attrs["schema"] = SCHEMA
        for name in _COLUMNS:
            column = getattr(shard, name)
            chunks = (1, *column.shape[1:]) if column.ndim == 4 else None
            file.create_dataset(
                name, data=column, chunks=chunks, fletcher32=chunks is not None, track_times=False
            )
    return buffer.getvalue()


def read_shard(path: Path, *, sha256: str | None = None) -> Shard:
    """A shard, read whole and checked: schema, columns, types, shapes, lengths, and with ``sha256`` every
    byte.

    Raises ShardError that says what is wrong with which file. ``Dataset.read`` knows the hash.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ShardError(f"{path}: cannot be read: {error.strerror or error}") from None
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise ShardError(
            f"{path}: its sha256 differs from the one in dataset.json: the file is truncated or was changed; "
            "remove it and run synth again"
        )
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            schema = file.attrs.get("schema")
            if schema != SCHEMA:
                raise ShardError(f"{path}: schema version {schema}, this ifrp-bench reads {SCHEMA}")
            missing = [name for name in _COLUMNS if name not in file]
            if missing:
                raise ShardError(f"{path}: the column {missing[0]} is missing")
            columns = {name: file[name][()] for name in _COLUMNS}
    except (OSError, KeyError, RuntimeError) as error:
        raise ShardError(
            f"{path}: broken HDF5 file: {_short(error)}; remove it and run synth again"
        ) from None
    shard = Shard(**columns)
    _check_columns(path, shard)
    return shard


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _check_columns(path: Path, shard: Shard) -> None:
    for name, (kind, shape) in _COLUMNS.items():
        column = getattr(shard, name)
        length = len(shard.real) if name == "real" else len(shard.stylized)
        fits = column.dtype.kind == "S" if kind == "S" else column.dtype == kind
        if column.shape != (length, *shape) or not fits:
            raise ShardError(
                f"{path}: {name} is {column.dtype} {column.shape}, expected {kind} {(length, *shape)}"
            )
    index = shard.real_index
    if len(index) and not (0 <= index.min() and index.max() < len(shard.real)):
        raise ShardError(f"{path}: real_index points outside of the {len(shard.real)} real faces")
    if not np.isfinite(shard.warp).all():
        raise ShardError(f"{path}: a warp is not finite")


def write_recovered(path: Path, recovered: np.ndarray, facts: Mapping[str, str]) -> None:
    """Write recovered faces, uint8 (n, 128, 128, 3), row by row as in the shard of the same name.

    ``facts`` say what they were made from.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["schema"] = SCHEMA
        for name, value in facts.items():
            file.attrs[name] = value
        chunks = (1, *recovered.shape[1:])
        file.create_dataset("recovered", data=recovered, chunks=chunks, fletcher32=True, track_times=False)
    write_whole(path, buffer.getvalue())


def read_recovered(path: Path, *, rows: int, data_sha256: str = "") -> np.ndarray:
    """Recovered faces, uint8 (rows, 128, 128, 3).

    Raises ShardError for a file that is missing, broken, of another length, or, with ``data_sha256``, made
    from another data set.
    """
    try:
        with h5py.File(io.BytesIO(path.read_bytes()), "r") as file:
            recovered = file["recovered"][()]
            made_from = str(file.attrs.get("data_sha256", data_sha256))
    except (OSError, KeyError, RuntimeError) as error:
        message = "not a shard of recovered faces"
        raise ShardError(f"{path}: {message}: {_short(error)}; remove it and destylize again") from None
    wanted = (rows, FACE_PX, FACE_PX, 3)
    if recovered.shape != wanted or recovered.dtype != np.uint8:
        raise ShardError(
            f"{path}: recovered faces are {recovered.dtype} {recovered.shape}, expected uint8 {wanted}"
        )
    if data_sha256 and made_from != data_sha256:
        raise ShardError(
            f"{path}: recovered from another data set ({made_from[:12]}...), expected {data_sha256[:12]}...;"
            " destylize this one"
        )
    return recovered


def recovered_facts(path: Path) -> dict[str, str]:
    """What a shard of recovered faces was made from; empty for one that is not there or not whole."""
    try:
        with h5py.File(path, "r", locking=False) as file:   # some file systems have no locks
            facts = {name: str(value) for name, value in file.attrs.items() if name != "schema"}
            return facts if "recovered" in file else {}
    except (OSError, RuntimeError):
        return {}


@dataclass(frozen=True)
class Dataset:
    """A data set's folder and its parsed ``dataset.json``."""

    root: Path
    info: dict[str, Any]

    def shards(self, split: str) -> list[Path]:
        """Paths of a split's shards, in order."""
        entries = sorted(self.info["shards"].items())
        return [self.root / name for name, entry in entries if entry["split"] == split]

    def read(self, path: Path) -> Shard:
        """One of its shards, whole, every byte and its lengths held to ``dataset.json``. Raises ShardError.
        """
        entry = self.info["shards"][self.name_of(path)]
        shard = read_shard(path, sha256=entry["sha256"])
        pairs, faces = len(shard.stylized), len(shard.real)
        if (pairs, faces) != (entry["pairs"], entry["faces"]):
            raise ShardError(
                f"{path}: {pairs} pairs of {faces} faces, dataset.json says {entry['pairs']} of"
                f" {entry['faces']}"
            )
        return shard

    def name_of(self, path: Path) -> str:
        """What a shard is called in ``dataset.json``: its path inside the folder."""
        return path.relative_to(self.root).as_posix()

    def pairs(self, split: str) -> int:
        """How many stylized faces a split has."""
        return int(self.info["counts"][split]["pairs"])

    @property
    def seen(self) -> tuple[str, ...]:
        """The styles that are trained on; all others are unseen."""
        return tuple(self.info["recipe"]["train_styles"])

    @property
    def sha256(self) -> str:
        """One hash of what the data set holds: recipe, faces, style networks and shards.

        It stands in every result made from it.
        """
        core = {key: self.info[key] for key in ("schema", "recipe", "faces_sha256", "styles", "shards")}
        return hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()

    def split_sha256(self, split: str) -> str:
        """One hash of what a split asks of a method: its faces by name, their styles and misalignments, the
        style networks and how they are used.

        It is the same on every kind of machine and whatever the other splits hold. Raises ShardError without
        a manifest.
        """
        recipe = self.info["recipe"]
        lines = sorted(_of_split(read_manifest(self.root), split))
        styles = {line.split(",")[1] for line in lines}
        asked = {
            "rows": lines,
            "styles": {style: self.info["styles"].get(style, "") for style in sorted(styles)},
            "how": {key: recipe[key] for key in ("border", "stylize_px")},
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _of_split(rows: Iterable[Mapping[str, str]], split: str) -> Iterator[str]:
    """What is shown to a method, a line each: a face in a style, and how it lies."""
    shown = [key for key in MANIFEST_COLUMNS if key not in ("split", "shard", "row", "identity")]
    for row in rows:
        if row["split"] == split:
            yield ",".join(row[key] for key in shown)


def shard_names(split: str, count: int) -> list[str]:
    """What the shards of a split are called, in their order, which is that of the names."""
    digits = max(5, len(str(count - 1)))
    names = [f"{split}-{number:0{digits}d}.h5" for number in range(count)]
    if count <= MOST_SHARDS:
        return names
    return [f"{number // FOLDER_SHARDS:05d}/{name}" for number, name in enumerate(names)]


def open_dataset(root: Path, *, complete: bool = True) -> Dataset:
    """A data set's folder, its ``dataset.json`` checked for version and,
    with ``complete``, that the synthesis was finished. Of one that was not, the shards that are whole.
    """
    keys = ("recipe", "counts", "shards", "styles", "faces_sha256", "versions", "complete")
    none = f"no data set here (no dataset.json); make one with `ifrp-bench synth --out {root}`"
    info = read_facts(
        root / "dataset.json", keys,
        schema=SCHEMA, error=ShardError, none=none, mend="remove the folder and run synth again",
    )
    if not info["complete"]:
        info["shards"] |= journalled(root)
    if complete and not info["complete"]:
        done = f"{len(info['shards'])} of {info['counts']['shards']} shards"
        raise ShardError(f"{root}: the synthesis was not finished ({done}); run synth again to resume it")
    return Dataset(root, info)


def make_info(
    *, recipe: Mapping[str, Any], counts: Mapping[str, Any], faces: Path | None, faces_sha256: str,
    styles: Mapping[str, str], device: str,
) -> dict[str, Any]:
    """A new ``dataset.json``, without shards and not complete.

    ``recipe`` is resolved; ``styles`` are networks' hashes by name.
    """
    return {
        "schema": SCHEMA,
        "complete": False,
        "recipe": dict(recipe),
        "seed": recipe["seed"],
        "counts": dict(counts),
        "faces": str(faces.resolve()) if faces else None,
        "faces_sha256": faces_sha256,
        "styles": dict(styles),
        "device": device,
        "rendered_with": fingerprint(device),
        "versions": versions(),
        "shards": {},
    }


def write_info(root: Path, info: dict[str, Any]) -> None:
    """Write ``dataset.json``, whole or not at all."""
    write_whole(root / "dataset.json", (json.dumps(info, indent=1) + "\n").encode())


def add_entry(root: Path, process: int, name: str, entry: Mapping[str, Any]) -> None:
    """Say that a shard is whole: a line at the end of this process's journal, which no other writes.

    ``dataset.json`` speaks of every shard; written anew for each of them it would cost more than they do.
    """
    with (root / JOURNALS.replace("*", f"{process:05d}")).open("a", encoding="utf-8") as file:
        file.write(json.dumps({name: entry}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def journalled(root: Path) -> dict[str, dict[str, Any]]:
    """The entries of all journals. A line that a process was killed at does not count."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(root.glob(JOURNALS)):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found |= json.loads(line)
            except json.JSONDecodeError:
                continue
    return found


def forget_journals(root: Path) -> None:
    """Remove them: ``dataset.json`` has their entries, or begins anew."""
    for path in root.glob(JOURNALS):
        path.unlink(missing_ok=True)


def write_manifest(root: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write ``manifest.csv``, a row per stylized face in the shards'
    order, in the order of ``MANIFEST_COLUMNS``.
    """
    write_whole(root / "manifest.csv", _csv(MANIFEST_COLUMNS, rows))


def read_manifest(root: Path) -> list[dict[str, str]]:
    """The rows of ``manifest.csv``. Raises ShardError if the file is missing or has other columns."""
    path = root / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ShardError(f"{path}: cannot be read: {error}") from None
    if tuple(reader.fieldnames or ()) != MANIFEST_COLUMNS:
        raise ShardError(
            f"{path}: its columns are {reader.fieldnames}, expected {', '.join(MANIFEST_COLUMNS)}"
        )
    return rows


def write_skipped(root: Path, skipped: Iterable[tuple[str, str]]) -> None:
    """Write ``skipped.csv``: name and reason."""
    write_whole(root / "skipped.csv", _csv(("name", "reason"), skipped))


def _csv(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()
