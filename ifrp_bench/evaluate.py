"""Stage 4: recovered and real faces -> one row of scores per recovered face. Averages, intervals and tests are tables.py's job.

It writes ``scores.csv`` (a row per face and entry), ``consistency.csv`` (FCR: a row per face, entry and ordered pair of styles) and ``results.json`` (what was
evaluated with what). Every row carries the data set's hash, the recogniser and the protocol.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from ifrp_bench.errors import InputError
from ifrp_bench.metrics.psnr import psnr_db
from ifrp_bench.metrics.retrieval import Ranks, rank_queries
from ifrp_bench.metrics.ssim import ssim, ssim_rgb
from ifrp_bench.nets.recogniser import Recogniser
from ifrp_bench.provenance import versions
from ifrp_bench.shards import Dataset, Shard, read_recovered, read_shard
from ifrp_bench.stylize import SEEN
from ifrp_bench.weights import write_whole

PROTOCOL = "ifrp-1"   # of every metric here; a change that moves a number changes it
METRICS = ("psnr", "ssim", "frr", "fcr")
RETRIEVAL = ("frr", "fcr")


@dataclass(frozen=True)
class Entry:
    """One row group of the tables: a method's recovered faces under a condition, in ``folder`` as shards of the split's names."""

    method: str
    run: str
    condition: str
    folder: Path


@dataclass(frozen=True)
class Faces:
    """A test split in memory: one row per SF, and the gallery of real faces with its identities."""

    frame: pd.DataFrame   # style, seen, face, identity, and ``own``: the gallery's row of the face
    gallery: np.ndarray   # uint8 (m, 128, 128, 3)
    identity: np.ndarray   # (m,)
    shards: list[tuple[str, int]]   # name and rows


def evaluate(
    entries: Iterable[Entry], data: Dataset, out: Path, *, metrics: Iterable[str] = METRICS, recogniser: Recogniser | None = None, split: str = "test",
    quiet: bool = False,
) -> pd.DataFrame:
    """Score every entry and write the results into ``out``; gives the scores.

    ``metrics`` are some of ``METRICS``; only what they need is computed. Raises InputError for an unknown metric, retrieval without a recogniser, and
    recovered shards that are missing, broken or of another length: nothing is written then.
    """
    wanted = _checked(metrics, recogniser)
    faces = load_faces(data, split)
    embedder = Embedder(recogniser, out / "embeddings") if recogniser and any(name in RETRIEVAL for name in wanted) else None
    gallery = embedder.embed(faces.gallery) if embedder else None
    facts = {"data_sha256": data.sha256, "recogniser": recogniser.name if recogniser else "", "protocol": PROTOCOL, "version": versions()["ifrp-bench"]}
    scores: list[pd.DataFrame] = []
    consistency: list[pd.DataFrame] = []
    described: list[dict[str, Any]] = []
    for entry in tqdm(list(entries), desc="evaluate", unit="entry", disable=quiet):
        recovered = np.concatenate([read_recovered(entry.folder / name, rows=rows) for name, rows in faces.shards])
        who = {"method": entry.method, "run": entry.run, "condition": entry.condition, "split": split}
        table = faces.frame.drop(columns="own").assign(**who)
        table = table.assign(**picture_scores(recovered, faces, wanted))
        described.append(who)
        if embedder and gallery is not None:
            embedded = embedder.embed(recovered)
            if "frr" in wanted:
                ranks = rank_queries(embedded, gallery, faces.frame["own"].to_numpy(), groups=faces.identity)
                table = table.assign(rank=ranks.rank, hit_top5=ranks.hit, cosine=ranks.cosine)
                described[-1] = who | {"retrieval_ties": ranks.ties}
            if "fcr" in wanted:
                consistency += [frame.assign(**who, **facts) for frame in consistent(embedded, faces.frame)]
        scores.append(table.assign(**facts))
    result = pd.concat(scores, ignore_index=True)
    _write(out, result, consistency, {"metrics": list(wanted), "split": split, "entries": described, "versions": versions()} | facts | (
        {"recogniser_sha256": recogniser.sha256} if recogniser else {}))
    return result


def _checked(metrics: Iterable[str], recogniser: Recogniser | None) -> tuple[str, ...]:
    wanted = tuple(metrics)
    for name in wanted:
        if name not in METRICS:
            raise InputError(f"metric {name!r} is none of {', '.join(METRICS)}")
    if recogniser is None and any(name in RETRIEVAL for name in wanted):
        raise InputError("frr and fcr need a recogniser: --recogniser facenet (fetched before) or an .onnx file with its card; psnr and ssim do not")
    return wanted


def load_faces(data: Dataset, split: str) -> Faces:
    """The split's rows and gallery. Raises ShardError for shards that are not as the data set says."""
    shards: list[tuple[str, Shard]] = [(path.name, read_shard(path, sha256=data.info["shards"][path.name]["sha256"])) for path in data.shards(split)]
    if not shards:
        raise InputError(f"{data.root}: the split {split!r} has no pairs")
    starts = np.cumsum([0, *(len(shard.real) for _, shard in shards)])
    frame = pd.DataFrame({
        "style": np.concatenate([shard.style.astype(str) for _, shard in shards]),
        "face": np.concatenate([shard.face.astype(str) for _, shard in shards]),
        "identity": np.concatenate([shard.identity for _, shard in shards]),
        "own": np.concatenate([shard.real_index + start for (_, shard), start in zip(shards, starts)]),
    })
    frame.insert(1, "seen", frame["style"].isin(data.info["recipe"].get("train_styles", SEEN)))
    gallery = np.concatenate([shard.real for _, shard in shards])
    identity = np.zeros(len(gallery), dtype=np.int64)
    identity[frame["own"]] = frame["identity"]
    return Faces(frame, gallery, identity, [(name, len(shard.stylized)) for name, shard in shards])


def picture_scores(recovered: np.ndarray, faces: Faces, metrics: Iterable[str]) -> dict[str, np.ndarray]:
    """``psnr_db``, ``ssim`` and ``ssim_rgb`` of each row, as far as they are asked for; in float64 on the CPU, whatever the method ran on."""
    real = torch.from_numpy(faces.gallery)
    own = torch.tensor(faces.frame["own"].to_numpy())
    pairs = [(part, real[index]) for part, index in zip(torch.from_numpy(recovered).split(512), own.split(512))]
    functions: dict[str, dict[str, Any]] = {"psnr": {"psnr_db": psnr_db}, "ssim": {"ssim": ssim, "ssim_rgb": ssim_rgb}}
    return {
        column: torch.cat([function(x, y) for x, y in pairs]).numpy()
        for metric in metrics if metric in functions for column, function in functions[metric].items()
    }


def consistent(embedded: np.ndarray, frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """FCR's rows: for every ordered pair of styles, where the same face stands among those recovered from the other style."""
    rows = {style: group.index.to_numpy() for style, group in frame.groupby("style", sort=False)}
    for query, gallery in permutations(rows, 2):
        identity, among = (frame["identity"].to_numpy()[rows[style]] for style in (query, gallery))
        by_face = {face: number for number, face in enumerate(frame["face"].to_numpy()[rows[gallery]])}
        truth = np.array([by_face[face] for face in frame["face"].to_numpy()[rows[query]]])
        ranks: Ranks = rank_queries(embedded[rows[query]], embedded[rows[gallery]], truth, groups=among)
        yield pd.DataFrame({
            "query_style": query, "gallery_style": gallery, "face": frame["face"].to_numpy()[rows[query]], "identity": identity, "rank": ranks.rank,
            "hit_top5": ranks.hit,
        })


class Embedder:
    """A recogniser whose embeddings are kept on disk, under a key of the faces' bytes and the recogniser's."""

    def __init__(self, recogniser: Recogniser, folder: Path) -> None:
        self.recogniser, self.folder = recogniser, folder

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """float32 (N, D) of uint8 (N, 128, 128, 3)."""
        text = f"{self.recogniser.name} {self.recogniser.sha256} {PROTOCOL} {faces.shape}".encode()
        key = hashlib.sha256(text + hashlib.sha256(np.ascontiguousarray(faces).tobytes()).digest()).hexdigest()
        path = self.folder / f"{key[:32]}.npy"
        if path.is_file():
            try:
                return np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError):
                path.unlink()   # cut short by a kill elsewhere: computed again
        embedded = self.recogniser.embed(faces)
        if not np.isfinite(embedded).all():
            raise InputError(f"the recogniser {self.recogniser.name} gives values that are not finite")
        buffer = io.BytesIO()
        np.save(buffer, embedded, allow_pickle=False)
        write_whole(path, buffer.getvalue())
        return embedded


def _write(out: Path, scores: pd.DataFrame, consistency: list[pd.DataFrame], facts: dict[str, Any]) -> None:
    write_whole(out / "scores.csv", scores.to_csv(index=False, float_format="%.10g").encode())
    if consistency:
        write_whole(out / "consistency.csv", pd.concat(consistency, ignore_index=True).to_csv(index=False).encode())
    else:
        (out / "consistency.csv").unlink(missing_ok=True)
    write_whole(out / "results.json", (json.dumps(facts, indent=1) + "\n").encode())   # last
