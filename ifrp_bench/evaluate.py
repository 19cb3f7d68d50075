"""Stage 4: recovered and real faces -> one row of scores per recovered face. Averages, intervals and tests are tables.py's job.

It writes ``scores.csv`` (a row per face and entry), ``consistency.csv`` (FCR: a row per face, entry and ordered pair of styles), ``sets.csv`` (FID and KID,
where asked for) and ``results.json`` (what was evaluated with what). Every row carries the data set's hash, the recogniser and the protocol. What takes
time, scores of pictures and embeddings, is kept shard by shard: several processes share the shards, and a run that was stopped goes on where it was.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from ifrp_bench import __version__
from ifrp_bench.errors import InputError
from ifrp_bench.metrics.alignment import residuals
from ifrp_bench.metrics.fid import Inception, distances
from ifrp_bench.metrics.lpips import Lpips
from ifrp_bench.metrics.psnr import psnr_db
from ifrp_bench.metrics.retrieval import FAR, rank_queries, verified
from ifrp_bench.metrics.ssim import ssim_of_planes
from ifrp_bench.nets.recogniser import Recogniser, probe_face
from ifrp_bench.processes import Processes
from ifrp_bench.provenance import versions
from ifrp_bench.shards import Dataset, read_recovered, read_shard
from ifrp_bench.stylize import SEEN
from ifrp_bench.weights import write_whole
from ifrp_bench.workers import on_threads

PROTOCOL = "ifrp-1"   # of every metric here; a change that moves a number changes it
PICTURE_METRICS = ("psnr", "ssim", "residual", "lpips")
RETRIEVAL = ("frr", "fcr", "vr")
SETS = ("fid", "kid")   # of sets, not of faces: they have a file of their own
METRICS = (*PICTURE_METRICS, *RETRIEVAL, *SETS)
DEFAULT = ("psnr", "ssim", *RETRIEVAL)
PART = 64   # faces that a thread scores at a time

Columns = dict[str, np.ndarray]   # by name, a value a row


@dataclass(frozen=True)
class Entry:
    """One row group of the tables: a method's recovered faces under a condition, in ``folder`` as shards of the split's names.

    ``headline`` says that this is the condition under which the method stands in a paper's table; ``note`` what a reader must know of it.
    """

    method: str
    run: str
    condition: str
    folder: Path
    headline: bool = True
    note: str = ""


@dataclass(frozen=True)
class Faces:
    """A test split without its stylized pictures: one row per SF, and the gallery of real faces with its identities."""

    frame: pd.DataFrame   # style, seen, face, identity, and ``own``: the gallery's row of the face
    gallery: np.ndarray   # uint8 (m, 128, 128, 3)
    identity: np.ndarray   # (m,)
    shards: dict[str, tuple[slice, slice]]   # of each shard its rows and its part of the gallery


def evaluate(
    entries: Iterable[Entry], data: Dataset, out: Path, *, metrics: Iterable[str] = DEFAULT, recogniser: Recogniser | None = None, split: str = "test",
    processes: Processes | None = None, quiet: bool = False,
) -> pd.DataFrame:
    """Score every entry and write the results into ``out``; gives the scores (of several processes the first has them, the others an empty frame).

    ``metrics`` are some of ``METRICS``; only what they need is computed. Raises InputError for an unknown metric, retrieval without a recogniser, and
    recovered shards that are missing, broken or of another length: nothing is written then.
    """
    wanted = checked_metrics(metrics, recogniser)
    processes = processes or Processes("cpu")
    entries, faces = list(entries), load_faces(data, split)
    scorer = _Scorer(faces, data.sha256, wanted, recogniser, out / "kept")
    work: list[tuple[Entry | None, str]] = [(entry, name) for entry in [None, *entries] for name in faces.shards]
    for entry, name in tqdm(work[processes.rank::processes.world], desc="evaluate", unit="shard", disable=quiet or not processes.first):
        scorer.prepare(entry, name)
    processes.wait()
    if not processes.first:
        return pd.DataFrame()
    facts = {"data_sha256": data.sha256, "recogniser": recogniser.name if recogniser else "", "protocol": PROTOCOL, "version": __version__}
    scores, consistency, described = [], [], []
    for entry in entries:
        who = {"method": entry.method, "run": entry.run, "condition": entry.condition, "split": split}
        table, pairs, ties = scorer.scores(entry)
        scores.append(table.assign(**who, headline=entry.headline, **facts))
        consistency += [frame.assign(**who, headline=entry.headline, **facts) for frame in pairs]
        described.append(who | {"headline": entry.headline, "note": entry.note, "recovered": str(entry.folder.resolve()), "retrieval_ties": ties})
    result = pd.concat(scores, ignore_index=True)
    if scorer.inception:
        sets = pd.DataFrame([row for entry in entries for row in scorer.set_distances(entry)]).assign(split=split, **facts)
        write_whole(out / "sets.csv", sets.to_csv(index=False, float_format="%.6g").encode())
    else:
        (out / "sets.csv").unlink(missing_ok=True)
    _write(out, result, consistency, {
        "data": data.root.name, "data_folder": str(data.root.resolve()), "metrics": list(wanted), "split": split, "entries": described, "versions": versions(),
    } | facts | (_about(recogniser) if recogniser else {}))
    return result


def _about(recogniser: Recogniser) -> dict[str, Any]:
    """Its file, and the beginning of what it gives for the picture of the self-test, for a reader with doubts."""
    return {"recogniser_sha256": recogniser.sha256, "recogniser_test": [round(float(value), 5) for value in recogniser.embed(probe_face())[0][:8]]}


def checked_metrics(metrics: Iterable[str], recogniser: Recogniser | None) -> tuple[str, ...]:
    """The metrics, each of which there is. Raises InputError for others, for none, and for retrieval without a recogniser."""
    wanted = tuple(metrics)
    for name in wanted:
        if name not in METRICS:
            raise InputError(f"metric {name!r} is none of {', '.join(METRICS)}")
    if not wanted:
        raise InputError(f"no metric: name some of {', '.join(METRICS)}")
    if recogniser is None and any(name in RETRIEVAL for name in wanted):
        raise InputError("frr, fcr and vr need a recogniser: builtin, facenet (fetched before) or an .onnx file with its card")
    return wanted


def load_faces(data: Dataset, split: str) -> Faces:
    """The split's rows and gallery. Raises ShardError for shards that are not as the data set says, InputError for a split without pairs."""
    frames, galleries, shards = [], [], {}
    rows = people = 0
    for path in data.shards(split):
        shard = read_shard(path, sha256=data.info["shards"][path.name]["sha256"])
        frames.append(pd.DataFrame({
            "style": shard.style.astype(str), "face": shard.face.astype(str), "identity": shard.identity, "own": shard.real_index.astype(np.int64) + people,
        }))
        galleries.append(shard.real)
        shards[path.name] = slice(rows, rows + len(shard.stylized)), slice(people, people + len(shard.real))
        rows, people = rows + len(shard.stylized), people + len(shard.real)
    if not shards:
        raise InputError(f"{data.root}: the split {split!r} has no pairs")
    frame = pd.concat(frames, ignore_index=True)
    frame.insert(1, "seen", frame["style"].isin(data.info["recipe"].get("train_styles") or SEEN))
    identity = np.zeros(people, dtype=np.int64)
    identity[frame["own"]] = frame["identity"]
    return Faces(frame, np.concatenate(galleries), identity, shards)


class _Scorer:
    """Scores of entries, shard by shard and kept; ``prepare`` computes a shard's part, ``scores`` puts an entry's parts together."""

    def __init__(self, faces: Faces, data_sha256: str, metrics: tuple[str, ...], recogniser: Recogniser | None, kept: Path) -> None:
        self.faces, self.data_sha256, self.metrics, self.kept = faces, data_sha256, metrics, kept
        self.recogniser = recogniser if any(name in RETRIEVAL for name in metrics) else None
        self.inception = Inception() if any(name in SETS for name in metrics) else None
        self.lpips = Lpips() if "lpips" in metrics else None
        self._gallery: np.ndarray | None = None

    def prepare(self, entry: Entry | None, name: str) -> None:
        """A shard of an entry, or, without one, of the gallery."""
        if entry is None:
            self._embed(self.faces.gallery[self.faces.shards[name][1]])
            self._inception_features(self.faces.gallery[self.faces.shards[name][1]])
        else:
            recovered = self._recovered(entry, name)
            self._embed(recovered)
            self._inception_features(recovered)
            for metric in self.metrics:
                self._picture_scores(metric, recovered, name)

    def scores(self, entry: Entry) -> tuple[pd.DataFrame, list[pd.DataFrame], int]:
        """Its rows, its rows of consistency, and how many queries had ties."""
        parts, embeddings = [], []
        for name in self.faces.shards:
            recovered = self._recovered(entry, name)
            parts.append({column: values for metric in self.metrics for column, values in self._picture_scores(metric, recovered, name).items()})
            embeddings.append(self._embed(recovered))
        frame = self.faces.frame
        table = frame.drop(columns="own").assign(**{column: np.concatenate([part[column] for part in parts]) for column in parts[0]})
        if self.recogniser is None:
            return table, [], 0
        embedded, gallery, own, ties = np.concatenate(embeddings), self._embedded_gallery(), frame["own"].to_numpy(), 0
        if "frr" in self.metrics:
            ranks = rank_queries(embedded, gallery, own, groups=self.faces.identity)
            names = self._gallery_names()
            nearest = ["|".join(names[row] for row in rows) for rows in ranks.nearest]
            table, ties = table.assign(rank=ranks.rank, hit_top5=ranks.hit, cosine=ranks.cosine, nearest=nearest), ranks.ties
        if "vr" in self.metrics:
            passed = np.zeros(len(frame), dtype=bool)
            for rows in frame.groupby("style", sort=False).indices.values():
                passed[rows] = verified(embedded[rows], gallery, own[rows], self.faces.identity, FAR)
            table = table.assign(verified=passed)
        return table, list(consistent(embedded, frame)) if "fcr" in self.metrics else [], ties

    def set_distances(self, entry: Entry) -> Iterator[dict[str, Any]]:
        """FID and KID of the faces recovered from seen and from unseen styles to the gallery."""
        real = np.concatenate([self._inception_features(self.faces.gallery[people]) for _, people in self.faces.shards.values()])
        features = np.concatenate([self._inception_features(self._recovered(entry, name)) for name in self.faces.shards])
        for group, seen in (("seen", True), ("unseen", False)):
            rows = (self.faces.frame["seen"] == seen).to_numpy()
            if rows.any():
                yield {"method": entry.method, "run": entry.run, "condition": entry.condition, "group": group} | distances(features[rows], real)

    def _inception_features(self, faces: np.ndarray) -> np.ndarray:
        inception = self.inception
        if inception is None:
            return np.empty((len(faces), 0), dtype=np.float32)
        key: list[bytes | np.ndarray] = [b"inception", inception.sha256.encode(), PROTOCOL.encode(), faces]
        return _kept(self.kept, key, lambda: {"features": inception.features(faces)})["features"]

    def _embedded_gallery(self) -> np.ndarray:
        if self._gallery is None:
            self._gallery = np.concatenate([self._embed(self.faces.gallery[people]) for _, people in self.faces.shards.values()])
        return self._gallery

    def _gallery_names(self) -> list[str]:
        names = [""] * len(self.faces.gallery)
        for row, name in zip(self.faces.frame["own"], self.faces.frame["face"]):
            names[row] = name
        return names

    def _recovered(self, entry: Entry, name: str) -> np.ndarray:
        rows, _ = self.faces.shards[name]
        return read_recovered(entry.folder / name, rows=rows.stop - rows.start, data_sha256=self.data_sha256)

    def _picture_scores(self, metric: str, recovered: np.ndarray, name: str) -> Columns:
        if metric not in PICTURE_METRICS:
            return {}
        rows, _ = self.faces.shards[name]
        own = self.faces.frame["own"].to_numpy()[rows]
        lpips = self.lpips if metric == "lpips" else None
        name_of = metric.encode() + (lpips.sha256.encode() if lpips else b"")
        key: list[bytes | np.ndarray] = [b"scores", name_of, PROTOCOL.encode(), recovered, own - own.min(), self.faces.gallery[own.min():own.max() + 1]]
        return _kept(self.kept, key, lambda: picture_scores(metric, recovered, self.faces.gallery[own], lpips))

    def _embed(self, faces: np.ndarray) -> np.ndarray:
        """float32 (N, D) of uint8 (N, 128, 128, 3); (N, 0) where no metric asks for it."""
        recogniser = self.recogniser
        if recogniser is None:
            return np.empty((len(faces), 0), dtype=np.float32)
        key: list[bytes | np.ndarray] = [b"embedding", recogniser.name.encode(), recogniser.sha256.encode(), PROTOCOL.encode(), faces]
        embedded = _kept(self.kept, key, lambda: {"embedding": recogniser.embed(faces)})["embedding"]
        if not np.isfinite(embedded).all():
            raise InputError(f"the recogniser {recogniser.name} gives values that are not finite")
        return embedded


def picture_scores(metric: str, recovered: np.ndarray, real: np.ndarray, lpips: Lpips | None = None) -> Columns:
    """The columns of a picture metric for recovered and real faces, uint8 (N, 128, 128, 3) each; on the CPU, whatever the method ran on.

    In float64, but for ``lpips``, whose network is float32 and has to be given.
    """
    functions: dict[str, Callable[[np.ndarray, np.ndarray], Columns]] = {
        "psnr": lambda x, y: {"psnr_db": psnr_db(torch.from_numpy(x), torch.from_numpy(y)).numpy()},
        "ssim": lambda x, y: _similarities(ssim_of_planes(torch.from_numpy(x), torch.from_numpy(y)).numpy()),
        "residual": residuals,
    }
    if lpips:
        functions["lpips"] = lambda x, y: {"lpips": lpips.distances(x, y)}
    parts = on_threads(lambda start: functions[metric](recovered[start:start + PART], real[start:start + PART]), range(0, len(recovered), PART))
    return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}


def _similarities(by_plane: np.ndarray) -> Columns:
    """Of luma, and of RGB averaged."""
    return {"ssim": by_plane[:, 3], "ssim_rgb": by_plane[:, :3].mean(1)}


def _kept(folder: Path, key: list[bytes | np.ndarray], compute: Callable[[], Columns]) -> Columns:
    """Arrays that are on disk under a hash of everything they depend on, or are computed and put there."""
    digest = hashlib.sha256()
    for part in key:
        digest.update(part if isinstance(part, bytes) else f"{part.dtype} {part.shape}".encode())
        digest.update(b"\0" if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    path = folder / f"{digest.hexdigest()[:32]}.npz"
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            pass   # cut short: computed again
    made = compute()
    buffer = io.BytesIO()
    np.savez(buffer, **made)  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue())
    return made


def consistent(embedded: np.ndarray, frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """FCR's rows: for every ordered pair of styles, where the same face stands among those recovered from the other style."""
    rows = {style: group.index.to_numpy() for style, group in frame.groupby("style", sort=False)}
    for query, gallery in permutations(rows, 2):
        identity, among = (frame["identity"].to_numpy()[rows[style]] for style in (query, gallery))
        by_face = {face: number for number, face in enumerate(frame["face"].to_numpy()[rows[gallery]])}
        truth = np.array([by_face[face] for face in frame["face"].to_numpy()[rows[query]]])
        ranks = rank_queries(embedded[rows[query]], embedded[rows[gallery]], truth, groups=among)
        seen = [frame["seen"].iloc[rows[style][0]] for style in (query, gallery)]
        yield pd.DataFrame({
            "query_style": query, "gallery_style": gallery, "query_seen": seen[0], "gallery_seen": seen[1],
            "face": frame["face"].to_numpy()[rows[query]], "identity": identity, "rank": ranks.rank, "hit_top5": ranks.hit,
        })


def _write(out: Path, scores: pd.DataFrame, consistency: list[pd.DataFrame], facts: dict[str, Any]) -> None:
    write_whole(out / "scores.csv", scores.to_csv(index=False, float_format="%.10g").encode())
    if consistency:
        write_whole(out / "consistency.csv", pd.concat(consistency, ignore_index=True).to_csv(index=False).encode())
    else:
        (out / "consistency.csv").unlink(missing_ok=True)
    write_whole(out / "results.json", (json.dumps(facts, indent=1) + "\n").encode())   # last
