"""Small real inputs that the tests share: rendered faces as photographs, a miniature CelebA, a tiny data set.

All offline, all made here.
"""

import json
import os
from pathlib import Path
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from ifrp_bench.cli import cli
from ifrp_bench.sources.procedural.rendering import render
from ifrp_bench.sources.procedural.traits import draw_traits
from ifrp_bench.ground.warp import TEMPLATE_PX


def sets(**values: object) -> list[str]:
    """Settings as the command line takes them: ``--set key=value`` each."""
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


TINY = tuple(sets(train_faces=6, val_faces=2, test_faces=3, stylize_px=128, shard_pairs=9))
CARD: dict[str, Any] = {
    "name": "pixels",
    "height_px": 14,
    "width_px": 12,
    "mean": 127.5,
    "std": 128.0,
    "template": (TEMPLATE_PX / 12 - [1.2, 3.0]).tolist(),
}
TINY_COUNTS = {"train": 18, "val": 6, "test": 24}


def run(*arguments: object, exit_code: int = 0) -> str:
    """Run the command line in this process and give what it printed.

    A traceback or another exit code fails the test.
    """
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == exit_code, result.output
    return result.output


def hashes(folder: Path) -> dict[str, bytes]:
    """Every shard's bytes by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.h5"))}


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    """Twelve rendered faces, three pictures each of four people, uint8 (12, 218, 178, 3)."""
    return np.concatenate(
        [render([draw_traits(7, person, picture)]) for person in range(4) for picture in range(3)]
    )


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory, frames: np.ndarray) -> Path:
    """A folder of photographs in LFW's layout: the rendered faces,
    larger than the frame, off centre, turned a little.
    """
    root = tmp_path_factory.mktemp("photographs")
    for number, frame in enumerate(frames):
        folder = root / f"Person_{number // 3}"
        folder.mkdir(exist_ok=True)
        turned = Image.fromarray(frame).rotate(
            3 * (number % 3 - 1), Image.Resampling.BICUBIC, fillcolor=(90, 90, 90)
        )
        canvas = Image.new("RGB", (300, 320), (90, 90, 90))
        canvas.paste(turned.resize((214, 262), Image.Resampling.BICUBIC), (30 + 4 * (number % 3), 40))
        canvas.save(folder / f"Person_{number // 3}_{number % 3:04d}.jpg", quality=95)
    return root


@pytest.fixture(scope="session")
def celeba(tmp_path_factory: pytest.TempPathFactory, frames: np.ndarray) -> Path:
    """A miniature CelebA in the published layout: twelve pictures of four
    people, two trained on, one validated, one tested.
    """
    root = tmp_path_factory.mktemp("celeba")
    (root / "img_align_celeba").mkdir()
    names = [f"{number + 1:06d}.jpg" for number in range(len(frames))]
    for name, frame in zip(names, frames):
        Image.fromarray(frame).save(root / "img_align_celeba" / name, quality=95)
    people = [number // 3 for number in range(len(frames))]
    (root / "identity_CelebA.txt").write_text(
        "".join(f"{name} {100 + person}\n" for name, person in zip(names, people))
    )
    (root / "list_eval_partition.txt").write_text(
        "".join(f"{name} {max(person - 1, 0)}\n" for name, person in zip(names, people))
    )
    rows = [f"{name}  {-1} {1 if number == 4 else -1}" for number, name in enumerate(names)]
    (root / "list_attr_celeba.txt").write_text(
        "\n".join([str(len(names)), "Blurry Eyeglasses", *rows]) + "\n"
    )
    points = "69 111 108 111 88 135 71 152 105 152"
    columns = (
        "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x"
        " rightmouth_y"
    )
    (root / "list_landmarks_align_celeba.txt").write_text(
        "\n".join([str(len(names)), columns, *(f"{name} {points}" for name in names)]) + "\n"
    )
    return root


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny finished data set of rendered faces, made in this process.

    Tests that change it work on a copy.
    """
    out = tmp_path_factory.mktemp("tiny") / "data"
    run("synth", "demo", *TINY, "--out", out, "--workers", 0, "--quiet")
    return out


@pytest.fixture()
def inception_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Inception of random weights in the published layout, placed where `fetch` would."""
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None)
        state = inception.FeatureExtractorInceptionV3("x", ["2048"]).state_dict()
    monkeypatch.setenv("IFRP_BENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "cache" / "weights" / "weights-inception-2015-12-05-6726825d.pth"
    path.parent.mkdir(parents=True)
    torch.save(state, path)


@pytest.fixture()
def pixels(tmp_path: Path) -> Path:
    """A recogniser whose embedding is its input: what it was shown can be read off."""
    return write_pixels(tmp_path)


def write_pixels(folder: Path) -> Path:
    """The recogniser ``pixels`` and its card in a folder."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["faces"], ["embedding"])],
        "pixels",
        [
            helper.make_tensor_value_info(
                "faces", onnx.TensorProto.FLOAT, ["n", 3, CARD["height_px"], CARD["width_px"]]
            )
        ],
        [helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["n", 3 * 14 * 12])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        str(folder / "pixels.onnx"),
    )
    (folder / "pixels.json").write_text(json.dumps(CARD))
    return folder / "pixels.onnx"
