"""The command line: quick, helpful, and never a traceback for a user's mistake."""

import subprocess
import sys
import time

import click
import pytest

from ifrp_bench.cli import cli
from tests.conftest import run


def commands(group: click.Group = cli, path: tuple[str, ...] = ()):
    """Every command by its words."""
    for name, command in sorted(group.commands.items()):
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(
    "words, command", list(commands()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_and_option_explains_itself(words, command):
    assert command.help and run(*words, "--help").startswith("Usage:")
    unexplained = [
        option.name
        for option in command.params
        if isinstance(option, click.Option) and not option.help and option.name not in ("out", "seed")
    ]
    assert not unexplained


def test_help_comes_in_under_half_a_second():
    best = min(_seconds([sys.executable, "-m", "ifrp_bench", "--help"]) for _ in range(3))
    assert best < 0.5, f"{best:.2f} s"


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def test_the_command_line_imports_nothing_heavy():
    program = (
        "import sys, ifrp_bench.cli; print([name for name in ('torch', 'cv2', 'h5py', 'numpy',"
        " 'albumentations') if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_importing_everything_needs_no_network(tmp_path):
    """Sockets are taken away; the packages that like to call home are imported as synthesis imports them."""
    program = (
        "import socket\ndef refuse(*a, **k): raise AssertionError('network')\nsocket.socket.connect = refuse;"
        " socket.create_connection = refuse; socket.getaddrinfo = refuse\nimport numpy as np,"
        " ifrp_bench.data.synth, ifrp_bench.data.verify, ifrp_bench.making.style, ifrp_bench.ground.warp as"
        " warp\nwarp.face_window(np.zeros((218, 178, 3), np.uint8)); import facenet_pytorch, sys;"
        " print('albumentations' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "True", done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (("synth", "demmo"), 1, "did you mean demo"),
        (("synth", "--set", "train_face=3"), 1, "did you mean train_faces"),
        (("synth", "--workers", "-1"), 2, "--workers"),
        (("synth", "photos", "--faces", "nowhere"), 1, "no such folder"),
        (("verify", "nowhere"), 1, "no data set here"),
        (("nonsense",), 2, "No such command"),
        (("styles", "train", "candy"), 2, "--faces"),
        (("synth", "--device", "tpu"), 2, "tpu"),
    ],
)
def test_a_mistake_is_one_line_with_a_fitting_exit_code(tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    output = run(*arguments, exit_code=code)
    assert message in output and "Traceback" not in output
    if code == 1:
        assert output.startswith("Error: ") and output.count("\n") == 1


def test_ctrl_c_is_130_and_says_how_to_go_on(monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ifrp_bench.data.synth.synthesize", interrupted)
    assert "run the same command again" in run("synth", "--out", tmp_path / "d", exit_code=130)


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be made" in run(
        "synth", "demo", "--set", "train_faces=1", "--out", tmp_path / "file" / "x", "--quiet", exit_code=1
    )


def test_the_demo_runs_from_its_pairs_to_its_report(tmp_path, monkeypatch):
    """The command itself, of a recipe of three test people; its short training is tested with the loop."""
    (tmp_path / "manifests").mkdir()
    values = {"train_faces": 6, "val_faces": 2, "test_faces": 3, "stylize_px": 128, "faces_per_identity": 3}
    lines = ['source = "procedural"', *(f"{key} = {value}" for key, value in values.items())]
    (tmp_path / "manifests" / "demo.toml").write_text("\n".join(lines))
    monkeypatch.setattr("ifrp_bench.data.recipe.package_folder", lambda name: tmp_path / name)
    monkeypatch.chdir(tmp_path)
    said = run("demo", "--minutes", 0, "--quiet")
    assert "data/demo: good" in said and "align-restore (raw) portraits" in said
    assert "Next:" in said and (tmp_path / "results" / "demo" / "report.html").is_file()


LIGHT = """
import sys
from click.testing import CliRunner
from ifrp_bench.cli import cli
from ifrp_bench.data.catalog import catalogue
for line in sys.stdin.read().splitlines():
    result = CliRunner().invoke(cli, line.split())
    assert result.exit_code in (1, 2) and result.output, (line, result.output, result.exception)
    assert "torch" not in sys.modules, line
rooms = catalogue()
assert [next(rooms)[0] for _ in range(3)] == ["recipes", "sources", "styles"]
print("torch" in sys.modules)
"""


def test_mistakes_are_said_before_torch_is_imported(tmp_path):
    """Two seconds at best; whoever mistypes a name is not to wait for them."""
    lines = (
        "verify nowhere", "eval --data nowhere", "eval nowhere", "paper --data nowhere",
        "train --data nowhere",
        "train --resume --out nowhere", "synth nothing", "synth demo --set train_faces=x",
        "pictures nowhere --out x",
        "destylize nowhere.png", "destylize nowhere nowhere.png", "report nowhere",
        "leaderboard check nowhere",
    )
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], input="\n".join(lines), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.strip() == "False", done.stderr
