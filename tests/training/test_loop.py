"""The loop: runs are functions of their settings, resuming is exact, trouble stops in one line."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ifrp_bench.data.runs import open_run, start_run
from ifrp_bench.data.styles import SEEN
from ifrp_bench.ground.processes import Processes
from ifrp_bench.methods import Setup
from ifrp_bench.methods.ifrp import growing, method as ifrp
from ifrp_bench.training import loop, timing
from tests.conftest import run, sets

SHORT = (
    "--preset",
    "smoke",
    *sets(steps=6, batch_size=4, validations=2, grow_32=0.5, grow_64=0.17, checkpoint_seconds=0),
    "--quiet",
)   # a checkpoint after every step


def log_of(folder: Path) -> list[dict]:
    return [
        {key: value for key, value in facts.items() if key not in ("seconds", "pairs_per_s")}
        for facts in open_run(folder).read_log()
    ]


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """A short run of the whole method through every stage of growing, with averaged weights."""
    out = tmp_path_factory.mktemp("runs") / "ifrp"
    printed = run("train", "--data", tiny, "--out", out, *SHORT, "--set", "ema=0.9")
    return out, printed


def test_a_run_folder_explains_itself(finished, tiny):
    out, printed = finished
    info = json.loads((out / "run.json").read_text())
    assert (
        info["loop"]["steps"] == 6 and info["config"]["network"] == "srn-3stn" and info["versions"]["torch"]
    )
    assert len(info["data_sha256"]) == 64
    assert info["training_styles"] == {style: 1 for style in SEEN}
    assert {path.name for path in out.iterdir()} >= {
        "run.json",
        "log.jsonl",
        "last.json",
        "best.json",
        "pictures",
    }
    assert len(list((out / "pictures").glob("*.png"))) == 2
    assert "6 steps" in printed and "the mean face" in printed


def test_the_log_has_every_loss_and_both_validations(finished):
    lines = log_of(finished[0])
    assert [facts["step"] for facts in lines if "pixel" in facts] == [1, 2, 3, 4, 5, 6]
    assert {"adversarial", "identity", "dn_real", "skip_dn"} <= set(lines[-2])
    validations = [facts for facts in lines if "val_psnr_db" in facts]
    assert [facts["step"] for facts in validations] == [3, 6]
    assert all("val_psnr_ema_db" in facts and 5 < facts["mean_face_psnr_db"] < 40 for facts in validations)


@pytest.mark.parametrize(
    "steps, validations, after",
    [(6, 2, {3, 6}), (535, 6, {89, 178, 267, 356, 445, 535}), (3, 20, {1, 2, 3}), (7, 1, {7})],
)
def test_a_run_is_validated_as_often_as_it_says_and_at_its_end(steps, validations, after):
    assert loop.validation_steps(steps, validations) == after


def test_a_resumed_run_equals_an_uninterrupted_one(finished, tiny, tmp_path, monkeypatch):
    out = tmp_path / "ifrp"
    step = ifrp.IFRP.step
    for stop in (1, 3, 5):   # in each stage of growing
        def interrupted(self, batch, stop=stop):
            if self.done == stop:
                raise KeyboardInterrupt
            return step(self, batch)

        monkeypatch.setattr(ifrp.IFRP, "step", interrupted)
        run("train", "--data", tiny, "--out", out, *SHORT, "--set", "ema=0.9", exit_code=130)
        assert open_run(out).load("last")["step"] == stop
    monkeypatch.setattr(ifrp.IFRP, "step", step)
    run("train", "--data", tiny, "--out", out, "--resume", "--quiet")
    assert (out / "last-6.safetensors").read_bytes() == (finished[0] / "last-6.safetensors").read_bytes()
    assert log_of(out) == log_of(finished[0])


def test_averages_of_a_layer_that_has_just_grown_do_not_remember_its_first_weights(tiny, tmp_path):
    run("train", "--method", "srn", "--data", tiny, "--out", tmp_path / "srn", *SHORT)
    state = open_run(tmp_path / "srn").load("last")
    assert min(steps for steps in state["ema_steps"] if steps) < max(state["ema_steps"]) == 6
    first = ifrp.build(ifrp.Config(losses="srn"), Setup()).network.state_dict()["d8.weight"]
    mean, now = state["ema"]["d8.weight"], state["method"]["networks"]["srn"]["d8.weight"]
    assert float((mean - now).norm()) < 0.2 * float((first - now).norm())


def test_tensorboard_is_an_extra(tiny, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    options = (
        "train",
        "--method",
        "srn",
        "--data",
        tiny,
        *SHORT,
        *sets(steps=2, validations=1, tensorboard="true"),
        "--out",
    )
    run(*options, tmp_path / "srn")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "srn" / "events")).Reload()
    assert {"pixel", "val_psnr_db"} <= set(events.Tags()["scalars"]) and events.Tags()["images"]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert "ifrp-bench[tensorboard]" in run(*options, tmp_path / "other", exit_code=1)


def test_resuming_finds_the_runs_own_data_set(tiny, tmp_path, monkeypatch):
    shutil.copytree(tiny, tmp_path / "data" / "tiny")
    monkeypatch.chdir(tmp_path)
    run(
        "train",
        "--method",
        "srn",
        "--data",
        "data/tiny",
        "--out",
        "runs/srn",
        *SHORT,
        *sets(steps=2),
        "--set",
        "validations=1"
    )
    assert "2 steps" in run("train", "--resume", "--out", "runs/srn", "--quiet")


def test_a_seed_that_is_a_time_stamp_is_a_seed(tiny, tmp_path):
    words = ("train", "--method", "pix2pix", "--preset", "smoke", *sets(steps=1, batch_size=2, width=4))
    run(*words, "--seed", 20251125123000, "--data", tiny, "--out", tmp_path / "run", "--quiet")
    assert open_run(tmp_path / "run").info["loop"]["seed"] == 20251125123000


def test_a_launchers_number_that_is_none_is_one_line(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "")
    assert Processes("cpu").world == 1
    monkeypatch.setenv("WORLD_SIZE", "two")
    assert "WORLD_SIZE is 'two'" in run("train", "--data", tiny, "--out", tmp_path / "run", exit_code=1)


def test_what_a_resumed_run_would_ignore_is_refused(finished, tiny):
    for words in (("--preset", "smoke"), ("--seed", 5), ("--method", "srn"), sets(steps=9)):
        said = run("train", "--resume", "--data", tiny, "--out", finished[0], *words, exit_code=2)
        assert f"{words[0]} would be ignored: --resume continues" in " ".join(said.split())


OWN = '''
"""The mean of each picture's colours, learned to be scaled."""
from dataclasses import dataclass
import torch
from ifrp_bench.methods import Method
@dataclass(frozen=True)
class Config:
    rate: float = 0.1
class Scale:
    def __init__(self, config):
        self.network, self.rate = torch.nn.Linear(1, 1), config.rate
    def step(self, batch):
        loss = (self.network(batch.stylized[..., None])[..., 0] - batch.real).square().mean()
        weights = list(self.network.parameters())
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights)):
            weight.data -= self.rate * gradient
        return {"pixel": loss.detach()}
    def recover(self, stylized, real=None):
        return self.network(stylized[..., None])[..., 0].detach().clamp(0, 1)
    def state(self):
        return {"network": self.network.state_dict()}
    def restore(self, state):
        self.network.load_state_dict(state["network"])
METHOD = Method(Config, lambda config, setup: Scale(config))
'''


def test_a_method_of_ones_own_without_presets_is_trained_and_used(tiny, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    options = (
        "train",
        "--method",
        tmp_path / "mine.py",
        "--data",
        tiny,
        "--out",
        tmp_path / "run",
        *sets(batch_size=4),
        "--quiet",
    )
    assert "one of them says how long" in run(*options, exit_code=1)
    run(*options, "--set", "steps=3")
    assert run("destylize", tmp_path / "run", "--split", "test", "--data", tiny, "--quiet")
    assert list((tmp_path / "run" / "recovered").rglob("test-*.h5"))


def test_a_finished_run_is_left_alone(finished, tiny):
    before = (finished[0] / "last-6.safetensors").stat().st_mtime_ns
    run("train", "--data", tiny, "--out", finished[0], *SHORT, "--set", "ema=0.9")
    assert (finished[0] / "last-6.safetensors").stat().st_mtime_ns == before


def test_another_data_set_or_setting_is_refused(finished, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "data")
    info = json.loads((tmp_path / "data" / "dataset.json").read_text())
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(info | {"faces_sha256": "0" * 64}))
    assert "data_sha256 is" in run(
        "train", "--data", tmp_path / "data", "--out", finished[0], *SHORT, "--set", "ema=0.9", exit_code=1
    )
    assert "ema is 0.9 there, 0.98 here" in run(
        "train", "--data", tiny, "--out", finished[0], *SHORT, exit_code=1
    )


def test_losses_that_are_not_finite_stop_the_run_and_keep_the_last_good_checkpoint(
    tiny, tmp_path, monkeypatch
):
    step = ifrp.IFRP.step

    def broken(self, batch):
        losses = step(self, batch)
        return losses | {"pixel": losses["pixel"] * float("nan")} if self.done == 3 else losses

    monkeypatch.setattr(ifrp.IFRP, "step", broken)
    printed = run("train", "--method", "srn", "--data", tiny, "--out", tmp_path / "srn", *SHORT, exit_code=1)
    assert (
        "not finite at step 3; the last good checkpoint is kept" in printed and len(printed.splitlines()) == 1
    )
    assert open_run(tmp_path / "srn").load("last")["step"] == 2


def test_two_trainings_do_not_write_into_one_folder(tiny, tmp_path):
    from ifrp_bench.ground.files import locked

    with locked(tmp_path / "run"):
        assert "another ifrp-bench is writing here" in run(
            "train", "--data", tiny, "--out", tmp_path / "run", *SHORT, exit_code=1
        )


def test_the_log_holds_means_since_the_last_line(tiny, tmp_path, monkeypatch):
    step = ifrp.IFRP.step

    def counted(self, batch):
        step(self, batch)
        return (
            {"pixel": torch.tensor(float(self.done % 2)), "late": torch.tensor(7.0)}
            if self.done > 2
            else {"pixel": torch.tensor(float(self.done % 2))}
        )

    monkeypatch.setattr(ifrp.IFRP, "step", counted)
    monkeypatch.setattr(loop, "LOG_LINES", 2)
    run(
        "train",
        "--method",
        "srn",
        "--data",
        tiny,
        "--out",
        tmp_path / "srn",
        *SHORT,
        *sets(steps=8, grow_32=0.99),
        "--set",
        "grow_64=0"
    )
    assert [
        (facts["step"], facts["pixel"], facts["late"])
        for facts in log_of(tmp_path / "srn")
        if "pixel" in facts
    ] == [(4, 0.5, 7.0), (8, 0.5, 7.0)]


def test_too_little_memory_says_what_to_set(tiny, tmp_path, monkeypatch):
    def full(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ifrp.IFRP, "step", full)
    assert "--set batch_size=2" in run(
        "train", "--data", tiny, "--out", tmp_path / "run", *SHORT, exit_code=1
    )


@pytest.mark.parametrize(
    "options, word",
    [
        (("--method", "irfp"), "did you mean ifrp"),
        (("--preset", "huge"), "preset 'huge' is none of"),
        (("--set", "step=3"), "did you mean steps"),
        (("--set", "network=srn-9stn"), "network 'srn-9stn' is none of"),
        (("--set", "batch_size=1"), "at least 2"),
        (("--set", "steps=many"), "expected a whole number"),
        (("--method", "nowhere.py"), "no such file"),
        (("--data", "nowhere"), "no data set here"),
        (("--set", "features=nowhere.pth"), "no such weight file"),
    ],
)
def test_mistakes_are_one_line(tiny, tmp_path, options, word):
    printed = run("train", "--data", tiny, "--out", tmp_path / "run", *SHORT, *options, exit_code=1)
    assert word in printed and len(printed.splitlines()) == 1


def test_a_dry_run_says_the_settings_and_writes_nothing(tiny, tmp_path):
    printed = run(
        "train",
        "--data",
        tiny,
        "--out",
        tmp_path / "run",
        "--preset",
        "paper",
        *sets(epochs=2),
        "--dry-run",
    )
    assert "ifrp: 2 steps of 64 pairs, 2.0 epochs of 18 pairs" in printed and "network = srn-3stn" in printed
    assert not (tmp_path / "run").exists()


def test_a_training_of_so_many_minutes_has_the_steps_that_fit_and_keeps_them(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "time_training", lambda *_: timing.Timing(2.0, 1.0, 100, 4))
    words = ("train", "--method", "pix2pix", "--data", tiny, "--out", tmp_path / "run", "--preset", "smoke",
             *sets(batch_size=2, width=4), "--quiet")
    # of 6 s two are those of two validations
    said = run(*words, "--minutes", 0.1, *sets(validations=2))
    assert "2 steps, about 0.1 minutes at 2.00 s a step" in said
    assert open_run(tmp_path / "run").summary()["step"] == 2

    # begun, it keeps its length and its validations; another number of them is another run
    assert "2 steps" in run(*words, "--minutes", 5)
    other = run(*words, "--minutes", 5, *sets(validations=1), exit_code=1)
    assert "validations" in other and len(other.splitlines()) == 2


@pytest.mark.parametrize(
    "options, word",
    [
        (sets(steps=3), "--minutes and steps=3 both say how long to train"),
        (("--method", "gatys"), "gatys is not trained"),
        (("--minutes", 0), "not in the range"),
    ],
)
def test_minutes_that_cannot_say_the_length_are_refused(tiny, tmp_path, options, word):
    said = run("train", "--data", tiny, "--out", tmp_path / "run", "--minutes", 1, *options, exit_code=2)
    assert word in " ".join(said.split()) and not (tmp_path / "run").exists()


def test_minutes_are_timed_in_one_process(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    said = run("train", "--data", tiny, "--out", tmp_path / "run", "--minutes", 1, exit_code=2)
    assert "timed in one process" in said


def test_the_ablations_are_methods_of_their_own(tiny):
    assert "losses = srn\n" in run(
        "train", "--method", "srn", "--data", tiny, "--preset", "smoke", "--dry-run"
    )
    assert "losses = srn-dn\n" in run(
        "train", "--method", "srn-dn", "--data", tiny, "--preset", "smoke", "--dry-run"
    )


@pytest.mark.parametrize(
    "text, word", [("1 / 0\n", "ZeroDivisionError"), ("PAIRED = True\n", "METHOD is missing")]
)
def test_a_file_of_ones_own_that_is_wrong_says_where(tiny, tmp_path, text, word):
    path = tmp_path / "mine.py"
    path.write_text(text)
    printed = run("train", "--method", path, "--data", tiny, "--out", tmp_path / "run", exit_code=1)
    assert word in printed and str(path) in printed


def test_a_finished_run_without_its_log_is_said(tiny, tmp_path):
    words = ("train", "--method", "srn", "--data", tiny, "--out", tmp_path, "--preset", "smoke", "--quiet")
    settings = sets(steps=1, batch_size=2, validations=1)
    run(*words, *settings)
    (tmp_path / "log.jsonl").unlink()
    assert "its log is gone" in run(*words, *settings)


def test_the_demo_shows_what_a_training_learns_by_when(tiny, tmp_path, capsys):
    from ifrp_bench.cli.project import DEMO_VALIDATIONS, learn

    settings = ("batch_size=2", f"steps={DEMO_VALIDATIONS}", "ema=0")
    learn(tiny, tmp_path / "run", settings, 0.1, "cpu", True)
    printed = capsys.readouterr().out
    points = [line for line in printed.splitlines() if line.endswith(" dB") and line.startswith("  ")]
    assert len(points) == DEMO_VALIDATIONS and "the mean face" in printed

    # begun, it keeps its length, whatever the minutes are
    learn(tiny, tmp_path / "run", ("batch_size=2", "ema=0"), 60.0, "cpu", True)
    assert open_run(tmp_path / "run").finished()
    assert capsys.readouterr().out == printed

    # and without its log it says so
    (tmp_path / "run" / "log.jsonl").unlink()
    learn(tiny, tmp_path / "run", ("batch_size=2", "ema=0"), 60.0, "cpu", True)
    assert "its log is gone" in capsys.readouterr().out


def test_an_estimate_counts_every_stage_of_a_method_that_grows():
    stages = growing.stages(ifrp.Config(losses="srn", grow_32=0.5, grow_64=0.4), 1000)
    assert [(stage.middle, stage.share) for stage in stages] == [(250, 0.5), (700, 0.4), (950, 0.1)]


def losses_of(folder: Path, processes: int, tiny: Path, method: str) -> list[float]:
    command = (
        [sys.executable, "-m", "ifrp_bench"]
        if processes == 1
        else [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(processes),
            "-m",
            "ifrp_bench",
        ]
    )
    done = subprocess.run(
        [
            *command,
            "train",
            "--method",
            method,
            "--data",
            str(tiny),
            "--out",
            str(folder),
            *SHORT,
            *sets(align_weight=1),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return [
        value
        for facts in open_run(folder).read_log()
        for key, value in facts.items()
        if key in ("pixel", "align", "dn_real", "dn_recovered", "adversarial")
    ]


def test_a_run_is_begun_by_the_first_process_alone(tmp_path):
    asked = {"method": "srn", "config": {}, "loop": {}, "data_sha256": "0", "asked": "second"}

    class Second(Processes):
        first = False

        def wait(self) -> None:
            """The first process writes meanwhile."""
            start_run(tmp_path, asked | {"asked": "first"})

    there = loop._start(tmp_path, asked, {}, Second("cpu"))
    assert there.info["asked"] == "first" and open_run(tmp_path).info["asked"] == "first"


def test_two_processes_train_as_one_does(tiny, tmp_path):
    one, two = (losses_of(tmp_path / str(count), count, tiny, "srn-dn") for count in (1, 2))
    assert len(one) == 6 * 2 + 3
    assert two == pytest.approx(one, rel=0.03, abs=3e-3)   # bfloat16 rounds in another order


def test_a_gpu_step_is_the_cpus():
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    from ifrp_bench.methods import Pairs

    faces = torch.rand(2, 8, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    warp = torch.eye(2, 3).expand(8, -1, -1)
    losses = []
    for device in ("cpu", "cuda"):
        method = ifrp.build(ifrp.Config(losses="srn", warm_up=False), Setup(device, 10))
        pairs = Pairs(faces[0].to(device), faces[1].to(device), warp.to(device))
        losses.append([float(method.step(pairs)["pixel"]) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_training_learns(tiny, tmp_path):
    """Thirty steps at 32x32, nine pairs a step of eighteen: the pixel loss halves."""
    out = tmp_path / "srn"
    run(
        "train",
        "--method",
        "srn",
        "--data",
        tiny,
        "--out",
        out,
        "--preset",
        "smoke",
        *sets(steps=30, batch_size=9, grow_32=0.99, grow_64=0, mirror="false", validations=1),
        "--quiet",
    )
    pixel = [facts["pixel"] for facts in log_of(out) if "pixel" in facts]
    assert min(pixel[-10:]) < 0.5 * max(pixel[:5])
    assert re.search(r"step-0000", "".join(path.name for path in (out / "pictures").iterdir()))


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_that_is_asked_to_stop_keeps_what_it_has(tiny, tmp_path, number, code):
    """Checkpoints come every ten minutes; Ctrl-C and a scheduler's SIGTERM lose nothing all the same."""
    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "ifrp_bench", "train", "--method", "aligner", "--data", str(tiny),
        "--out", str(out),
        # logged every ten steps
        "--preset", "smoke", *sets(steps=4000, batch_size=2, validations=1), "--quiet",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (out / "log.jsonl").is_file():
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in errors, errors
    step, steps = open_run(out).progress("last")
    assert 0 < step < steps
    logged = max(facts["step"] for facts in open_run(out).read_log())
    assert step >= logged
