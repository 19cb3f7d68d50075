"""Verification finds what was done to a data set, and names it."""

import json
import shutil
import weakref

import numpy as np
import pytest

from ifrp_bench.data.format import Dataset, Shard, read_shard, write_shard
from tests.conftest import run, sets


@pytest.fixture
def copy(tiny, tmp_path):
    out = tmp_path / "data"
    shutil.copytree(tiny, out)
    return out


def rewrite(out, name, **columns):
    """Replace columns of a shard and make its entry fit, as one would who wants to deceive."""
    shard = read_shard(out / name)
    changed = Shard(
        **{column: columns.get(column, getattr(shard, column)) for column in Shard.__dataclass_fields__}
    )
    info = json.loads((out / "dataset.json").read_text())
    info["shards"][name].update(write_shard(out / name, changed))
    (out / "dataset.json").write_text(json.dumps(info))
    return shard


def edit(out, change):
    info = json.loads((out / "dataset.json").read_text())
    change(info)
    (out / "dataset.json").write_text(json.dumps(info))


def test_a_good_data_set_is_good(tiny):
    output = run("verify", tiny, "--quiet")
    assert "good (6 shards, 48 pairs, every hash;" in output and "rendered again and equal" in output


def test_one_shard_is_in_memory_at_a_time(tiny, monkeypatch):
    read, kept, alive = Dataset.read, [], []

    def reading(data, path):
        alive.append(sum(pictures() is not None for pictures in kept))
        shard = read(data, path)
        kept.append(weakref.ref(shard.stylized))
        return shard

    monkeypatch.setattr(Dataset, "read", reading)
    run("verify", tiny, "--sample", 0, "--quiet")
    assert len(kept) >= 6 and max(alive) == 1, alive


def test_a_truncated_shard_and_a_flipped_byte_are_named(copy):
    data = (copy / "train-00000.h5").read_bytes()
    (copy / "train-00000.h5").write_bytes(data[:-50])
    data = bytearray((copy / "test-00000.h5").read_bytes())
    data[200_000] ^= 4
    (copy / "test-00000.h5").write_bytes(bytes(data))
    (copy / "val-00000.h5").unlink()
    output = run("verify", copy, "--quiet", exit_code=1)
    assert (
        "train-00000.h5: its sha256 differs" in output
        and "test-00000.h5: its sha256 differs" in output
        and "val-00000.h5: cannot be read" in output
    )


def test_pixels_that_the_recipe_does_not_make_are_found(copy):
    shard = read_shard(copy / "test-00000.h5")
    brighter = np.clip(shard.stylized.astype(int) + 1, 0, 255).astype(np.uint8)
    rewrite(copy, "test-00000.h5", stylized=brighter)
    output = run("verify", copy, "--quiet", "--sample", 64, exit_code=1)
    assert "test-00000.h5: stylized of face" in output and "grey levels" in output


def test_warps_that_are_not_the_drawn_ones_are_found(copy):
    shard = read_shard(copy / "test-00000.h5")
    # one pixel to the right
    rewrite(copy, "test-00000.h5", warp=shard.warp + np.float32([[0, 0, 1], [0, 0, 0]]))
    assert "warps of face" in run("verify", copy, "--quiet", "--sample", 64, exit_code=1)


def test_a_person_in_two_splits_is_found(copy):
    trained = read_shard(copy / "train-00000.h5").identity[0]
    shard = read_shard(copy / "test-00000.h5")
    rewrite(
        copy,
        "test-00000.h5",
        identity=np.where(shard.identity == shard.identity[0], trained, shard.identity).astype(np.int32),
    )
    assert f"identities are in train and in test (the first is {trained})" in run(
        "verify", copy, "--quiet", exit_code=1
    )


def test_a_flat_picture_and_a_wild_warp_are_found(copy):
    shard = read_shard(copy / "val-00000.h5")
    flat, wild = shard.stylized.copy(), shard.warp.copy()
    flat[1], wild[2] = 7, 3 * wild[2]
    rewrite(copy, "val-00000.h5", stylized=flat, warp=wild)
    output = run("verify", copy, "--quiet", exit_code=1)
    assert "stylized picture 1 is one flat colour" in output and "a warp scales areas" in output


def test_an_edited_manifest_is_found(copy):
    lines = (copy / "manifest.csv").read_text().splitlines()
    (copy / "manifest.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert "manifest.csv: its" in run("verify", copy, "--quiet", exit_code=1)
    (copy / "manifest.csv").write_text(
        "\n".join([lines[0], lines[1].replace("train,", "train,", 1).rsplit(",", 1)[0] + ",0.0", *lines[2:]])
        + "\n"
    )
    assert "manifest.csv: not the rows that the recipe gives" in run("verify", copy, "--quiet", exit_code=1)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda info: info.update(schema=2), "schema version 2"),
        (lambda info: info.update(complete=False), "not finished"),
        (lambda info: info["recipe"].update(train_faces=5), "the recipe says 5"),
        (lambda info: info["recipe"].update(border="wrap"), "border is 'wrap'"),
        (lambda info: info.update(faces_sha256="0"), "their hash differs"),
        (lambda info: info["styles"].update(candy="0"), "another network of candy"),
        (lambda info: info["shards"].pop("val-00000.h5"), "which is not in dataset.json"),
        (lambda info: info["recipe"].update(new_key=1), "unknown key 'new_key'"),
    ],
)
def test_a_changed_dataset_json_is_found(copy, change, message):
    edit(copy, change)
    assert message in run("verify", copy, "--quiet", exit_code=1)


def test_another_machine_is_compared_to_two_grey_levels(copy):
    edit(copy, lambda info: info.update(rendered_with="cpu AVX2 torch 2.6.0"))
    output = run("verify", copy, "--quiet")
    assert "note: made on another kind of machine" in output and "good" in output


def test_photographs_that_moved_are_a_note_and_found_again_with_faces(photographs, tmp_path):
    root, out = tmp_path / "photos", tmp_path / "data"
    shutil.copytree(photographs, root)
    chosen = sets(test_faces=1, val_faces=0, stylize_px=128, test_styles="candy")
    run("synth", "photos", "--faces", root, *chosen, "--out", out, "--workers", 0, "--quiet")
    root.rename(tmp_path / "moved")
    assert "no pair was rendered again" in run("verify", out, "--quiet")
    assert "rendered again and equal" in run("verify", out, "--faces", tmp_path / "moved", "--quiet")
    photo = sorted((tmp_path / "moved").rglob("*.jpg"))[0]
    shutil.copy(sorted((tmp_path / "moved").rglob("*.jpg"))[-1], photo)
    assert "are not those that it was made from" in run(
        "verify", out, "--faces", tmp_path / "moved", "--quiet", exit_code=1
    )


def test_a_folder_without_a_data_set_is_one_line(tmp_path):
    assert run("verify", tmp_path, exit_code=1).count("\n") == 1
