"""Shards: what is written is read, equal columns give equal bytes, and damage is named."""

import json
import time

import numpy as np
import pytest

from ifrp_bench.data.format import (
    SCHEMA, Shard, ShardError, encode_shard, open_dataset, read_shard, write_shard,
)


def make(pairs: int = 6) -> Shard:
    draws = np.random.default_rng(0)
    return Shard(
        stylized=draws.integers(0, 256, (pairs, 128, 128, 3), dtype=np.uint8),
        real=draws.integers(0, 256, (2, 128, 128, 3), dtype=np.uint8),
        real_index=np.repeat(np.arange(2, dtype=np.int32), pairs // 2),
        style=np.array([b"candy", b"mosaic", b"udnie"] * 2),
        face=np.array([b"a b.jpg"] * pairs),
        identity=np.arange(pairs, dtype=np.int32),
        warp=draws.random((pairs, 2, 3)).astype(np.float32),
    )


def test_columns_come_back_as_they_were(tmp_path):
    shard = make()
    entry = write_shard(tmp_path / "s.h5", shard)
    back = read_shard(tmp_path / "s.h5", sha256=entry["sha256"])
    for name in Shard.__dataclass_fields__:
        column = getattr(back, name)
        assert np.array_equal(column, getattr(shard, name)) and column.dtype == getattr(shard, name).dtype
    assert (entry["pairs"], entry["faces"]) == (6, 2) and entry["bytes"] == (tmp_path / "s.h5").stat().st_size


def test_equal_columns_give_equal_bytes_at_any_time():
    first = encode_shard(make())
    time.sleep(1.1)   # HDF5 keeps times in whole seconds
    assert encode_shard(make()) == first


def test_pictures_are_chunked_one_by_one_and_checked(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_shard(tmp_path / "s.h5", make())
    with h5py.File(tmp_path / "s.h5") as file:
        for name in ("stylized", "real"):
            assert (
                file[name].chunks == (1, 128, 128, 3)
                and file[name].fletcher32
                and file[name].compression is None
            )


def test_every_kind_of_damage_is_named(tmp_path):
    path = tmp_path / "s.h5"
    entry = write_shard(path, make())
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for data in (whole[:-1000], bytes(flipped), b"", b"<html>"):
        path.write_bytes(data)
        with pytest.raises(ShardError, match="sha256 differs"):
            read_shard(path, sha256=entry["sha256"])
    for data in (whole[:5000], bytes(flipped), b"<html>"):
        path.write_bytes(data)
        with pytest.raises(ShardError, match="broken HDF5"):
            read_shard(path)
    with pytest.raises(ShardError, match="cannot be read"):
        read_shard(tmp_path / "missing.h5")


@pytest.mark.parametrize(
    "change, reason",
    [
        (dict(real_index=np.full(6, 9, np.int32)), "real_index points outside"),
        (dict(warp=np.full((6, 2, 3), np.nan, np.float32)), "not finite"),
        (dict(identity=np.arange(5, dtype=np.int32)), "identity is int32"),
        (dict(stylized=np.zeros((6, 64, 64, 3), np.uint8)), "stylized is uint8"),
        (dict(warp=np.zeros((6, 2, 3))), "warp is float64"),
    ],
)
def test_columns_that_do_not_fit_are_named(tmp_path, change, reason):
    shard = make()
    write_shard(
        tmp_path / "s.h5",
        Shard(**{name: change.get(name, getattr(shard, name)) for name in Shard.__dataclass_fields__}),
    )
    with pytest.raises(ShardError, match=reason):
        read_shard(tmp_path / "s.h5")


def test_another_schema_version_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_shard(tmp_path / "s.h5", make())
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file.attrs["schema"] = SCHEMA + 1
    with pytest.raises(ShardError, match=f"schema version {SCHEMA + 1}"):
        read_shard(tmp_path / "s.h5")


@pytest.mark.parametrize(
    "text, reason",
    [
        (None, "no data set here"),
        ("{", "not readable"),
        ("[]", "schema version"),
        (json.dumps({"schema": 1}), "is missing"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ShardError, match=reason):
        open_dataset(tmp_path)
