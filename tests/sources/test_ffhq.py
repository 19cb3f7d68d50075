"""FFHQ's thumbnails as its authors distribute them, in miniature."""

import pytest
from PIL import Image

from ifrp_bench.data.format import open_dataset
from ifrp_bench.ground.errors import InputError
from ifrp_bench.sources.ffhq import folder_of
from tests.conftest import run, sets


@pytest.fixture()
def thumbnails(photographs, tmp_path):
    """Six faces in two folders of the published names."""
    for number, path in enumerate(sorted(photographs.rglob("*.jpg"))[:6]):
        folder = tmp_path / "ffhq" / "thumbnails128x128" / f"{number // 3 * 1000:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.open(path).crop((40, 60, 240, 260)).resize((128, 128), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number // 3 * 1000 + number % 3:05d}.png")
    return tmp_path / "ffhq"


def test_every_picture_is_a_person_of_its_own(thumbnails, tmp_path):
    counts = sets(train_faces=2, val_faces=1, test_faces=2, stylize_px=128, test_styles="candy,udnie")
    out = tmp_path / "data"
    run("synth", "ffhq", "--faces", thumbnails, *counts, "--out", out, "--workers", 0, "--quiet")
    data = open_dataset(out)
    assert data.info["counts"]["test"] == {"faces": 2, "pairs": 4}
    people = [set(data.read(path).identity.tolist()) for path in sorted(out.glob("*.h5"))]
    assert sum(map(len, people)) == 5 == len(set().union(*people))


def test_a_folder_that_is_none_is_one_line(thumbnails, photographs):
    assert folder_of(thumbnails) == folder_of(thumbnails / "thumbnails128x128")
    with pytest.raises(InputError, match="no FFHQ; --faces wants its folder thumbnails128x128"):
        folder_of(photographs)
