"""`benchmarks/reading.py`: a linear reading of a code, fitted and scored beside the decoder."""

import re

import pytest
import torch
from click.testing import CliRunner

from benchmarks.reading import fitted, main
from tests.conftest import run


def test_what_is_linear_in_the_code_is_read_and_held_back_by_as_much_as_is_asked():
    torch.manual_seed(0)
    code = torch.randn(200, 6).double() + 3
    linear = torch.randn(6, 2).double()
    wanted = code @ linear + 0.5
    (weight, bias), held = fitted(code, wanted, (1e-9, 1e9))
    assert torch.allclose(weight, linear, atol=1e-6)
    assert torch.allclose(code @ weight + bias, wanted, atol=1e-6)

    # held back without end it is the mean
    weight, bias = held
    assert torch.allclose(code @ weight + bias, wanted.mean(0).expand_as(wanted), atol=1e-3)


@pytest.mark.parametrize("where", ["code", "e3"])
def test_a_run_is_scored_by_reading_decoder_and_both(tiny, tmp_path, where):
    folder = tmp_path / "srn"
    run(
        "train", "--method", "srn", "--data", tiny, "--preset", "smoke", "--set", "steps=1", "--set",
        "batch_size=2", "--set", "validations=1", "--out", folder, "--quiet",
    )
    words = [str(tiny), str(folder), "--recogniser", "builtin", "--people", "2", "--where", where]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    first, *rows = done.output.splitlines()
    assert first.startswith("held back by ")
    assert {line.split(",")[0] for line in rows} == {"reading", "decoder", "mean of both"}
    for line in rows:
        assert re.search(r"seen: \d+\.\d\d dB, rank-1 \d+\.\d %, top 5 \d+\.\d % of 2, cosine", line)


def test_a_run_without_a_code_is_refused_in_one_line(tiny):
    done = CliRunner().invoke(main, [str(tiny), "align-restore", "--recogniser", "builtin"])
    assert done.exit_code == 2 and "align-restore: expected a run of ifrp" in done.output
