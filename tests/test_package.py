"""What people install: the wheel holds styles and manifests, and works
from a folder that knows nothing of the repository.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ifrp_bench.data.styles import NAMES
from tests.conftest import TINY

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source") / "repository"
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.split(b"\0")
    for name in filter(None, files):   # a copy, so that building leaves no traces in the tree
        target = source / os.fsdecode(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / os.fsdecode(name)).is_file():
            target.write_bytes((ROOT / os.fsdecode(name)).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(out),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_styles_manifests_and_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for style in NAMES:
        assert (
            f"ifrp_bench/styles/{style}/net.safetensors" in names
            and f"ifrp_bench/styles/{style}/card.toml" in names
        )
    for folder, files in {"features": ("net",), "faces": ("net",), "open_styles": ("net", "bank")}.items():
        wanted = {f"ifrp_bench/nets/{folder}/{file}.safetensors" for file in files}
        assert wanted | {f"ifrp_bench/nets/{folder}/card.toml"} <= set(names)
    for name in ("card.toml", "net.safetensors", "people.npy"):
        assert f"ifrp_bench/weights/portraits/{name}" in names
    assert {
        "ifrp_bench/manifests/lists/lfw.toml",
        "ifrp_bench/manifests/lists/lfw.csv",
        "ifrp_bench/nets/dlib/card.toml",
        "ifrp_bench/results/leaderboard.html",
        "ifrp_bench/results/entry.schema.json",
    } <= set(names)
    assert "ifrp_bench/manifests/celeba-paper.toml" in names and any(
        name.endswith("LICENSE") for name in names
    )
    assert not [
        name for name in names if name.startswith(("tests", "benchmarks")) or name.endswith((".jpg", ".h5"))
    ]


def test_synth_runs_from_the_installed_wheel(wheel, tmp_path):
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(site)}
    where = (
        "import ifrp_bench, ifrp_bench.data.styles as s; print(ifrp_bench.__file__);"
        " print(s.package_folder('styles'))"
    )
    places = subprocess.run(
        [sys.executable, "-c", where],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert all(Path(place).is_relative_to(site) for place in places), places
    command = [sys.executable, "-m", "ifrp_bench", "synth", "demo", *TINY, "--workers", "0", "--quiet"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "demo" / "test-00000.h5").is_file()
