"""`benchmarks/style_count.py` at toy size: a data set, a training and scores for each number of styles."""

import pandas as pd
from click.testing import CliRunner

from benchmarks.style_count import main, pick
from tests.conftest import sets

TOY = sets(
    train_faces=3, val_faces=1, test_faces=2, stylize_px=128, shard_pairs=9, precision="float32",
    train_styles="open,candy", test_styles="candy,mosaic",
)


def test_a_number_of_styles_has_its_scores(photographs, tmp_path):
    words = [photographs, photographs, "--counts", "2", "--steps", 2, "--recogniser", "builtin"]
    words += ["--train-set", "batch_size=2", "--out", tmp_path, *TOY]
    result = CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "scores.csv")
    assert table["styles"].tolist() == [2] and table["PSNR"].between(3, 30).all()
    assert (table["PSNR low"] <= table["PSNR"]).all() and (table["PSNR"] <= table["PSNR high"]).all()
    assert (tmp_path / "scores.png").stat().st_size > 5_000


def test_fewer_styles_are_among_more(photographs, tmp_path):
    folders = [pick(photographs, count, tmp_path / str(count)) for count in (3, 8)]
    few, more = ({path.name for path in folder.iterdir()} for folder in folders)
    assert len(few) == 3 and len(more) == 8 and few < more
