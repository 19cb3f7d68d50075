"""Open styles: each face in a style of its own, from the shipped bank or a user's pictures."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from ifrp_bench.data.apply_styles import import_style
from ifrp_bench.data.format import open_dataset
from ifrp_bench.data.open_styles import FOLDER, draw_mixtures, open_bank
from ifrp_bench.data.styles import Stylizer, load_net, pick_styles
from ifrp_bench.ground.draws import generator
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.images import read_picture
from tests.conftest import TINY, hashes, run, sets

OPEN = sets(train_styles="open", test_styles="candy")


@pytest.fixture(scope="module")
def paintings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red and a blue picture of coarse noise."""
    root = tmp_path_factory.mktemp("paintings")
    draws = np.random.default_rng(0)
    for name, colour in (("red", (200, 30, 30)), ("blue", (20, 40, 190))):
        noise = draws.integers(-30, 30, (20, 30, 3)) + np.array(colour)
        picture = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
        picture.resize((450, 300), Image.Resampling.BICUBIC).save(root / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set of rendered faces whose training split is in open styles."""
    out = tmp_path_factory.mktemp("opened") / "data"
    run("synth", "demo", *TINY, *OPEN, "--out", out, "--workers", 0, "--quiet")
    return out


def stylized(faces: np.ndarray, keys: list[str], batch_size: int = 1) -> np.ndarray:
    stylizer = Stylizer(pick_styles(["open"]), precision="float32", device="cpu", batch_size=batch_size)
    return stylizer("open", faces, 128, keys)


def test_the_bank_holds_what_its_card_says_and_takes_little_room() -> None:
    bank = open_bank()
    assert bank.shape[0] == pick_styles(["open"])[0].card["bank"]["styles"] > 500
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 6 * 2**20
    assert (FOLDER / "bank.safetensors").stat().st_size < 4 * 2**20


def test_a_face_has_the_style_of_its_key_alone(frames: np.ndarray) -> None:
    faces = np.ascontiguousarray(frames[:3, 40:168, 25:153])
    together = stylized(faces, ["a", "b", "c"], batch_size=3)
    assert np.array_equal(together[1], stylized(faces[1:2], ["b"])[0])
    assert np.abs(together[0].astype(int) - stylized(faces[:1], ["d"])[0]).mean() > 5


def test_half_of_the_faces_have_one_style_of_the_bank() -> None:
    pairs, shares = draw_mixtures(2000, 7, generator("test"))
    assert 0.45 < (shares == 0).mean() < 0.55
    assert pairs.min() == 0 and pairs.max() == 6 and shares.max() < 1


def test_a_data_set_in_open_styles_is_verified_and_the_same_by_any_number_of_workers(
    opened: Path, tmp_path: Path
) -> None:
    assert "good" in run("verify", opened, "--quiet")
    run("synth", "demo", *TINY, *OPEN, "--out", tmp_path / "two", "--workers", 2, "--quiet")
    assert hashes(opened) == hashes(tmp_path / "two")
    assert open_dataset(opened).info["styles"]["open"] == pick_styles(["open"])[0].sha256


def test_pictures_of_ones_own_are_kept_as_numbers_and_verified(paintings: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    arguments = ("synth", "demo", *TINY, *OPEN, "--style-pictures", paintings, "--out", out, "--quiet")
    run(*arguments, "--workers", 0)
    assert len(open_bank(out / "open")) == 8   # two pictures at four scales
    assert open_dataset(out).info["styles"]["open"] != pick_styles(["open"])[0].sha256
    assert "good" in run("verify", out, "--quiet")

    # the paintings' two colours, and nothing else
    shard = open_dataset(out).read(out / "train-00000.h5")
    red, green, blue = shard.stylized.reshape(-1, 3).mean(0)
    assert green < min(red, blue)


def test_style_pictures_without_an_open_style_are_refused_before_any_work(
    paintings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    said = run(
        "synth", "demo", *TINY, "--style-pictures", paintings, "--out", out, "--quiet", exit_code=1
    )
    assert "train_styles=open" in said and not out.exists()
    said = run(
        "synth", "demo", *TINY, *OPEN, "--style-pictures", tmp_path, "--out", out, "--quiet", exit_code=1
    )
    assert "no picture in it" in said and not out.exists()
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    said = run(
        "synth", "demo", *TINY, *OPEN, "--style-pictures", tmp_path, "--out", out, "--quiet", exit_code=1
    )
    assert "phone.heic: HEIC, which is not read" in said


def test_a_changed_bank_is_refused(paintings: Path, opened: Path, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "open")
    path = tmp_path / "open" / "bank.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="sha256"):
        open_bank(tmp_path / "open")


def test_a_style_is_tried_on_a_picture(paintings: Path, photographs: Path, tmp_path: Path) -> None:
    picture = next(photographs.rglob("*.jpg"))
    out = tmp_path / "tried.png"
    run("styles", "apply", picture, "--style", "candy", "--out", out, "--size", 130)
    assert read_picture(out).shape == (136, 128, 3)   # 130 pixels and its 139, cut to multiples of 4

    # of any picture: its colours
    means = {}
    for name in ("red", "blue"):
        run("styles", "apply", picture, "--style", paintings / f"{name}.png", "--out", out, "--size", 128)
        means[name] = read_picture(out).mean((0, 1))
    assert means["red"][0] > means["blue"][0] + 20 and means["blue"][2] > means["red"][2] + 20


def test_a_picture_is_not_replaced_by_what_is_made_of_it(paintings: Path, tmp_path: Path) -> None:
    picture = shutil.copy(paintings / "red.png", tmp_path / "red.png")
    said = run("styles", "apply", picture, "--style", "candy", "--out", picture, exit_code=1)
    assert "would replace" in said
    assert "name a picture" in run("styles", "apply", picture, "--style", "open", exit_code=1)


class Theirs(nn.Module):
    """The transformer of PyTorch's examples, by its published layer names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = {}
        plan = [("1", 3, width, 9), ("2", width, 2 * width, 3), ("3", 2 * width, 4 * width, 3)]
        for name, inputs, outputs, size in plan:
            self.layer(f"conv{name}", f"in{name}", inputs, outputs, size)
        for number in range(1, 6):
            block = nn.Module()
            self.add_module(f"res{number}", block)
            for half in "12":
                self.layer(f"conv{half}", f"in{half}", 4 * width, 4 * width, 3, block)
        self.layer("deconv1", "in4", 4 * width, 2 * width, 3)
        self.layer("deconv2", "in5", 2 * width, width, 3)
        self.layer("deconv3", None, width, 3, 9)

    def layer(self, conv, norm, inputs, outputs, size, where=None) -> None:   # type: ignore[no-untyped-def]
        where = where or self
        holder = nn.Module()
        holder.conv2d = nn.Conv2d(inputs, outputs, size)
        where.add_module(conv, holder)
        if norm:
            where.add_module(norm, nn.InstanceNorm2d(outputs, affine=True))
            nn.init.uniform_(getattr(where, norm).weight, 0.5, 1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:   # 0 to 255
        def conv(holder, x, stride=1):   # type: ignore[no-untyped-def]
            size = holder.conv2d.kernel_size[0] // 2
            padded = F.pad(x, (size,) * 4, mode="reflect")
            return F.conv2d(padded, holder.conv2d.weight, holder.conv2d.bias, stride)

        x = F.relu(self.in1(conv(self.conv1, x)))
        x = F.relu(self.in2(conv(self.conv2, x, 2)))
        x = F.relu(self.in3(conv(self.conv3, x, 2)))
        for number in range(1, 6):
            block = getattr(self, f"res{number}")
            inside = F.relu(block.in1(conv(block.conv1, x)))
            x = x + block.in2(conv(block.conv2, inside))
        x = F.relu(self.in4(conv(self.deconv1, F.interpolate(x, scale_factor=2))))
        x = F.relu(self.in5(conv(self.deconv2, F.interpolate(x, scale_factor=2))))
        return conv(self.deconv3, x)   # type: ignore[no-any-return]


def test_an_imported_network_gives_the_same_pictures(tmp_path: Path, frames: np.ndarray) -> None:
    torch.manual_seed(0)
    theirs = Theirs(8).eval()
    with torch.no_grad():
        theirs.deconv3.conv2d.weight.mul_(60)
        theirs.deconv3.conv2d.bias.fill_(120)
    state = theirs.state_dict() | {"in1.running_mean": torch.zeros(8)}   # as older files have
    torch.save(state, tmp_path / "net.pth")
    said = run("styles", "import", tmp_path / "net.pth", "--name", "mine", "--out", tmp_path / "styles")
    assert "width 8" in said

    face = torch.from_numpy(np.ascontiguousarray(frames[:1, :128, :128])).permute(0, 3, 1, 2).float() / 255
    style, = pick_styles(["mine"], tmp_path / "styles")
    with torch.no_grad():
        wanted, got = theirs(255 * face) / 255, load_net(style)(face)
    assert wanted.std() > 0.05
    assert (wanted - got).abs().max() < 0.02   # halves of floats

    # and it is a style like any other
    out = tmp_path / "tried.png"
    run("styles", "apply", _saved(frames[0], tmp_path), "--style", "mine", "--styles", tmp_path / "styles",
        "--out", out)
    assert out.is_file()


def _saved(picture: np.ndarray, folder: Path) -> Path:
    Image.fromarray(picture).save(folder / "picture.png")
    return folder / "picture.png"


def test_what_is_no_such_network_is_refused_and_nothing_written(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="conv1.conv2d.weight"):
        import_style(tmp_path / "other.pth", "mine", tmp_path / "styles")
    with pytest.raises(InputError, match="--name"):
        import_style(tmp_path / "other.pth", "candy", tmp_path / "styles")
    with pytest.raises(InputError, match="--name"):
        import_style(tmp_path / "other.pth", "../x", tmp_path / "styles")
    assert not (tmp_path / "styles").exists()
