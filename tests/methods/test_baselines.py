"""The baselines hold to their papers: sizes, losses by hand, what
each of them may see, and the aligner's geometry.
"""


import numpy as np
import pandas as pd
import pytest
import torch

from ifrp_bench import parts
from ifrp_bench.data.format import open_dataset, read_shard
from ifrp_bench.data.runs import open_run, start_run
from ifrp_bench.data.split import load_split, normalized
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.images import as_faces
from ifrp_bench.ground.warp import draw_misalignment, face_window, warp_matrix
from ifrp_bench.methods import Setup, cyclegan, gatys, johnson, mgan, pix2pix
from ifrp_bench.methods.cyclegan import Generator, ImagePool, cycle_loss
from ifrp_bench.methods.pix2pix import UNet
from ifrp_bench.nets.patchgan import PatchGAN, cross_entropy, hinge, least_squares, linear_decay
from ifrp_bench.nets.stn import frame_maps
from ifrp_bench.nets.transformer import Transformer
from ifrp_bench.nets.vgg import grams, open_features, style_distance
from ifrp_bench.recovery import split as recovery
from ifrp_bench.recovery.alignment import in_pixels
from ifrp_bench.recovery.split import Task
from ifrp_bench.training.batches import Batches, Unpaired
from ifrp_bench.training.resolve import resolve
from tests.conftest import run
from tests.methods.test_methods import FourFaces, pairs


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    "network, millions",
    [
        (UNet(), 41.83),
        (PatchGAN(6), 2.77),
        (PatchGAN(3, instance=True), 2.76),
        (Generator(), 7.84),
        (Transformer(32), 1.68),
    ],
)
def test_networks_are_as_large_as_published(network, millions):
    assert round(parameters(network) / 1e6, 2) == millions


@pytest.mark.parametrize("instance", [False, True])
def test_a_patch_is_70_pixels_wide(instance):
    critic = PatchGAN(3, instance=instance).eval()
    # statistics of a whole picture would reach everywhere: the convolutions alone are looked at
    for module in critic.modules():
        if isinstance(module, torch.nn.InstanceNorm2d):
            module.forward = lambda x: x   # type: ignore[method-assign]
    picture = torch.randn(1, 3, 128, 128, requires_grad=True)
    scores = critic(picture)
    assert scores.shape == (1, 1, 14, 14)
    scores[0, 0, 7, 7].backward()
    rows, columns = (picture.grad[0].abs().sum(0) > 0).nonzero().T
    assert int(rows.max() - rows.min()) + 1 == 70 and int(columns.max() - columns.min()) + 1 == 70


def test_losses_by_hand():
    scores = torch.tensor([0.0, 2.0, -1.0])
    assert float(hinge(scores, True)) == pytest.approx((1 + 0 + 2) / 3) and float(
        hinge(scores, False)
    ) == pytest.approx((1 + 3 + 0) / 3)
    assert float(least_squares(scores, True)) == pytest.approx((1 + 1 + 4) / 3) and float(
        least_squares(scores, False)
    ) == pytest.approx(5 / 3)
    assert float(cross_entropy(torch.tensor([0.0, np.log(3.0)]), True)) == pytest.approx(
        (np.log(2) + np.log(4 / 3)) / 2
    )
    assert float(cross_entropy(torch.tensor([0.0, np.log(3.0)]), False)) == pytest.approx(
        (np.log(2) + np.log(4)) / 2
    )


def test_style_distance_by_hand():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])   # two channels, two places
    twice = {"relu1_1": 2 * features}
    # (4 - 1)^2 of the length squared
    assert float(
        style_distance(twice, grams({"relu1_1": features}, ["relu1_1"]), ["relu1_1"])
    ) == pytest.approx(9)


def test_the_learning_rate_is_constant_for_half_and_falls_to_nothing():
    assert [linear_decay(part) for part in (0, 0.25, 0.5, 0.75, 1)] == [1, 1, 1, 0.5, 0]


def test_cycles_through_an_identity_cost_nothing():
    faces = torch.rand(2, 3, 8, 8)
    assert float(cycle_loss((faces, faces), (faces, faces))) == 0
    assert float(cycle_loss((faces + 0.5, faces), (faces, faces))) == pytest.approx(0.5)


def test_dropout_is_active_in_training_and_not_in_use():
    torch.manual_seed(0)
    network, faces = UNet(), torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        assert not torch.equal(network.train()(faces), network(faces))
        assert torch.equal(network.eval()(faces), network(faces))
    method = pix2pix.build(pix2pix.Config(), Setup(steps=4))
    method.step(pairs(2))
    assert method.network.training


def test_a_pool_gives_pictures_back_and_goes_on_where_it_was():
    pool, other = ImagePool(3, 0, "real"), ImagePool(3, 0, "real")
    batches = torch.arange(40.0).view(20, 2, 1, 1, 1)
    given = [pool.exchange(batch) for batch in batches[:10]]
    assert torch.equal(given[0], batches[0]) and float(given[1][0]) == 2   # until it is full they pass
    assert any(not torch.equal(a, b) for a, b in zip(given, batches))
    assert len(pool.pictures) == 3
    other.restore(pool.state(), "cpu")
    assert all(torch.equal(pool.exchange(batch), other.exchange(batch)) for batch in batches[10:])


def test_the_pools_are_part_of_cyclegans_state():
    method = cyclegan.build(cyclegan.Config(width=8, blocks=1), Setup(steps=4))
    method.step(pairs(2))
    assert (
        method.state()["pools"]["real"]["pictures"].shape == (2, 3, 128, 128)
        and method.state()["pools"]["stylized"]["seen"] == 1
    )


def test_unpaired_training_sees_nobody_twice(tiny):
    split = load_split(open_dataset(tiny), "train", "cpu")
    batches = Unpaired(split, 4, seed=0)
    shown, real = batches.halves
    assert not set(split.identity[shown]) & set(split.identity[real]) and len(shown) and len(real)
    faces = {split.stylized[row].numpy().tobytes() for row in shown}, {
        split.real[split.real_index[row]].numpy().tobytes() for row in real
    }
    for step in range(6):
        batch = batches.at(step)
        for pictures, known in ((batch.stylized, faces[0]), (batch.real, faces[1])):
            assert all(
                face.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy().tobytes() in known
                for face in pictures
            )


def test_baselines_are_trained_on_upright_faces(tiny):
    data = open_dataset(tiny)
    split = load_split(data, "train", "cpu", upright=True)
    task = Task(data, "oracle")
    shard = read_shard(data.shards("train")[0])
    assert np.array_equal(split.stylized[:len(shard.stylized)].numpy(), task.stylized(shard))
    assert torch.allclose(Batches(split, 4, seed=0).at(0).warp, torch.eye(2, 3).expand(4, -1, -1), atol=1e-6)
    assert all(module.METHOD.sees == "upright" for module in (gatys, johnson, mgan, pix2pix, cyclegan))


def test_the_aligners_maps_are_the_stored_misalignments():
    for number in range(5):
        misalignment = draw_misalignment("lab", "test", number)
        wanted = normalized(torch.from_numpy(warp_matrix(misalignment)).float()[None], 128)
        found = frame_maps(
            torch.tensor(
                [[np.radians(misalignment.angle_deg), misalignment.scale, *wanted[0, :, 2].tolist()]],
                dtype=torch.float32,
            )
        )
        assert torch.allclose(found, wanted, atol=1e-5)
        assert np.allclose(in_pixels(wanted[0].double().numpy()), warp_matrix(misalignment), atol=1e-4)


def test_gatys_lowers_its_losses_and_each_face_is_its_own(frames):
    method = gatys.build(gatys.Config(steps_per_face=8, learning_rate=0.05), Setup(training=FourFaces()))
    faces = as_faces(torch.from_numpy(np.stack([face_window(frame) for frame in frames[::3]])))
    content, style = faces.flip(1), faces.roll(1, 0)   # other colours; another person
    made = method.transfer(content, style)
    assert bool(
        (method.losses_of(made, content, style) < 0.8 * method.losses_of(content, content, style)).all()
    )
    assert float((method.transfer(content[2:3], style[2:3]) - made[2:3]).abs().mean()) < 1 / 255


def test_gatys_takes_the_style_of_the_nearest_training_face_and_the_oracle_that_of_the_own(monkeypatch):
    used = []
    monkeypatch.setattr(gatys.Gatys, "transfer", lambda self, content, style: used.append(style) or content)
    # an SF that looks like the training face 1
    stylized, real = as_faces(FourFaces.real[1:2]), as_faces(FourFaces.real[3:4])
    gatys.build(gatys.Config(), Setup(training=FourFaces())).recover(stylized, real)
    oracle = gatys.build(gatys.Config(style="own"), Setup(training=FourFaces()))
    oracle.recover(stylized, real)
    assert torch.equal(used[0], stylized) and torch.equal(used[1], real)
    with pytest.raises(InputError, match="on a data set only"):
        oracle.recover(stylized)


def test_where_features_end_early_the_layers_are_those_there_are():
    features = open_features("builtin")
    assert mgan.Network(features).layer == "relu3_1"
    assert johnson.build(johnson.Config(width=4), Setup()).style_layers == ("relu1_1", "relu2_1", "relu3_1")
    out = mgan.Network(features)(torch.zeros(1, 3, 128, 128))
    assert out.shape == (1, 3, 128, 128)


SMALL = ("--set", "batch_size=4", "--set", "validations=1")


# each kind of method, for the tests' time
COMPARED = tuple(name for name in parts.paper_rows() if name not in ("johnson", "mgan", "srn", "srn-dn"))


@pytest.fixture(scope="module")
def compared(tiny, tmp_path_factory):
    """The whole paper on the tiny data set, a few steps each."""
    from ifrp_bench import paper
    from ifrp_bench.training import timing

    root = tmp_path_factory.mktemp("paper")
    short = {"steps": 2, "batch_size": 4, "validations": 1, "ema": 0.0}
    settings = {
        "cyclegan": short | {"width": 8, "blocks": 1},
        "pix2pix": short | {"width": 8},
        "gatys": {"steps_per_face": 1},
        "gatys-oracle": {"steps_per_face": 1},
    }

    def small(self: paper.Paper, name: str):
        return resolve(name, self.preset, settings.get(name, short), seed=self.seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper.Paper, "job", small)
        patch.setattr(paper, "TIMED_STEPS", 1)
        patch.setattr(timing, "STEPS_TIMED", 1)
        options = (
            "paper",
            "--data",
            tiny,
            "--runs",
            root / "runs",
            "--out",
            root / "out",
            "--methods",
            ",".join(COMPARED),
            "--quiet",
        )
        yield root, run(*options), options


def test_one_command_trains_and_compares_everything(compared):
    root, printed, _ = compared
    assert (
        "minutes of training" in printed
        and "pix2pix: 2 steps" in printed
        and "gatys: not trained" in printed
        and "s a face" in printed
    )
    for name in COMPARED:
        assert (root / "runs" / name / "run.json").is_file()
    frame = pd.read_csv(root / "out" / "scores.csv", keep_default_na=False)
    assert set(frame["method"]) == {*COMPARED, "copy", "mean-face", "nearest-face"} - {"aligner"}
    assert set(frame["condition"]) == {"raw", "stn", "oracle"}
    top = frame[frame["headline"]].groupby("method")["condition"].unique().map(list)
    assert (
        top["ifrp"] == ["raw"]
        and top["copy"] == ["raw"]
        and top["pix2pix"] == ["stn"]
        and top["gatys-oracle"] == ["stn"]
    )
    assert (
        "leaks" in (root / "out" / "tables" / "table1.md").read_text()
        and "leaks" in (root / "out" / "report.html").read_text()
    )
    assert (root / "out" / "tables" / "aligner.csv").is_file() and "| ifrp (raw) |" in printed


def test_stopped_it_goes_on_and_trains_nothing_twice(compared):
    root, _, options = compared
    stamps = {path: path.stat().st_mtime_ns for path in (root / "runs").rglob("*.safetensors")}
    scores = (root / "out" / "scores.csv").read_bytes()
    assert "pix2pix: finished" in run(*options)
    assert {path: path.stat().st_mtime_ns for path in (root / "runs").rglob("*.safetensors")} == stamps
    assert (root / "out" / "scores.csv").read_bytes() == scores


def test_each_run_can_be_evaluated_under_the_condition_of_its_row_alone(compared, tiny):
    root, *_ = compared
    run(
        "eval", root / "runs" / "pix2pix", root / "runs" / "ifrp", "--data", tiny, "--metrics", "psnr",
        "--condition", "raw", "--condition", "stn", "--aligner", root / "runs" / "aligner",
        "--headline-only", "--out", root / "headlines", "--quiet",
    )
    frame = pd.read_csv(root / "headlines" / "scores.csv", keep_default_na=False)
    found = frame.groupby("method")["condition"].unique().map(sorted)
    assert found["pix2pix"] == ["stn"] and found["ifrp"] == ["raw"] and found["copy"] == ["raw", "stn"]
    assert set(frame[frame["headline"]]["method"]) == set(found.index)


def test_gatys_goes_on_where_it_was_stopped(compared, tiny, monkeypatch):
    root, _, _ = compared
    monkeypatch.setitem(recovery.OPTIMISED_AT_ONCE, "cpu", 3)   # of eight faces in a shard
    task, gatys_run = Task(open_dataset(tiny), "oracle", quiet=True), open_run(root / "runs" / "gatys")
    path = next((root / "runs" / "gatys" / "recovered").rglob("oracle/test-00000.h5"))
    path.unlink()
    recovery.recover_split(gatys_run, task)
    before = path.read_bytes()
    path.unlink()
    made, original = [], gatys.Gatys.recover

    def counted(self, stylized, real=None):
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(len(stylized))
        return original(self, stylized, real)

    with monkeypatch.context() as stopping:
        stopping.setattr(recovery, "on_threads", lambda function, items: [function(item) for item in items])
        stopping.setattr(gatys.Gatys, "recover", counted)
        with pytest.raises(KeyboardInterrupt):
            recovery.recover_split(gatys_run, task)
    assert len(list((path.parent / "parts").glob("*.npy"))) == 1
    recovery.recover_split(gatys_run, task)
    assert path.read_bytes() == before and not list((path.parent / "parts").glob("*.npy"))


def test_the_oracle_condition_wants_no_aligner_and_stn_does(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "condition stn needs an aligner" in run(
        "eval",
        "--data",
        tiny,
        "--metrics",
        "psnr",
        "--condition",
        "stn",
        "--out",
        tmp_path / "out",
        exit_code=1,
    )
    with pytest.raises(InputError, match="needs a trained aligner"):
        Task(open_dataset(tiny), "stn")


def test_methods_and_presets_that_there_are_not_are_named_before_anything_is_trained(tiny, tmp_path):
    options = ("paper", "--data", tiny, "--runs", tmp_path / "runs", "--out", tmp_path / "out", "--quiet")
    assert "difficulty row" in run(*options, "--methods", "copy", exit_code=1)
    assert "preset 'long' is none of" in run(*options, "--preset", "long", exit_code=1)
    assert not (tmp_path / "runs").exists()


def test_an_equal_budget_gives_each_method_the_steps_that_fit_and_keeps_them(tiny, tmp_path, monkeypatch):
    from ifrp_bench import paper
    from ifrp_bench.training import timing

    monkeypatch.setattr(timing, "time_training", lambda *_: timing.Timing(2.0, 1.0, 100, 4))
    monkeypatch.setattr(paper, "time_faces", lambda _, config, *__: 0.5 * config.steps_per_face)
    wanted = paper.Paper(open_dataset(tiny), tmp_path / "runs", ("pix2pix", "gatys"), "smoke", minutes=0.5)
    said: list[str] = []
    pix2pix_plan, gatys_plan = paper.plan(wanted, said.append)
    # of 30 s four are its validations'
    assert pix2pix_plan.job.trained.steps == 13 and pix2pix_plan.seconds == 30
    assert gatys_plan.job.config.steps_per_face == 2 and gatys_plan.seconds == 0   # 24 faces of 0.5 s a step
    assert (
        "pix2pix: 13 steps, about 0.5 minutes" in said[0] and "gatys: not trained; 2 steps a face" in said[1]
    )
    longer = paper.Paper(wanted.data, wanted.runs, wanted.methods, "smoke", minutes=50)
    for root, settings in (
        ("pix2pix", {"loop": {"steps": 13, "validations": 4}, "config": {}}),
        ("gatys", {"loop": {}, "config": {"steps_per_face": 2}}),
    ):
        start_run(wanted.runs / root, {"method": root, "data_sha256": "", **settings})
    # what is begun keeps its length
    assert [run.job for run in paper.plan(longer, said.append)] == [pix2pix_plan.job, gatys_plan.job]


def test_validations_take_their_share_of_a_budget_and_one_is_always_made(tiny, tmp_path, monkeypatch):
    from ifrp_bench import paper
    from ifrp_bench.training import timing

    monkeypatch.setattr(timing, "time_training", lambda *_: timing.Timing(1.0, 60.0, 100, 8))
    for minutes, validations, steps in ((0.5, 1, 1), (7, 1, 360), (15, 2, 780), (60, 4, 3360)):
        wanted = paper.Paper(
            open_dataset(tiny), tmp_path / "runs", ("cyclegan",), "smoke", minutes=minutes
        )
        trained = paper.plan(wanted, lambda _: None)[0].job.trained
        assert (trained.validations, trained.steps) == (validations, steps)
