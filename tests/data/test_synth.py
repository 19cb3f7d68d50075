"""Synthesis: the contract on disk, and the same bytes whatever happens on the way."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ifrp_bench.data.format import open_dataset, read_manifest, read_shard
from ifrp_bench.data.styles import NAMES, SEEN
from ifrp_bench.ground.warp import Misalignment, warp_matrix
from tests.conftest import TINY, TINY_COUNTS, hashes, run, sets


def test_the_folder_holds_what_the_contract_says(tiny):
    names = {path.name for path in tiny.iterdir()} - {".lock"}
    assert {
        "dataset.json",
        "manifest.csv",
        "skipped.csv",
        "preview.png",
        "train-00000.h5",
        "train-00001.h5",
        "val-00000.h5",
        "test-00000.h5",
    } <= names
    info = open_dataset(tiny).info
    for split, pairs in TINY_COUNTS.items():
        assert (
            info["counts"][split]["pairs"]
            == pairs
            == sum(entry["pairs"] for entry in info["shards"].values() if entry["split"] == split)
        )
    assert (
        set(info["styles"]) == set(NAMES)
        and info["recipe"]["misalignment"] == "lab"
        and info["versions"]["torch"]
    )


def test_styles_warps_and_rows_agree_between_shard_and_manifest(tiny):
    dataset = open_dataset(tiny)
    rows = read_manifest(tiny)
    assert len(rows) == sum(TINY_COUNTS.values())
    for path in [path for split in TINY_COUNTS for path in dataset.shards(split)]:
        shard = read_shard(path)
        mine = [row for row in rows if row["shard"] == path.name]
        assert [row["style"].encode() for row in mine] == shard.style.tolist() and [
            row["face"].encode() for row in mine
        ] == shard.face.tolist()
        assert [int(row["row"]) for row in mine] == list(range(len(shard.stylized)))
        for row, stored in zip(mine, shard.warp):
            drawn = Misalignment(
                float(row["angle_deg"]), float(row["scale"]), float(row["shift_x"]), float(row["shift_y"])
            )
            assert np.allclose(warp_matrix(drawn), stored, atol=1e-5)


def test_seen_styles_are_trained_on_and_all_eight_are_tested(tiny):
    dataset = open_dataset(tiny)
    for split, styles in (("train", SEEN), ("val", SEEN), ("test", NAMES)):
        for path in dataset.shards(split):
            assert set(read_shard(path).style.tolist()) == {style.encode() for style in styles}


def test_stylized_faces_are_pictures_of_their_style(tiny):
    """Styles differ from each other and from the real face, and none is flat."""
    shard = read_shard(open_dataset(tiny).shards("test")[0])
    first = shard.stylized[:8].astype(float)
    assert first.std(axis=(1, 2)).mean(1).min() > 10
    for a in range(8):
        assert all(np.abs(first[a] - first[b]).mean() > 10 for b in range(a))
        assert np.abs(first[a] - shard.real[0]).mean() > 10


@pytest.mark.parametrize(
    "options",
    [
        ("--workers", 1),
        ("--workers", 2),
        ("--workers", 0, "--batch-size", 7),
        ("--workers", 0, "--batch-size", 64),
    ],
)
def test_workers_and_batch_size_change_no_byte(tiny, tmp_path, options):
    run("synth", "demo", *TINY, "--out", tmp_path / "data", "--quiet", *options)
    assert hashes(tmp_path / "data") == hashes(tiny)
    assert (tmp_path / "data" / "manifest.csv").read_bytes() == (tiny / "manifest.csv").read_bytes()


def test_the_gpus_pipeline_makes_the_same_shards(tiny, tmp_path):
    """The overlapped pipeline of the GPU path, run here with the networks on the CPU."""
    from ifrp_bench.data.pairs import open_faces
    from ifrp_bench.data.plan import make_plan
    from ifrp_bench.data.recipe import load_recipe
    from ifrp_bench.data.styles import pick_styles
    from ifrp_bench.data.synth import _Jobs
    from ifrp_bench.ground.precision import fast_precision
    from ifrp_bench.ground.workers import one_thread

    recipe = load_recipe("demo", (*TINY[1::2], f"precision={fast_precision('cpu')}"))
    source = open_faces(
        recipe, None, landmarks=tmp_path / "landmarks.csv", workers=0, device="cpu", quiet=True
    )
    plan = make_plan(recipe, source)
    with one_thread():
        names = [
            name
            for name, _ in _Jobs(recipe, source, pick_styles(NAMES), "cpu", 4, tmp_path).overlapped(
                list(plan.shards)
            )
        ]
    assert names == [shard.name for shard in plan.shards] and hashes(tmp_path) == hashes(tiny)


def test_a_worker_ended_from_outside_is_one_line(tmp_path):
    import multiprocessing

    from ifrp_bench.ground.errors import InputError
    from ifrp_bench.ground.workers import map_in_order

    results = map_in_order(time.sleep, [0.0, 30.0, 30.0], workers=1, initializer=int, arguments=())
    next(results)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(InputError, match="fewer --workers"):
        list(results)


def test_another_seed_makes_other_faces(tiny, tmp_path):
    run("synth", "demo", *TINY, "--out", tmp_path / "data", "--seed", 1, "--workers", 0, "--quiet")
    theirs, ours = hashes(tmp_path / "data"), hashes(tiny)
    assert theirs.keys() == ours.keys() and all(theirs[name] != ours[name] for name in ours)


def test_a_run_killed_again_and_again_ends_with_the_same_shards(tiny, tmp_path):
    """SIGKILL at random moments, to the whole run.

    Workers must not outlive it and whatever is on disk must be whole.
    """
    out = tmp_path / "data"
    command = [
        sys.executable,
        "-m",
        "ifrp_bench",
        "synth",
        "demo",
        *TINY,
        "--out",
        str(out),
        "--workers",
        "2",
        "--quiet",
    ]
    moments = random.Random(0)
    for _ in range(4):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            process.wait(moments.uniform(1.0, 9.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        whole = hashes(tiny)
        # never a shard that is not whole
        assert all(whole[name] == data for name, data in hashes(out).items())
    run("synth", "demo", *TINY, "--out", out, "--workers", 0, "--quiet")
    assert hashes(out) == hashes(tiny)
    assert not list(out.glob(".*.tmp"))
    run("verify", out, "--quiet")


def children_of(pid: int) -> list[str]:
    """Process ids whose parent is ``pid``, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue
        if parent == str(pid):
            found.append(stat.parent.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_their_parent(tmp_path):
    marker = str(tmp_path / "data")
    process = subprocess.Popen(
        [sys.executable, "-m", "ifrp_bench", "synth", "demo", "--out", marker, "--workers", "2", "--quiet"],
        stderr=subprocess.DEVNULL,
    )
    children: list[str] = []
    for _ in range(300):
        children = children_of(process.pid)
        if len(children) >= 3:   # two workers and the resource tracker
            break
        time.sleep(0.1)
    time.sleep(4)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 15
    while any(os.path.exists(f"/proc/{pid}") for pid in children) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(children) >= 3 and not any(os.path.exists(f"/proc/{pid}") for pid in children)


def test_a_second_run_on_the_same_folder_is_refused(tiny, tmp_path):
    from ifrp_bench.ground.files import locked

    out = tmp_path / "data"
    shutil.copytree(tiny, out)
    with locked(out):
        assert "another ifrp-bench is writing here" in run(
            "synth", "demo", *TINY, "--out", out, "--quiet", exit_code=1
        )


def test_a_finished_data_set_is_left_alone(tiny, tmp_path):
    out = tmp_path / "data"
    shutil.copytree(tiny, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.name != ".lock"}
    run("synth", "demo", *TINY, "--out", out, "--quiet")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_lost_shard_is_made_again(tiny, tmp_path):
    out = tmp_path / "data"
    shutil.copytree(tiny, out)
    (out / "val-00000.h5").unlink()
    run("synth", "demo", *TINY, "--out", out, "--workers", 0, "--quiet")
    assert hashes(out) == hashes(tiny)


@pytest.mark.parametrize(
    "change, message",
    [
        (("--set", "misalignment=mild"), "misalignment lab there, mild asked for"),
        (("--set", "train_faces=5"), "train_faces"),
        (("--seed", 3), "seed"),
    ],
)
def test_another_recipe_over_an_existing_data_set_is_refused(tiny, tmp_path, change, message):
    out = tmp_path / "data"
    shutil.copytree(tiny, out)
    assert message in run("synth", "demo", *TINY, *change, "--out", out, "--quiet", exit_code=1)
    assert hashes(out) == hashes(tiny)


def test_a_changed_shard_is_named_and_not_built_upon(tiny, tmp_path):
    out = tmp_path / "data"
    shutil.copytree(tiny, out)
    path = out / "train-00000.h5"
    path.write_bytes(path.read_bytes()[:-100])
    assert "train-00000.h5: truncated or changed" in run(
        "synth", "demo", *TINY, "--out", out, "--quiet", exit_code=1
    )


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_space(tiny, tmp_path):
    """A limit on the size of files stands in for the full disk: the write fails half-way, as it would there.
    """
    out = tmp_path / "data"
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        " resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000));from ifrp_bench.cli import main;"
        " main()"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "synth",
        "demo",
        *TINY,
        "--out",
        str(out),
        "--workers",
        "0",
        "--quiet",
    ]
    failed = subprocess.run(command, capture_output=True, text=True)
    assert (
        failed.returncode == 1
        and "Traceback" not in failed.stderr
        and len(failed.stderr.strip().splitlines()) == 1
    ), failed.stderr
    assert "File too large" in failed.stderr and "run the same command again" in failed.stderr
    assert not list(out.glob(".*.tmp")) and all(
        hashes(tiny)[name] == data for name, data in hashes(out).items()
    )
    run("synth", "demo", *TINY, "--out", out, "--workers", 0, "--quiet")
    assert hashes(out) == hashes(tiny)


def test_too_little_space_is_said_before_anything_is_rendered(tmp_path, monkeypatch):
    monkeypatch.setattr("ifrp_bench.data.synth.free_bytes", lambda out: 1000)
    assert "MiB needed" in run("synth", "demo", *TINY, "--out", tmp_path / "data", "--quiet", exit_code=1)


def test_a_dry_run_counts_and_writes_nothing(tmp_path):
    output = run("synth", "procedural-paper", "--out", tmp_path / "data", "--dry-run")
    assert (
        "train: 10000 faces, 30000 pairs in 3 styles" in output
        and "test: 1000 faces, 8000 pairs in 8 styles" in output
    )
    assert not (tmp_path / "data").exists()


def test_photographs_become_pairs_with_bad_ones_named(photographs, tmp_path):
    root = tmp_path / "photos"
    shutil.copytree(photographs, root)
    (root / "Person_0" / "page.jpg").write_text("<html>")
    out = tmp_path / "data"
    chosen = sets(test_faces=1, val_faces=1, stylize_px=128, test_styles="candy,mosaic")
    run("synth", "photos", "--faces", root, *chosen, "--out", out, "--workers", 0, "--quiet")
    info = open_dataset(out).info
    assert info["recipe"]["train_faces"] == 6 and info["faces"] == str(root.resolve())
    assert "page.jpg,a web page, not a picture" in (out / "skipped.csv").read_text().replace('"', "")
    assert "good" in run("verify", out, "--quiet")


def test_celeba_becomes_pairs(celeba, tmp_path):
    chosen = sets(train_faces=5, val_faces=1, test_faces=1, stylize_px=128)
    output = run(
        "synth",
        "celeba-paper",
        "--faces",
        celeba,
        *chosen,
        "--out",
        tmp_path / "data",
        "--workers",
        0,
        "--quiet",
    )
    assert "15 train pairs of 5 faces" in output and "8 test pairs of 1 faces" in output
    assert set(read_shard(tmp_path / "data" / "test-00000.h5").identity.tolist()) == {103}
    run("verify", tmp_path / "data", "--quiet")
    assert "test_faces=1" in run(
        "synth",
        "celeba-paper",
        "--faces",
        celeba,
        *sets(train_faces=5, val_faces=1),
        "--out",
        tmp_path / "more",
        "--quiet",
        exit_code=1,
    )


def test_a_photograph_that_changes_under_way_is_named(photographs, tmp_path):
    from ifrp_bench.ground.errors import InputError
    from ifrp_bench.sources.folder import open_folder

    root = tmp_path / "photos"
    shutil.copytree(photographs, root)
    source = open_folder(root, landmarks=tmp_path / "landmarks.csv", quiet=True)
    (root / "Person_1" / "Person_1_0001.jpg").write_bytes(b"gone")
    with pytest.raises(InputError, match="Person_1/Person_1_0001.jpg: changed since its face was found"):
        source.read_many(source.faces(), map)


def test_a_source_without_its_faces_is_explained(tmp_path):
    assert "--faces DIR" in run("synth", "photos", "--out", tmp_path / "a", exit_code=1)
    assert "renders its own faces" in run(
        "synth", "demo", "--faces", tmp_path, "--out", tmp_path / "a", exit_code=1
    )


def test_the_data_sets_hash_follows_its_contents(tiny, tmp_path):
    out = tmp_path / "data"
    shutil.copytree(tiny, out)
    info = json.loads((out / "dataset.json").read_text())
    assert open_dataset(out).sha256 == open_dataset(tiny).sha256
    info["shards"]["val-00000.h5"]["sha256"] = "0" * 64
    (out / "dataset.json").write_text(json.dumps(info))
    assert open_dataset(out).sha256 != open_dataset(tiny).sha256


def test_found_faces_that_lie_elsewhere_are_kept_with_the_pairs(photographs, tmp_path):
    counts = sets(train_faces=2, val_faces=1, test_faces=1, stylize_px=128, test_styles="candy")
    cache, out = tmp_path / "found.csv", tmp_path / "data"
    run("synth", "photos", *counts, "--faces", photographs, "--landmarks", cache, "--out", out, "--quiet")
    assert (out / "landmarks.csv").read_bytes() == cache.read_bytes()
