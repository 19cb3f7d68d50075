"""bfloat16 is used where the hardware has it, and nowhere else: a CPU without it is ten to hundreds of times
slower in it than in float32.
"""

import json
import shutil

import pytest
import torch

from ifrp_bench.data.recipe import load_recipe
from ifrp_bench.data.synth import synthesize
from ifrp_bench.ground import precision
from ifrp_bench.methods import Setup
from tests.conftest import hashes, run, sets


@pytest.mark.parametrize("machine, bf16, amx, told, has", [
    ("x86_64", False, False, "AVX512", False),
    ("x86_64", True, False, "AVX512", True),
    ("AMD64", False, True, "AVX512", True),
    ("x86_64", True, False, "AVX2", False),   # by ATEN_CPU_CAPABILITY
])
def test_bfloat16_needs_instructions_for_it(monkeypatch, machine, bf16, amx, told, has):
    monkeypatch.setattr(precision.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: told)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert precision.has_bfloat16("cpu") is has
    assert precision.fast_precision("cpu") == ("bfloat16" if has else "float32")


@pytest.mark.parametrize("has", [True, False])
def test_methods_compute_in_what_is_fast(monkeypatch, has):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: has)
    conv, faces = torch.nn.Conv2d(3, 3, 1), torch.rand(1, 3, 4, 4)
    with Setup().autocast():
        assert conv(faces).dtype == (torch.bfloat16 if has else torch.float32)


def test_a_data_set_says_in_which_precision_it_was_made_and_keeps_to_it(tiny, tmp_path, monkeypatch):
    made = json.loads((tiny / "dataset.json").read_text())["recipe"]["precision"]
    assert made == precision.fast_precision("cpu")
    shutil.copytree(tiny, tmp_path / "data")
    recipe = load_recipe(
        "demo", ("train_faces=6", "val_faces=2", "test_faces=3", "stylize_px=128", "shard_pairs=9")
    )
    # the other kind of machine
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: made == "float32")
    info = synthesize(recipe, tmp_path / "data", quiet=True)
    assert (
        recipe.precision == "auto"
        and info["recipe"]["precision"] == made
        and hashes(tmp_path / "data") == hashes(tiny)
    )


def test_bf16_asked_for_where_it_is_slow_is_float32_with_a_word(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    run(
        "train",
        "--data",
        tiny,
        *sets(steps=1, batch_size=2),
        "--out",
        tmp_path / "run",
        "--quiet",
    )
    picture = tiny / "preview.png"
    assert "float32 is faster here" in run(
        "destylize", tmp_path / "run", picture, "--crop", "none", "--bf16", "--out", tmp_path / "out"
    )
