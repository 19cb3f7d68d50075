"""How well recognisers tell the people of photographs apart: area under the ROC curve and rank-1 under the
fixed crop, and seconds a face.

    python -m benchmarks.judges data/lfw dlib mobilefacenet.onnx

Of the data set's training people each with two photographs or more gives one as query and one to the
gallery: no judge here was trained on a data set of this project's.
"""

import sys
import time
from pathlib import Path

import numpy as np

from ifrp_bench.data.format import open_dataset
from ifrp_bench.ground.ranks import cosines_of, rank_queries, roc_auc
from ifrp_bench.nets.recogniser import open_recogniser

PEOPLE = 1000   # at most


def main(root: Path, names: list[str]) -> None:
    """Print a line a judge."""
    data = open_dataset(root)
    faces, identity = [], []
    for path in data.shards("train"):
        shard = data.read(path)
        first = np.unique(shard.real_index, return_index=True)[1]
        faces.append(shard.real)
        identity.append(shard.identity[first])
    real, who = np.concatenate(faces), np.concatenate(identity)
    people = [np.flatnonzero(who == one)[:2] for one in np.unique(who)]
    queries, gallery = np.array([rows for rows in people if len(rows) == 2][:PEOPLE]).T
    for name in names:
        judge = open_recogniser(name)
        started = time.perf_counter()
        query, known = judge.embed(real[queries]), judge.embed(real[gallery])
        seconds = (time.perf_counter() - started) / (2 * len(queries))
        scores = cosines_of(query, known)
        same = np.eye(len(query), dtype=bool)
        rank = rank_queries(query, known, np.arange(len(query))).rank
        print(
            f"{judge.name}: {len(query)} people, AUC {roc_auc(scores[same], scores[~same]):.4f}, rank-1"
            f" {100 * (rank == 1).mean():.1f} %, {1000 * seconds:.1f} ms a face"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
