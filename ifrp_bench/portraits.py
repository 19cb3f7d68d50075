"""A folder of portraits for which nobody has the real face: how often a face is found before and after
recovery, how much two pictures of one person agree, how sharp what comes back is and how far from real faces
as a set, and a page to look at.

Like ``paper.py`` this is a place where stages meet. None of the numbers says whether it is the right person.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ifrp_bench import parts
from ifrp_bench.data.runs import Run
from ifrp_bench.data.shipped import Shipped
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import write_whole
from ifrp_bench.ground.images import PictureError, read_picture
from ifrp_bench.ground.workers import on_threads
from ifrp_bench.nets.detector import find_faces
from ifrp_bench.nets.recogniser import Recogniser
from ifrp_bench.recovery.faces import frame_faces, shown
from ifrp_bench.recovery.trained import load_trained, name_of, recover
from ifrp_bench.results.gallery import write_page
from ifrp_bench.sources.folder import list_photographs

SHARP_BAND = (1 / 8, 1 / 4)   # cycles a pixel: eyelashes, lips' edges; a blur has none of it
GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)   # BT.601


@dataclass(frozen=True)
class Portrait:
    """One picture of the folder: its file, whose it is (its sub-folder), and the face as a method sees it,
    uint8 (128, 128, 3); None with the reason for a picture that cannot be read.
    """

    file: str
    person: str
    stylized: np.ndarray | None
    found: float | None = None   # the detector's probability; None where its first look found no face
    reason: str = ""


def evaluate_portraits(
    folder: Path,
    runs: Sequence[Run],
    judge: Recogniser,
    real: np.ndarray,
    out: Path,
    *,
    device: str = "cpu",
    quiet: bool = False,
) -> Path:
    """Recover every portrait under ``folder`` with every run; write ``portraits.csv`` (a row a portrait and
    run), ``pairs.csv`` (a row per two portraits of one person and run), ``portraits.json`` (what they come
    to) and the page, whose path is returned.

    ``real`` are real faces, uint8 (n, 128, 128, 3), to hold sharpness against, and the faces as a set, by
    KID, where its weights are at hand. Raises InputError for a folder without pictures, and for two runs of
    one name.
    """
    names = [_name(run) for run in runs]
    if len(set(names)) < len(names):
        raise InputError(f"{', '.join(names)}: rows could not be told apart; rename a run's folder")
    portraits = list(_portraits(folder, quiet))
    there = [one for one in portraits if one.stylized is not None]
    if not there:
        raise InputError(f"{folder}: no picture in it can be read ({portraits[0].reason})")
    stylized = np.stack([one.stylized for one in there if one.stylized is not None])
    sharp = _sharpness(real).mean()

    rows, pairs = [], []
    distance = _Kid.of(real)
    distances: dict[str, float | None] = {}
    faces = {"": stylized}
    for name, run in zip(names, runs):
        faces[name] = recover(load_trained(run, device=device).method, stylized, device=device)
    for name, shown_faces in faces.items():
        embedded = judge.embed(shown_faces)
        found = on_threads(_probability, shown_faces)
        sharpness = _sharpness(shown_faces) / sharp
        distances[name] = distance.to(shown_faces) if distance else None
        for number, one in enumerate(there):
            rows.append({
                "run": name, "file": one.file, "person": one.person, "found_before": one.found,
                "found_after": found[number], "sharpness": sharpness[number],
            })
        pairs += list(_pairs(name, there, embedded))
    table = pd.DataFrame(rows)
    summary = {
        "folder": folder.name,
        "pictures": len(portraits),
        "unread": {one.file: one.reason for one in portraits if one.stylized is None},
        "recogniser": judge.name,
        "runs": [_summary(name, table, pd.DataFrame(pairs)) | {"kid": distances[name]} for name in faces],
    }
    write_whole(out / "portraits.csv", table.to_csv(index=False, float_format="%.5g").encode())
    write_whole(out / "pairs.csv", pd.DataFrame(pairs, columns=PAIR_COLUMNS).to_csv(index=False).encode())
    write_whole(out / "portraits.json", (json.dumps(summary, indent=1) + "\n").encode())
    pictures = {name: [shown(face) for face in some] for name, some in faces.items()}
    return write_page(out / "portraits.html", summary, [one.file for one in there], pictures, table)


PAIR_COLUMNS = ["run", "one", "other", "same_person", "cosine"]


@dataclass(frozen=True)
class _Kid:
    """KID's scorer, and what it sees of the real faces."""

    scorer: Any
    real: np.ndarray

    @classmethod
    def of(cls, real: np.ndarray) -> "_Kid | None":
        """None where its package or its weights are not at hand: nobody has asked for it by name."""
        try:
            scorer: Any = parts.metric("kid").opened()
        except InputError:
            return None
        return cls(scorer, scorer.features(real))

    def to(self, faces: np.ndarray) -> float | None:
        """The distance of faces to the real ones; None for too few."""
        found = float(self.scorer.score(self.scorer.features(faces), self.real)["kid"])
        return None if np.isnan(found) else round(found, 5)


def _name(run: Run) -> str:
    return run.name if isinstance(run, Shipped) else f"{name_of(run)}/{run.name}"


def _portraits(folder: Path, quiet: bool) -> Iterator[Portrait]:
    files = list_photographs(folder, unread=True) if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder}: no picture in it; --portraits wants a folder of paintings or drawings")

    def one(file: str) -> Portrait:
        person = Path(file).parent.as_posix()
        try:
            framed = frame_faces(read_picture(folder / file))[0]
        except PictureError as error:
            return Portrait(file, person, None, reason=str(error))
        return Portrait(file, person, framed.stylized, framed.probability if framed.at_once else None)

    for start in range(0, len(files), 8):
        yield from on_threads(one, tqdm(files[start:start + 8], "portraits", leave=False, disable=quiet))


def _probability(face: np.ndarray) -> float | None:
    """The detector's of a face in its true proportions; None where it finds none."""
    found = find_faces(shown(face))
    return found[0].probability if found else None


def _sharpness(faces: np.ndarray) -> np.ndarray:
    """Energy of each grey face, under a Hann window, between an eighth and a quarter of a cycle a pixel,
    (n,).
    """
    grey = faces.astype(np.float32) @ GREY
    size = grey.shape[1]
    window = np.outer(np.hanning(size), np.hanning(size)).astype(np.float32)
    grey = (grey - grey.mean((1, 2), keepdims=True)) * window
    frequency = np.abs(np.fft.fftfreq(size))
    ring = np.hypot(*np.meshgrid(frequency, frequency))
    band = (ring > SHARP_BAND[0]) & (ring <= SHARP_BAND[1])
    power = [np.abs(np.fft.fft2(one)) ** 2 for one in grey]
    return np.array([one[band].sum() for one in power])


def _pairs(run: str, there: Sequence[Portrait], embedded: np.ndarray) -> Iterator[dict[str, Any]]:
    """Every two portraits of one person, and as many of two others' for comparison."""
    known = [number for number, one in enumerate(there) if one.person != "."]
    same = [(a, b) for a, b in combinations(known, 2) if there[a].person == there[b].person]
    others = [(a, b) for a, b in combinations(known, 2) if there[a].person != there[b].person]
    # the same ones each time, whatever order they are listed in
    others.sort(key=lambda pair: _order(there[pair[0]].file, there[pair[1]].file))
    for chosen, is_same in ((same, True), (others[:len(same)], False)):
        for a, b in chosen:
            cosine = round(float(embedded[a] @ embedded[b]), 6)
            yield dict(zip(PAIR_COLUMNS, (run, there[a].file, there[b].file, is_same, cosine)))


def _order(one: str, other: str) -> str:
    return hashlib.sha256(f"{one} {other}".encode()).hexdigest()


def _summary(name: str, table: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Any]:
    rows = table[table["run"] == name]
    found: dict[str, Any] = {
        "run": name,
        "found_before_percent": round(100 * float(rows["found_before"].notna().mean()), 2),
        "found_after_percent": round(100 * float(rows["found_after"].notna().mean()), 2),
        "sharpness_percent": round(100 * float(rows["sharpness"].median()), 1),
    }
    if len(pairs):
        mine = pairs[pairs["run"] == name]
        for key, same in (("cosine_same_person", True), ("cosine_others", False)):
            found[key] = round(float(mine["cosine"][mine["same_person"] == same].mean()), 4)
        found["pairs"] = int(mine["same_person"].sum())
    return found
