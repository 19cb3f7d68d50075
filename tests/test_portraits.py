"""A folder of portraits without real faces: what is counted is what is there."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import run, sets


@pytest.fixture()
def folder(photographs, tmp_path):
    """Two people with two pictures each, somebody alone, a grey picture, and two files that are not read."""
    root = tmp_path / "portraits"
    for person in (0, 1):
        for number in (0, 1):
            place = root / f"P{person}"
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.open(photographs / f"Person_{person}" / f"Person_{person}_{number:04d}.jpg")
            picture.save(place / f"{number} <b>.png")
    Image.new("RGB", (200, 240), (128, 128, 128)).save(root / "grey.png")
    (root / "broken.png").write_bytes(b"no picture")
    (root / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    return root


def test_what_is_found_and_agrees_is_counted(folder, tiny, tmp_path):
    out = tmp_path / "out"
    command = "eval", "--portraits", folder, "--data", tiny, "--recogniser", "builtin"
    said = run(*command, "--out", out, "--quiet")
    assert "look at" in said
    table = pd.read_csv(out / "portraits.csv", keep_default_na=False, na_values={"found_before": [""]})
    itself = table[table["run"] == ""].set_index("file")
    assert len(itself) == 5 and set(table["run"]) == {"", "portraits"}
    assert itself["found_before"].notna().sum() == 4 and np.isnan(itself["found_before"]["grey.png"])
    assert itself["sharpness"].astype(float)["grey.png"] < 1e-6

    facts = json.loads((out / "portraits.json").read_text())
    assert facts["pictures"] == 7 and list(facts["unread"]) == ["broken.png", "phone.heic"]
    first = facts["runs"][0]
    assert first["found_before_percent"] == 80 and first["pairs"] == 2
    pairs = pd.read_csv(out / "pairs.csv", keep_default_na=False)
    mine = pairs[pairs["run"] == ""]
    assert len(mine) == 4 and mine["same_person"].sum() == 2
    assert np.isclose(first["cosine_same_person"], mine["cosine"][mine["same_person"]].mean(), atol=1e-3)
    assert first["cosine_same_person"] > first["cosine_others"]
    assert first["kid"] is None   # no weights
    page = (out / "portraits.html").read_text()
    assert page.count("<img") == 10 and "KID" not in page and "&lt;b&gt;" in page and "<b>" not in page


def test_where_inception_is_at_hand_the_faces_as_a_set_are_held_against_real_ones(
    folder, tmp_path, inception_at_hand
):
    data, out = tmp_path / "data", tmp_path / "out"
    chosen = sets(train_faces=1, val_faces=1, test_faces=5, stylize_px=128, test_styles="candy")
    run("synth", "demo", *chosen, "--out", data, "--workers", 0, "--quiet")
    run("eval", "--portraits", folder, "--data", data, "--recogniser", "builtin", "--out", out, "--quiet")
    facts = json.loads((out / "portraits.json").read_text())
    assert all(np.isfinite(one["kid"]) for one in facts["runs"])
    assert "KID" in (out / "portraits.html").read_text()


def test_what_does_not_go_with_portraits_is_said(folder, tiny, tmp_path):
    command = "eval", "--portraits", folder, "--data", tiny
    assert "no real faces to score against" in run(*command, "--metrics", "psnr", exit_code=2)
    (tmp_path / "empty").mkdir()
    assert "no picture in it" in run("eval", "--portraits", tmp_path / "empty", "--data", tiny, exit_code=1)
