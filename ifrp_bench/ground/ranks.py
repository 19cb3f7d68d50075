"""Face retrieval and verification on embeddings of unit length, compared by cosine (specification, section
7): exact, in chunks.

* FRR, face retrieval ratio: the right person among the five most similar real faces;
* FCR, face consistency ratio: the right person among the five most similar faces recovered from another
  style;
* VR@FAR: the part of genuine scores above the threshold that a part of all impostor scores exceeds.
"""

from dataclasses import dataclass

import numpy as np

TOP = 5   # [P]
FAR = 0.001   # [P] the false-accept rate at which verification is reported
CHUNK = 1024   # queries at a time
DIGITS = 6   # of cosines: float32's last digit depends on the machine, and equal faces are to tie everywhere


@dataclass(frozen=True)
class Ranks:
    """Where the right person stands for each query: ``rank`` int64 (N,) from 1, ``cosine`` float32 (N,) to
    the right face, ``nearest`` int64 (N, 5 or fewer) the gallery's rows in order, ``ties`` how many
    queries had another face with exactly the right one's score.
    """

    rank: np.ndarray
    cosine: np.ndarray
    nearest: np.ndarray
    ties: int

    @property
    def hit(self) -> np.ndarray:
        """Whether the right person is among the five nearest, bool (N,)."""
        return self.rank <= TOP


def cosines_of(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(n, M) of unit vectors (n, D) and (M, D), rounded to six decimals."""
    return np.round(queries @ gallery.T, DIGITS)


def rank_queries(
    queries: np.ndarray, gallery: np.ndarray, truth: np.ndarray, *, groups: np.ndarray | None = None
) -> Ranks:
    """Rank of ``gallery[truth[i]]`` among all of the gallery (M, D) for ``queries[i]`` (N, D). Of equal
    scores the lower index stands first.

    With ``groups`` (M,), the identities of the gallery, other faces of the right person do not stand in the
    way.
    """
    ranks, cosines, nearest, ties = [], [], [], 0
    for start in range(0, len(queries), CHUNK):
        wanted = truth[start:start + CHUNK]
        scores = cosines_of(queries[start:start + CHUNK], gallery)
        own = scores[np.arange(len(wanted)), wanted]
        if groups is not None:
            others = groups[None] == groups[wanted][:, None]
            others[np.arange(len(wanted)), wanted] = False
            scores[others] = -np.inf
        above = scores > own[:, None]
        equal = scores == own[:, None]
        before = equal & (np.arange(len(gallery)) < wanted[:, None])
        ranks.append(1 + above.sum(1) + before.sum(1))
        cosines.append(own)
        nearest.append(_highest(scores, min(TOP, len(gallery))))
        ties += int((equal.sum(1) > 1).sum())
    return Ranks(np.concatenate(ranks), np.concatenate(cosines), np.concatenate(nearest), ties)


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    """The columns of each row's highest scores in order, (n, count); of equal scores the lower index first.
    """
    least = np.partition(scores, -count, axis=1)[:, -count]
    rows = []
    for row, limit in zip(scores, least):
        among = np.flatnonzero(row >= limit)
        rows.append(among[np.argsort(-row[among], kind="stable")[:count]])
    return np.stack(rows)


def match_characteristic(rank: np.ndarray, up_to: int = 50) -> np.ndarray:
    """CMC: the part of queries whose right face is among the k nearest, for k from 1, float64 (up_to,)."""
    return np.array([(rank <= k).mean() for k in range(1, up_to + 1)])


def threshold_at(impostor: np.ndarray, far: float = FAR) -> float:
    """The smallest threshold above which at most ``far`` of the impostor scores are.

    -inf where there are none.
    """
    return float(np.sort(impostor, axis=None)[-1 - int(far * impostor.size)]) if impostor.size else -np.inf


def verification_rate(genuine: np.ndarray, impostor: np.ndarray, far: float = FAR) -> tuple[float, float]:
    """The part of genuine scores above the threshold, and the threshold."""
    threshold = threshold_at(impostor, far)
    return float((genuine > threshold).mean()), threshold


def verified(
    queries: np.ndarray, gallery: np.ndarray, truth: np.ndarray, identity: np.ndarray, far: float = FAR
) -> np.ndarray:
    """Whether each query (N, D) passes as the person of ``gallery[truth[i]]``, bool (N,): its score is above
    the threshold that at most ``far`` of all impostor scores, queries against the faces of other people,
    exceed. ``identity`` (M,) is the gallery's.
    """
    genuine, impostor = [], []
    for start in range(0, len(queries), CHUNK):
        wanted = truth[start:start + CHUNK]
        scores = cosines_of(queries[start:start + CHUNK], gallery)
        genuine.append(scores[np.arange(len(wanted)), wanted])
        impostor.append(scores[identity[None] != identity[wanted][:, None]])
    return np.concatenate(genuine) > threshold_at(np.concatenate(impostor), far)


def roc_auc(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Probability that a genuine score is above an impostor one (Mann-Whitney U)."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(genuine, impostor).statistic / (len(genuine) * len(impostor)))
