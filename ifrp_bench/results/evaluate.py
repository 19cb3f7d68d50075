"""Stage 4: recovered and real faces -> one row of scores per recovered face. Averages, intervals and tests
are the tables' job.

It writes ``scores.csv`` (a row per face and entry), ``consistency.csv`` (FCR: a row per face, entry and
ordered pair of styles), ``sets.csv`` (FID and KID, where asked for) and ``results.json`` (what was evaluated
with what). Every row carries the data set's hash, the recogniser and the protocol. What takes time, scores of
pictures and embeddings, is kept shard by shard: several processes share the shards, and a run that was
stopped is resumed.
"""

import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import filterfalse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ifrp_bench import __version__, parts
from ifrp_bench.data.format import Dataset, read_recovered
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import write_whole
from ifrp_bench.ground.processes import Processes
from ifrp_bench.ground.provenance import versions
from ifrp_bench.ground.workers import on_threads
from ifrp_bench.metrics import JUDGED_BY, Columns, Embedded, Metric, Scorer
from ifrp_bench.nets.recogniser import Recogniser, probe_face
from ifrp_bench.results.statistics import GROUPS

PROTOCOL = "ifrp-1"   # of every metric here; a change that moves a number changes it
FACES_AT_ONCE = 64   # that a thread scores at a time
# what tells the rows of faces and pairs of styles from one another
PAIR_KEYS = ("query_style", "gallery_style", "query_seen", "gallery_seen", "face", "identity")

Key = list[bytes | np.ndarray]   # everything that a kept array depends on


@dataclass(frozen=True)
class Entry:
    """One row group of the tables: a method's recovered faces under a condition, in ``folder`` as shards of
    the split's names.

    ``headline`` says that this is the condition under which the method stands in a paper's table; ``note``
    what a reader must know; ``trained_on`` the styles of its training, each with its number of pictures
    (None: not known); ``mirrored`` whether they are the mean of both sides of each face.
    """

    method: str
    run: str
    condition: str
    folder: Path
    headline: bool = True
    note: str = ""
    trained_on: dict[str, int] | None = None
    mirrored: bool = False

    @property
    def key(self) -> dict[str, str]:
        """What tells its rows from others'."""
        return {"method": self.method, "run": self.run, "condition": self.condition}


@dataclass(frozen=True)
class Place:
    """Where a shard stands: its rows among all SFs, and its part of the gallery."""

    rows: slice
    people: slice


@dataclass(frozen=True)
class Gallery:
    """A test split without its stylized pictures: one row per SF, and
    the gallery of real faces with its identities.
    """

    frame: pd.DataFrame   # style, seen, face, identity, and ``own``: the gallery's row of the face
    faces: np.ndarray   # uint8 (m, 128, 128, 3)
    identity: np.ndarray   # (m,)
    shards: dict[str, Place]

    def own_of(self, name: str) -> np.ndarray:
        """The gallery's row of each SF of a shard."""
        return self.frame["own"].to_numpy()[self.shards[name].rows]

    def of_shard(self, name: str) -> np.ndarray:
        """The real faces of a shard, each once."""
        return self.faces[self.shards[name].people]

    def embedded(self, queries: np.ndarray, known: np.ndarray, asked: pd.DataFrame) -> Embedded:
        """What retrieval metrics see: embeddings of the rows ``asked`` of its frame, and of its faces."""
        return Embedded(
            queries=queries,
            own=asked["own"].to_numpy(),
            style=asked["style"].to_numpy(),
            seen=asked["seen"].to_numpy(),
            face=asked["face"].to_numpy(),
            person=asked["identity"].to_numpy(),
            gallery=known,
            identity=self.identity,
            names=self.names(),
        )

    def names(self) -> list[str]:
        """What each of its faces is called."""
        names = [""] * len(self.faces)
        for row, name in zip(self.frame["own"], self.frame["face"]):
            names[row] = name
        return names


def evaluate(
    entries: Iterable[Entry], data: Dataset, out: Path, *,
    metrics: Iterable[str] | None = None,
    recogniser: Recogniser | Sequence[Recogniser] | None = None,
    split: str = "test",
    processes: Processes | None = None,
    quiet: bool = False,
) -> pd.DataFrame:
    """Score every entry and write the results into ``out``; returns the scores.

    Of several processes the first has them, the others an empty frame. ``metrics`` are names of the catalogue
    or files of the user's own; only what they need is computed. Of several recognisers the first has the
    columns of that name, each further one its own: ``rank@dlib``. Raises InputError for an unknown metric,
    retrieval without a recogniser, two of one name, and recovered shards that are missing, broken or of
    another length: nothing is written then.
    """
    wanted = named_metrics(parts.default_metrics() if metrics is None else metrics)
    judges = _listed(recogniser)
    check_recognisers(wanted, judges)
    processes = processes or Processes("cpu")
    entries, gallery = list(entries), load_gallery(data, split)
    scoring = _Scoring(gallery, data.sha256, wanted, judges, out / "kept")

    # what takes time, shard by shard, shared by the processes
    work: list[tuple[Entry | None, str]] = [
        (entry, name) for entry in [None, *entries] for name in gallery.shards
    ]
    mine = work[processes.rank::processes.world]
    for entry, name in tqdm(mine, desc="evaluate", unit="shard", disable=quiet or not processes.first):
        scoring.prepare(entry, name)
    processes.wait()
    if not processes.first:
        return pd.DataFrame()

    # put together, entry by entry
    facts = {
        "data_sha256": data.sha256,
        "recogniser": "+".join(judge.name for judge in judges),
        "protocol": PROTOCOL,
        "version": __version__,
    }
    tables: dict[str, list[pd.DataFrame]] = {"scores": [], "consistency": [], "sets": []}
    described = []
    for entry in entries:
        scored = scoring.scored(entry)
        for name, frame in scored.frames.items():
            headline = {} if name == "sets" else {"headline": entry.headline}
            tables[name].append(frame.assign(**entry.key, split=split, **headline, **facts))
        about = {
            "headline": entry.headline,
            "note": entry.note,
            "recovered": str(entry.folder.resolve()),
            "trained_on": entry.trained_on,
            "mirrored": entry.mirrored,
        }
        described.append({**entry.key, "split": split, **about, **scored.facts})

    joined = {name: pd.concat(frames, ignore_index=True) for name, frames in tables.items() if frames}
    _write(out, joined, {
        "data": data.root.name,
        "data_folder": str(data.root.resolve()),
        "metrics": list(wanted),
        "columns": {name: [asdict(column) for column in metric.columns] for name, metric in wanted.items()},
        "split": split,
        "entries": described,
        "versions": versions(),
        "recognisers": [_about(judge) for judge in judges],
    } | facts)
    return joined["scores"]


def _listed(recognisers: Recogniser | Sequence[Recogniser] | None) -> list[Recogniser]:
    """One, several or none, as a list."""
    if recognisers is None:
        return []
    return list(recognisers) if isinstance(recognisers, Sequence) else [recognisers]


def _about(recogniser: Recogniser) -> dict[str, Any]:
    """Its file, and the beginning of what it returns for the picture
    of the self-test, for a reader with doubts.
    """
    test = recogniser.embed(probe_face())[0][:8]
    return {
        "name": recogniser.name,
        "sha256": recogniser.sha256,
        "test": [round(float(value), 5) for value in test],
    }


def named_metrics(names: Iterable[str]) -> dict[str, Metric]:
    """The metrics of these names, in this order.

    Raises InputError for one that there is not, and for none at all.
    """
    wanted = {name: parts.metric(name) for name in names}
    if not wanted:
        raise InputError(f"no metric: name some of {', '.join(parts.metrics())}")
    return wanted


def needs_recogniser(metrics: Mapping[str, Metric]) -> bool:
    """Whether any of them is a retrieval metric."""
    return any(metric.kind == "retrieval" for metric in metrics.values())


def check_recognisers(metrics: Mapping[str, Metric], judges: Sequence[Recogniser]) -> None:
    """Raises InputError for retrieval without a recogniser, and for two of one name."""
    if not judges and needs_recogniser(metrics):
        names = [name for name, metric in parts.metrics().items() if metric.kind == "retrieval"]
        needed = f"{', '.join(names[:-1])} and {names[-1]} need a recogniser"
        raise InputError(f"{needed}: builtin, facenet, dlib or an .onnx file with its card")
    for name, count in Counter(judge.name for judge in judges).items():
        if count > 1:
            raise InputError(
                f"{count} recognisers are called {name}: their columns could not be told apart; name each"
                " once, or give one another name in its card"
            )


def load_gallery(data: Dataset, split: str) -> Gallery:
    """The split's rows and gallery.

    Raises ShardError for shards that are not as the data set says, InputError for a split without pairs.
    """
    frames, galleries, shards = [], [], {}
    rows = people = 0
    for path in data.shards(split):
        shard = data.read(path)
        frames.append(pd.DataFrame({
            "style": np.char.decode(shard.style, "utf-8"),
            "face": np.char.decode(shard.face, "utf-8"),
            "identity": shard.identity,
            "own": shard.real_index.astype(np.int64) + people,
        }))
        galleries.append(shard.real)
        ends = rows + len(shard.stylized), people + len(shard.real)
        shards[data.name_of(path)] = Place(slice(rows, ends[0]), slice(people, ends[1]))
        rows, people = ends
    if not shards:
        raise InputError(f"{data.root}: the split {split!r} has no pairs")
    frame = pd.concat(frames, ignore_index=True)
    frame.insert(1, "seen", frame["style"].isin(data.seen))
    identity = np.zeros(people, dtype=np.int64)
    identity[frame["own"]] = frame["identity"]
    return Gallery(frame, np.concatenate(galleries), identity, shards)


@dataclass(frozen=True)
class _Scored:
    """An entry's rows for ``scores``, ``consistency`` and ``sets``, and facts for ``results.json``."""

    frames: dict[str, pd.DataFrame]
    facts: dict[str, Any]


class _Scoring:
    """Scores of entries, shard by shard and kept; ``prepare`` computes a
    shard's part, ``scored`` puts an entry's parts together.
    """

    def __init__(
        self,
        gallery: Gallery,
        data_sha256: str,
        metrics: Mapping[str, Metric],
        judges: Sequence[Recogniser],
        kept: Path,
    ) -> None:
        self.gallery, self.data_sha256, self.kept = gallery, data_sha256, kept
        self.judges = judges if needs_recogniser(metrics) else []
        self.columns = {name: {column.name for column in metric.columns} for name, metric in metrics.items()}
        self.scorers: dict[str, dict[str, Scorer]] = {"picture": {}, "retrieval": {}, "set": {}}
        for name, metric in metrics.items():
            self.scorers[metric.kind][name] = metric.opened()
        in_order = sorted(self.scorers["retrieval"], key=lambda name: metrics[name].place)
        self.scorers["retrieval"] = {name: self.scorers["retrieval"][name] for name in in_order}
        self._gallery_embedded: dict[str, np.ndarray] = {}   # by recogniser

    def prepare(self, entry: Entry | None, name: str) -> None:
        """What is kept of a shard of an entry, or, without one, of the gallery."""
        faces = self.gallery.of_shard(name) if entry is None else self._recovered(entry, name)
        for judge in self.judges:
            self._embed(judge, faces)
        for scorer in self.scorers["set"].values():
            self._features(scorer, faces)
        if entry is not None:
            for metric in filterfalse(_is_own, self.scorers["picture"]):
                self._picture_scores(metric, faces, name)

    def scored(self, entry: Entry) -> _Scored:
        """Its rows, put together from the parts that are kept."""
        table = self.gallery.frame.drop(columns="own")
        recovered = {name: self._recovered(entry, name) for name in self.gallery.shards}
        for metric in self.scorers["picture"]:
            by_shard = [self._picture_scores(metric, faces, name) for name, faces in recovered.items()]
            for column in by_shard[0]:
                table[column] = np.concatenate([columns[column] for columns in by_shard])

        # each recogniser's columns; the first one's have plain names
        frames, facts = {"scores": table}, {"retrieval_ties": 0}
        for judge in self.judges:
            suffix = "" if judge is self.judges[0] else JUDGED_BY + judge.name
            embedded = self._embedded(judge, [self._embed(judge, faces) for faces in recovered.values()])
            for scorer in self.scorers["retrieval"].values():
                found = scorer.score(embedded)
                for column, values in found.columns.items():
                    table[column + suffix] = values
                if found.pairs is not None:
                    frames["consistency"] = _beside(frames.get("consistency"), found.pairs, suffix)
                facts |= {name + suffix: value for name, value in found.facts.items()}
        if self.scorers["set"]:
            frames["sets"] = pd.DataFrame(list(self._set_scores(entry)))
        return _Scored(frames, facts)

    def _embedded(self, judge: Recogniser, queries: list[np.ndarray]) -> Embedded:
        """What retrieval metrics see of an entry whose shards' embeddings these are."""
        if judge.name not in self._gallery_embedded:
            embeddings = [self._embed(judge, self.gallery.of_shard(name)) for name in self.gallery.shards]
            self._gallery_embedded[judge.name] = np.concatenate(embeddings)
        known = self._gallery_embedded[judge.name]
        return self.gallery.embedded(np.concatenate(queries), known, self.gallery.frame)

    def _set_scores(self, entry: Entry) -> Iterator[dict[str, Any]]:
        """A row for the faces recovered from seen styles, one for those from unseen and one for those from
        open ones, against the gallery.
        """
        # each scorer's features of what was recovered and of the gallery, by shard
        features = []
        for scorer in self.scorers["set"].values():
            made = [self._features(scorer, self._recovered(entry, name)) for name in self.gallery.shards]
            real = [self._features(scorer, self.gallery.of_shard(name)) for name in self.gallery.shards]
            features.append((scorer, np.concatenate(made), np.concatenate(real)))

        for group, of_group in GROUPS.items():
            rows = of_group(self.gallery.frame).to_numpy()
            if not rows.any():
                continue
            scores: dict[str, Any] = {}
            for scorer, recovered, gallery in features:
                scores |= scorer.score(recovered[rows], gallery)
            yield {"group": group} | scores

    def _recovered(self, entry: Entry, name: str) -> np.ndarray:
        rows = self.gallery.shards[name].rows
        return read_recovered(entry.folder / name, rows=rows.stop - rows.start, data_sha256=self.data_sha256)

    def _picture_scores(self, metric: str, recovered: np.ndarray, name: str) -> Columns:
        scorer = self.scorers["picture"][metric]
        own = self.gallery.own_of(name)
        of_shard = self.gallery.faces[own.min():own.max() + 1]
        named = metric.encode() + scorer.sha256.encode()
        key: Key = [b"scores", named, PROTOCOL.encode(), recovered, own - own.min(), of_shard]

        def compute() -> Columns:
            columns = picture_scores(scorer, recovered, self.gallery.faces[own])
            if set(columns) != self.columns[metric]:
                declared = ", ".join(sorted(self.columns[metric]))
                raise InputError(
                    f"metric {metric} returns {', '.join(sorted(columns))}, its declaration says {declared}"
                )
            return columns

        return compute() if _is_own(metric) else _kept(self.kept, key, compute)

    def _features(self, scorer: Any, faces: np.ndarray) -> np.ndarray:
        """What a set metric compares faces by, (N, D)."""
        key: Key = [scorer.features_name.encode(), scorer.sha256.encode(), PROTOCOL.encode(), faces]
        return _kept(self.kept, key, lambda: {"features": scorer.features(faces)})["features"]

    def _embed(self, recogniser: Recogniser, faces: np.ndarray) -> np.ndarray:
        """float32 (N, D) of uint8 (N, 128, 128, 3)."""
        key: Key = [
            b"embedding",
            recogniser.name.encode(),
            recogniser.sha256.encode(),
            PROTOCOL.encode(),
            faces,
        ]
        kept = _kept(self.kept, key, lambda: {"embedding": _embed_distinct(recogniser, faces)})
        embedded = kept["embedding"]
        if not np.isfinite(embedded).all():
            raise InputError(f"the recogniser {recogniser.name} returns values that are not finite")
        return embedded


def _embed_distinct(recogniser: Recogniser, faces: np.ndarray) -> np.ndarray:
    """``recogniser.embed`` of each picture once: the mean face stands a thousand times in a row, the nearest
    of the training faces often.
    """
    digests = [hashlib.sha256(face.tobytes()).hexdigest() for face in faces]
    _, first, which = np.unique(digests, return_index=True, return_inverse=True)
    return recogniser.embed(faces[first])[which]


def _beside(first: pd.DataFrame | None, further: pd.DataFrame, suffix: str) -> pd.DataFrame:
    """The first recogniser's rows of faces and pairs of styles with the columns of a further one, whose rows
    are the same.
    """
    if first is None:
        return further
    own = [str(column) for column in further if column not in PAIR_KEYS]
    return first.assign(**{column + suffix: further[column].to_numpy() for column in own})


def _is_own(metric: str) -> bool:
    """Whether a metric is a file of the user's own: what it returns is not kept, since it may change."""
    return metric.endswith(".py")


def picture_scores(scorer: Scorer, recovered: np.ndarray, real: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of a picture metric for recovered and real faces,
    uint8 (N, 128, 128, 3) each, on one thread a core.
    """
    def one(start: int) -> Columns:
        rows = slice(start, start + FACES_AT_ONCE)
        return scorer.score(recovered[rows], real[rows])   # type: ignore[no-any-return]

    batches = on_threads(one, range(0, len(recovered), FACES_AT_ONCE))
    return {column: np.concatenate([columns[column] for columns in batches]) for column in batches[0]}


def _kept(folder: Path, key: Key, compute: Callable[[], Columns]) -> Columns:
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


def _write(out: Path, tables: Mapping[str, pd.DataFrame], facts: dict[str, Any]) -> None:
    """The results' files; one that this evaluation has no rows for
    is removed, since it would be of another one.
    """
    formats = {"scores": "%.10g", "consistency": None, "sets": "%.6g"}
    for name, digits in formats.items():
        path = out / f"{name}.csv"
        if name in tables:
            write_whole(path, tables[name].to_csv(index=False, float_format=digits).encode())
        else:
            path.unlink(missing_ok=True)
    write_whole(out / "results.json", (json.dumps(facts, indent=1) + "\n").encode())   # last
