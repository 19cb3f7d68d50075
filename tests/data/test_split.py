"""A split in memory holds its pictures once; one that is looked into is read a few shards at a time."""

import json
import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from ifrp_bench.data.format import Dataset, ShardError, open_dataset
from ifrp_bench.data.split import LookedInto, load_split
from ifrp_bench.methods import Setup
from ifrp_bench.methods.nearest_face import Config, build


@pytest.fixture
def data(tiny):
    return open_dataset(tiny)


def test_a_split_is_its_shards_in_order(data):
    shards = [data.read(path) for path in data.shards("train")]
    split = load_split(data, "train", "cpu")
    assert len(shards) > 1 and np.array_equal(split.stylized, np.concatenate([s.stylized for s in shards]))
    shown = np.concatenate([shard.real[shard.real_index] for shard in shards])
    assert np.array_equal(split.real[split.real_index], shown)
    assert split.style.tolist() == [style.decode() for shard in shards for style in shard.style]


def test_what_is_looked_into_is_the_split(data):
    split, looked = load_split(data, "train", "cpu"), LookedInto(data, "train", "cpu")
    for name in ("stylized", "real", "real_index", "mean_face"):
        assert torch.equal(getattr(split, name), getattr(looked, name)), name
    for training in (split, looked):
        assert torch.equal(torch.cat(list(training.stylized_parts())), split.stylized)
    faces = [build(Config(), Setup(training=training)).recover(split.pairs(torch.arange(8)).stylized)
             for training in (split, looked)]
    assert torch.equal(*faces)


def test_loading_takes_the_splits_memory_and_a_few_shards(data, monkeypatch):
    shard = data.read(data.shards("train")[0])
    entry = {"split": "train", "pairs": len(shard.stylized), "faces": len(shard.real)}
    many = Dataset(data.root, {"shards": {f"train-{number:05d}.h5": entry for number in range(100)}})
    monkeypatch.setattr(
        Dataset, "read", lambda self, path: replace(shard, stylized=shard.stylized + 0, real=shard.real + 0)
    )
    tracemalloc.start()
    try:
        split = load_split(many, "train", "cpu")
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert split.stylized.nbytes + split.real.nbytes <= held <= peak < 1.2 * held


def test_a_shard_of_another_length_than_the_data_set_says_is_named(tiny, tmp_path):
    out = tmp_path / "data"
    shutil.copytree(tiny, out)
    info = json.loads((out / "dataset.json").read_text())
    info["shards"]["train-00001.h5"]["pairs"] += 1
    (out / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(ShardError, match="train-00001.h5: .* pairs of .* faces, dataset.json says"):
        load_split(open_dataset(out), "train", "cpu")
