"""Metrics, one module each, which ends with its declaration ``METRIC``; its name is the name on the command
line.

A metric has one of three kinds, which says what it is given:

* ``picture``: ``score(recovered, real)`` of uint8 (N, 128, 128, 3) faces: a value per face;
* ``retrieval``: ``score(embedded)`` of what a face recogniser made of all faces of an entry;
* ``set``: ``features(faces)``, kept, and ``score(features, real_features)`` of two sets of faces: a value per
  set.

Averages, intervals and tests over a split are ``results/``' business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

Columns = Mapping[str, np.ndarray]   # by name, a value a face


JUDGED_BY = "@"   # between a column's name and the second or later recogniser whose it is


@dataclass(frozen=True)
class Column:
    """One column that a metric writes. ``name`` is its name in ``scores.csv``, with its unit.

    ``label`` is what tables call it; empty: it is in no table. With ``lower`` less is better. ``hits`` are
    yes or no: tables have them in per cent and compare them by McNemar's test. ``ours``: the paper has no
    such column; ``also`` names further tables in which it stands as one of ours. Chance, which tables print,
    is
    ``far`` for a column that accepts so much by chance, and ``top`` of the people for one whose hit is to be
    among so many.
    """

    name: str
    label: str = ""
    unit: str = ""
    digits: int = 2
    lower: bool = False
    hits: bool = False
    ours: bool = False
    also: tuple[str, ...] = ()
    top: int = 0
    far: float = 0.0

    def judged_by(self, recogniser: str) -> "Column":
        """The same column of a further recogniser."""
        label = f"{self.label} ({recogniser})" if self.label else ""
        return replace(self, name=f"{self.name}{JUDGED_BY}{recogniser}", label=label)


@dataclass(frozen=True)
class Embedded:
    """What retrieval metrics see: embeddings of unit length, float32, of every recovered face and of the
    gallery.

    ``queries`` (N, D) are recovered faces; of each, ``own`` (N,) is the gallery's row of its real face, and
    ``style``, ``seen``, ``face`` and ``person`` (N,) say what it is. ``gallery`` (M, D) are real faces of the
    people ``identity`` (M,), called ``names``.
    """

    queries: np.ndarray
    own: np.ndarray
    style: np.ndarray
    seen: np.ndarray
    face: np.ndarray
    person: np.ndarray
    gallery: np.ndarray
    identity: np.ndarray
    names: list[str]


@dataclass(frozen=True)
class Retrieved:
    """What a retrieval metric returns: ``columns`` of a value per recovered face, or ``pairs``, a row per
    face and ordered pair of styles (a pandas frame); ``facts`` for ``results.json``.
    """

    columns: Columns = field(default_factory=dict)
    pairs: Any = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class Scorer(Protocol):
    """An opened metric. ``sha256`` is of the weights that it reads; empty for one that reads none."""

    @property
    def sha256(self) -> str:
        """Of its weights."""
        ...

    @property
    def score(self) -> Callable[..., Any]:
        """What the metric's kind says."""
        ...


@dataclass(frozen=True)
class Plain:
    """The scorer of a metric that needs nothing opened."""

    score: Callable[..., Any]
    sha256: str = ""


@dataclass(frozen=True)
class Metric:
    """The declaration of a metric: ``METRIC`` at the end of its module. One of ``score`` and ``open`` is
    given.

    * ``score``: the function that its kind says, for a metric that needs nothing opened;
    * ``open``: opens what it needs (weights, an extra) and returns a ``Scorer``; raises InputError where that
      is not there;
    * ``default``: it is computed when no metrics are named;
    * ``table``: the table of the paper in which its columns stand, or one of its own; ``everywhere``: also in
      the tables by condition and by style, and in the heat maps;
    * ``pairs``: its rows are of faces and ordered pairs of styles;
    * ``place``: its order among the metrics; those of a user's own come last.
    """

    kind: Literal["picture", "retrieval", "set"]
    columns: tuple[Column, ...]
    score: Callable[..., Any] | None = field(default=None, kw_only=True)
    open: Callable[[], Scorer] | None = field(default=None, kw_only=True)
    default: bool = field(default=False, kw_only=True)
    table: str = field(default="", kw_only=True)
    everywhere: bool = field(default=True, kw_only=True)
    pairs: bool = field(default=False, kw_only=True)
    place: int = field(default=1000, kw_only=True)

    def opened(self) -> Scorer:
        """Ready to score."""
        if self.open:
            return self.open()
        assert self.score
        return Plain(self.score)
