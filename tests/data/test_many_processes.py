"""Synthesis by several processes that know of each other through the folder alone: the bytes of one process,
whoever dies on the way.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ifrp_bench.data.format import JOURNALS, add_entry, journalled, shard_names
from ifrp_bench.ground import crew as crews
from ifrp_bench.ground.crew import Crew
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.launch import Place, find_place
from tests.conftest import TINY, hashes, run

LAUNCHERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")
# no locks, as on some network mounts, and nobody waits for minutes; one process can die over its first shard,
# and another can wait until that one has begun it
IMPATIENT = """
import errno, fcntl, glob, os, sys, time
from ifrp_bench.data import synth
from ifrp_bench.ground import crew

def none(*_):
    raise OSError(errno.ENOLCK, "No locks available")

def dies(shard):
    os.kill(os.getpid(), 9)

def waits(shard, make=synth._make):
    while not glob.glob(os.environ["BEGUN"]):
        time.sleep(0.05)
    return make(shard)

fcntl.flock = none
crew.BEAT_S, crew.SILENT_S = 0.5, 6.0
synth._make = {"dies": dies, "waits": waits}.get(os.environ.get("HOW"), synth._make)
from ifrp_bench.cli import main
main()
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for variable in LAUNCHERS:
        monkeypatch.delenv(variable, raising=False)


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything that a finished data set is, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"
    }


def process_of(rank: int, out: Path) -> int | None:
    """The process of a rank that works into ``out``, as its environment says."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            said = path.read_bytes().split(b"\0"), (path.parent / "cmdline").read_bytes()
            if f"RANK={rank}".encode() in said[0] and str(out).encode() in said[1]:
                return int(path.parent.name)
    return None


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_torchrun_makes_the_bytes_of_one_process_and_a_killed_one_is_made_up_for(tiny, tmp_path):
    """Three processes; one is killed while it works, and all are started again."""
    out = tmp_path / "data"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3",
        "--max-restarts", "2", "-m", "ifrp_bench",
        "synth", "demo", *TINY, "--out", str(out), "--workers", "0", "--quiet",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        killed = None
        while killed is None and process.poll() is None:
            if list(out.glob(JOURNALS)):
                killed = process_of(1, out)
                if killed:
                    os.kill(killed, signal.SIGKILL)
            time.sleep(0.05)
        said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]
    assert killed and said.count("train pairs") == 1   # one of them speaks
    assert files_of(out) == files_of(tiny)


def start_as_srun(rank: int, world: int, out: Path, **said: object) -> "subprocess.Popen[str]":
    """A process with what srun gives it."""
    said |= {"SLURM_PROCID": rank, "SLURM_STEP_NUM_TASKS": world, "SLURM_LOCALID": rank, "SLURM_JOB_ID": 7}
    return subprocess.Popen(
        [
            sys.executable, "-c", IMPATIENT,
            "synth", "demo", *TINY, "--out", str(out), "--workers", "0", "--quiet",
        ],
        env=os.environ | {name: str(value) for name, value in said.items()},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )


def test_srun_without_locks_a_dead_process_is_one_line_and_the_next_run_goes_on(tiny, tmp_path):
    """Nobody starts the second of two again, which died over a shard: the first one makes all others, and
    says who is missing.
    """
    out = tmp_path / "data"
    begun = out / ".crew" / "*" / "claims" / "train-00001.h5"
    first, second = start_as_srun(0, 2, out, HOW="waits", BEGUN=begun), start_as_srun(1, 2, out, HOW="dies")
    _, errors = first.communicate(timeout=300)
    second.communicate()
    assert second.returncode == -signal.SIGKILL
    lines = [line for line in errors.splitlines() if not line.startswith("note: ")]
    assert first.returncode == 1 and len(lines) == 1, errors
    assert "process 1 of 2 on" in lines[0] and "not been heard of" in lines[0]
    assert "run the same command again" in lines[0]
    assert hashes(out).items() <= hashes(tiny).items() and len(hashes(out)) == len(hashes(tiny)) - 1

    again = [start_as_srun(rank, 2, out) for rank in range(2)]
    for process in again:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert files_of(out) == files_of(tiny)

    # a finished one is left alone, by a first process and by one that comes late
    late = start_as_srun(1, 2, out)
    assert late.communicate(timeout=60)[0] == "" and late.returncode == 0
    assert files_of(out) == files_of(tiny)


def test_who_is_done_makes_what_a_slow_one_has_not_begun(tmp_path):
    slow, quick = (Crew(tmp_path, Place(rank, 2, launch="now")) for rank in (0, 1))
    with slow, quick:
        assert slow.claim("00001/train-01000.h5") and not quick.claim("00001/train-01000.h5")
        assert quick.claim("train-00000.h5") and not slow.claim("train-00000.h5")
    assert not list(tmp_path.iterdir())


@pytest.fixture()
def impatient(monkeypatch):
    monkeypatch.setattr(crews, "BEAT_S", 0.05)
    monkeypatch.setattr(crews, "LOOK_S", 0.01)
    monkeypatch.setattr(crews, "SILENT_S", 0.5)
    monkeypatch.setattr(crews, "LATE_S", 0.5)


def never() -> bool:
    return False


def test_who_fails_says_why_and_who_never_came_is_named(tmp_path, impatient):
    first, second, late = (Crew(tmp_path, Place(rank, 3, launch="now")) for rank in (0, 1, 2))
    with first:
        with pytest.raises(ValueError, match="a broken file"), second:
            raise ValueError("a broken file")
        with pytest.raises(InputError, match=r"process 1 of 3 on .* failed \(a broken file\)"):
            first.wait(never, [1])
        with pytest.raises(InputError, match="process 2 of 3 has not been heard of"):
            first.wait(never, [2])

    # whoever begins later cannot know whether it was of this start: it waits a while before it says so
    with late, pytest.raises(InputError, match=r"process 1 of 3 on .* not been heard of.*a broken file"):
        late.wait(never, [1])


def test_one_that_works_is_waited_for_however_long_it_takes(tmp_path, impatient):
    first, second = (Crew(tmp_path, Place(rank, 2, launch="now")) for rank in (0, 1))
    done = threading.Event()
    with first:
        with second:
            threading.Timer(1.5, done.set).start()
            first.wait(done.is_set, [1])   # thrice as long as silence would be borne
            second.say("making")
            assert first.state_of(1) == "making"
        assert first.state_of(1) == ""
    assert not (tmp_path / crews.FOLDER).exists()


def test_what_an_earlier_start_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "train-00000.h5").write_bytes(b"a shard")
    for place in (Place(0, 2, launch="then"), Place(0, 2, launch="now"), Place()):
        with suppress(KeyError), Crew(tmp_path, place) as crew:
            crew.forget_earlier()
            raise KeyError   # it leaves its file
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000.h5"]


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, (0, 1)),
        ({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}, (3, 4)),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}, (5, 8)),
        # a script of sbatch, which srun did not start
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, (0, 1)),
        # torchrun once on each of two machines
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "WORLD_SIZE": "16", "RANK": "9"}, (9, 16)),
    ],
)
def test_the_place_is_the_launchers_word(monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    place = find_place()
    assert (place.rank, place.world) == expected


def test_a_rank_outside_of_its_world_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(InputError, match="process 2 of 2"):
        find_place()


def test_a_line_that_was_cut_off_does_not_count(tmp_path):
    add_entry(tmp_path, 0, "train-00000.h5", {"pairs": 3})
    add_entry(tmp_path, 1, "train-00001.h5", {"pairs": 4})
    journal = tmp_path / ".made-00001.jsonl"
    journal.write_text(journal.read_text() + '{"train-00003.h5": {"pai')
    assert journalled(tmp_path) == {"train-00000.h5": {"pairs": 3}, "train-00001.h5": {"pairs": 4}}


def test_too_many_shards_for_one_folder_go_into_numbered_ones():
    assert shard_names("val", 10_000)[-1] == "val-09999.h5"
    names = shard_names("train", 123_456)
    assert names[0] == "00000/train-000000.h5" and names[-1] == "00123/train-123455.h5"
    assert names == sorted(names)


def test_every_command_finds_shards_in_numbered_folders(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("ifrp_bench.data.format.MOST_SHARDS", 1)
    monkeypatch.setattr("ifrp_bench.data.format.FOLDER_SHARDS", 1)
    out = tmp_path / "data"
    run("synth", "demo", *TINY, "--out", out, "--workers", 0, "--quiet")
    there = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.h5")}
    assert "00001/train-00001.h5" in there and "val-00000.h5" in there
    assert sorted(there.values()) == sorted(hashes(tiny).values())
    assert "good" in run("verify", out, "--quiet")

    # recovered faces and their scores
    results = tmp_path / "results"
    options = ("--data", out, "--condition", "raw", "--out", results, "--quiet")
    run("eval", "--metrics", "psnr,frr", *options)
    assert (results / "recovered" / "copy" / "raw" / "00001" / "test-00001.h5").is_file()
    run("pictures", out, "--out", tmp_path / "pictures", "--quiet")
    run("eval", "--metrics", "psnr", "--recovered", f"same={tmp_path / 'pictures' / 'stylized'}", *options)
    assert "same" in (results / "scores.csv").read_text()
