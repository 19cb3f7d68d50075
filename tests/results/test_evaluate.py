"""Evaluation: the numbers are those that an independent script finds,
results say what they are of, mistakes write nothing.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision

from ifrp_bench import parts
from ifrp_bench.data.format import open_dataset, read_shard, write_recovered
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.ranks import rank_queries, verified
from ifrp_bench.ground.weights import HASHES
from ifrp_bench.metrics import fid, kid
from ifrp_bench.nets.recogniser import open_recogniser
from ifrp_bench.paper import write_results
from ifrp_bench.results.evaluate import Entry, evaluate
from ifrp_bench.results.printing import escape
from ifrp_bench.results.statistics import TableColumn, holm, intervals, paired_test, summarize
from ifrp_bench.results.tables import check_one, read_scores, write_tables
from tests.conftest import run, sets, write_pixels


def score(data: Path, recogniser: Path, out: Path) -> None:
    """The difficulty rows under both conditions."""
    conditions = "--condition", "raw", "--condition", "oracle"
    run("eval", "--data", data, "--recogniser", recogniser, "--out", out, *conditions, "--quiet")


@pytest.fixture(scope="module")
def scored(tiny, tmp_path_factory) -> Path:
    """The difficulty rows of the tiny data set under both conditions."""
    root = tmp_path_factory.mktemp("scored")
    score(tiny, write_pixels(root), root / "results")
    return root / "results"


@pytest.fixture()
def results(scored, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(scored, tmp_path / "results"))


def test_an_independent_script_finds_the_same_numbers(results, tiny, pixels):
    for method, condition in (("copy", "raw"), ("nearest-face", "raw")):
        frame = pd.read_csv(results / "scores.csv", keep_default_na=False)
        (results / "raw").mkdir(exist_ok=True)
        frame[frame["condition"] == condition].to_csv(results / "raw" / "scores.csv", index=False)
        again = pd.read_csv(results / "consistency.csv", keep_default_na=False)
        again[again["condition"] == condition].to_csv(results / "raw" / "consistency.csv", index=False)
        command = [
            sys.executable,
            Path(__file__).parent / "recompute.py",
            tiny,
            results / "raw",
            results / "recovered" / method / condition,
            pixels,
            method,
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0 and "agrees: 24 faces" in done.stdout, done.stderr


def test_every_row_says_what_it_is_of(results, tiny):
    frame = read_scores(results)
    assert len(frame) == 24 * 3 * 2
    assert (
        set(frame["data_sha256"]) == {open_dataset(tiny).sha256}
        and set(frame["protocol"]) == {"ifrp-1"}
        and set(frame["recogniser"]) == {"pixels"}
    )
    assert set(frame["method"]) == {"copy", "mean-face", "nearest-face"} and set(frame["condition"]) == {
        "raw",
        "oracle",
    }
    assert {"psnr_db", "ssim", "ssim_rgb", "rank", "hit_top5", "cosine"} <= set(frame)
    assert len(read_scores(results, "consistency.csv")) == 56 * 3 * 3 * 2
    facts = json.loads((results / "results.json").read_text())
    assert facts["recognisers"][0]["sha256"] and facts["metrics"] == ["psnr", "ssim", "frr", "fcr", "vr"]


def test_recovered_faces_that_are_the_real_ones_score_perfectly(tiny, pixels, tmp_path):
    data = open_dataset(tiny)
    for path in data.shards("test"):
        shard = read_shard(path)
        write_recovered(tmp_path / "perfect" / path.name, shard.real[shard.real_index], {})
    entry = Entry("perfect", "", "raw", tmp_path / "perfect")
    frame = evaluate([entry], data, tmp_path / "out", recogniser=open_recogniser(str(pixels)), quiet=True)
    assert np.isinf(frame["psnr_db"]).all() and np.allclose(frame["ssim"], 1) and (frame["rank"] == 1).all()
    write_tables(tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "tables" / "table1.csv")
    assert table.set_index("column").loc["psnr seen", "infinite"] == 9
    table = pd.read_csv(tmp_path / "out" / "tables" / "table2.csv").set_index("column")
    hits = {"frr seen", "frr unseen", "rank1 seen", "rank1 unseen", "vr seen", "vr unseen", "fcr"}
    assert set(table.index) == hits | {"cosine seen", "cosine unseen"}
    assert (table.loc[sorted(hits), "mean"] == 100).all()
    # of three people everyone is among the five nearest, one in three is the nearest
    assert table.loc["frr seen", "chance"] == 100 and round(table.loc["rank1 seen", "chance"], 2) == 33.33
    assert table.loc["vr seen", "chance"] == 0.1 and np.isnan(table.loc["cosine seen", "chance"])
    assert table["ours"].to_dict()["rank1 seen"] and not table["ours"].to_dict()["frr seen"]
    printed = (tmp_path / "out" / "tables" / "table2.md").read_text()
    assert "| rank1 seen* |" in printed and "\n| chance | 100.00 |" in printed


class Halves:
    """A recogniser that looks at one half of a face alone."""

    sha256 = ""

    def __init__(self, name: str, rows: slice) -> None:
        self.name, self.rows = name, rows

    def embed(self, faces: np.ndarray) -> np.ndarray:
        seen = faces[:, self.rows, ::8].reshape(len(faces), -1).astype(np.float32) - 127.5
        return seen / np.linalg.norm(seen, axis=1, keepdims=True)


def test_each_of_two_recognisers_has_columns_of_its_own(tiny, tmp_path):
    """The numbers are those that each gives alone."""
    data = open_dataset(tiny)
    for path in data.shards("test"):
        write_recovered(tmp_path / "copy" / path.name, read_shard(path).stylized, {})
    entry = Entry("copy", "", "raw", tmp_path / "copy")
    upper, lower = Halves("upper", slice(0, 64, 8)), Halves("lower", slice(64, 128, 8))

    def scores(*judges: Halves) -> pd.DataFrame:
        out = tmp_path / "-".join(judge.name for judge in judges)
        evaluate([entry], data, out, recogniser=judges, quiet=True)
        return read_scores(out)

    both, alone = scores(upper, lower), {judge.name: scores(judge) for judge in (upper, lower)}
    for column in ("rank", "hit_top1", "hit_top5", "cosine", "verified"):
        assert both[column].equals(alone["upper"][column])
        assert both[f"{column}@lower"].equals(alone["lower"][column])
    out = tmp_path / "upper-lower"
    pairs = read_scores(out, "consistency.csv")
    assert pairs["hit_top5@lower"].equals(read_scores(tmp_path / "lower", "consistency.csv")["hit_top5"])
    assert set(both["recogniser"]) == {"upper+lower"}

    # tables, the page and judges.csv
    write_results(out)
    table = pd.read_csv(out / "tables" / "table2.csv").set_index("column")["mean"]
    assert np.isclose(table["rank1 (lower) seen"], 100 * both["hit_top1@lower"][both["seen"]].mean())
    agreed = pd.read_csv(out / "judges.csv").iloc[0]
    first, second = both["hit_top1"], both["hit_top1@lower"]
    assert np.isclose(agreed["only_first"], 100 * (first & ~second).mean(), rtol=1e-5)
    assert np.isclose(agreed[["both", "only_first", "only_second", "neither"]].sum(), 100, rtol=1e-5)
    page = (out / "report.html").read_text()
    assert "Where the recognisers disagree" in page
    maps = page.split('<section id="heat">')[1].split("</section>")[0]
    assert "RANK1 (LOWER)" in maps and "(lower) " not in maps   # each its own map, of styles alone
    table = pd.read_csv(out / "tables" / "table3.csv")["column"]
    assert table[0] == "vr seen" and table.str.startswith("rank1").any()   # its own score before others
    with pytest.raises(InputError, match="2 recognisers are called upper"):
        scores(upper, upper)


def test_open_styles_are_a_protocol_beside_seen_and_unseen(tmp_path):
    """Rows in a style of their own are in neither mean, whether or not open styles were trained on."""
    data, results = tmp_path / "data", tmp_path / "results"
    chosen = sets(
        train_faces=2, val_faces=1, test_faces=3, stylize_px=128,
        train_styles="candy", test_styles="candy,mosaic,open",
    )
    run("synth", "demo", *chosen, "--out", data, "--workers", 0, "--quiet")
    run("eval", "--data", data, "--metrics", "psnr", "--condition", "raw", "--out", results, "--quiet")
    scores = pd.read_csv(results / "scores.csv").query("method == 'copy'")
    table = pd.read_csv(results / "tables" / "table1.csv").query("method == 'copy'")
    means = table.set_index("column")["mean"]
    by_style = scores.groupby("style")["psnr_db"].mean()
    for group, style in (("seen", "candy"), ("unseen", "mosaic"), ("open", "open")):
        assert means[f"psnr {group}"] == pytest.approx(by_style[style], rel=1e-5)


def test_only_what_is_asked_for_is_computed(tiny, tmp_path):
    printed = run("eval", "--data", tiny, "--metrics", "psnr", "--out", tmp_path / "out", "--quiet")
    frame = read_scores(tmp_path / "out")
    assert "psnr_db" in frame and "ssim" not in frame and "rank" not in frame
    assert "psnr seen" in printed and not (tmp_path / "out" / "consistency.csv").exists()


@pytest.mark.parametrize("metric", [name for name, found in parts.metrics().items() if not found.open])
def test_every_single_metric_has_scores_tables_and_a_report(tiny, tmp_path, metric):
    """Those that want weights of their own are tested with them, below."""
    out = tmp_path / "out"
    run("eval", "--data", tiny, "--metrics", metric, "--out", out, "--quiet")
    columns = {column.name for column in parts.metric(metric).columns}
    name = "consistency.csv" if parts.metric(metric).pairs else "scores.csv"
    assert columns <= set(read_scores(out, name)) and (out / "report.html").is_file()
    labels = {column.label for column in parts.metric(metric).columns if column.label}
    printed = "".join(path.read_text() for path in (out / "tables").glob("*.md"))
    assert all(label in printed for label in labels)


def test_tables_are_there_in_three_forms_and_the_paper_has_a_column_of_its_own(results):
    names = {path.name for path in (results / "tables").iterdir()}
    assert names == {
        f"{table}{kind}"
        for table in ("table1", "table2", "table3", "styles", "conditions", "consistency")
        for kind in (".csv", "-printed.csv", ".md", ".tex")
    }
    tidy = pd.read_csv(results / "tables" / "table1.csv")
    assert (
        {"mean", "low", "high", "reported", "best"} <= set(tidy)
        and (tidy["low"] <= tidy["mean"]).all()
        and (tidy["mean"] <= tidy["high"]).all()
    )
    text = (results / "tables" / "table1.tex").read_text()
    # a header and three methods: the paper's conditions alone
    assert r"\toprule" in text and r"\num{" in text and r"95 \%" in text and text.count(r"\\") == 4
    assert "**" in (results / "tables" / "table2.md").read_text()


def test_a_picture_that_stands_often_is_embedded_once(tiny, tmp_path):
    """And each of its rows has the scores of a row whose pictures all differ by a grey level somewhere."""
    data = open_dataset(tiny)
    asked: list[int] = []

    class Counting(Halves):
        def embed(self, faces: np.ndarray) -> np.ndarray:
            asked.append(len(faces))
            return super().embed(faces)

    for path in data.shards("test"):
        shard = read_shard(path)
        same = np.broadcast_to(shard.real[0], shard.stylized.shape).copy()
        write_recovered(tmp_path / "same" / path.name, same, {})
        for row in range(len(same)):   # where nobody looks
            same[row, 1, 1] = row
        write_recovered(tmp_path / "differ" / path.name, same, {})
    shards, pairs = len(data.shards("test")), data.pairs("test")
    scores, counts = {}, {}
    for name in ("same", "differ"):
        asked.clear()
        evaluate(
            [Entry(name, "", "raw", tmp_path / name)], data, tmp_path / "out" / name,
            recogniser=Counting("upper", slice(0, 64, 8)), metrics=("frr",), quiet=True,
        )
        scores[name] = read_scores(tmp_path / "out" / name).drop(columns="method")
        counts[name] = sum(asked)
    pd.testing.assert_frame_equal(scores["same"], scores["differ"])
    assert counts["differ"] - counts["same"] == pairs - shards


def test_scores_and_embeddings_are_kept_and_a_broken_one_is_made_again(results, tiny, pixels):
    kept = sorted((results / "kept").iterdir())
    stamps = {path: path.stat().st_mtime_ns for path in kept}
    kept[0].write_bytes(b"cut")
    before = (results / "scores.csv").read_bytes()
    score(tiny, pixels, results)
    assert (results / "scores.csv").read_bytes() == before
    assert [path for path in kept if path.stat().st_mtime_ns != stamps[path]] == [kept[0]]


@pytest.mark.parametrize(
    "options, word",
    [
        (("--metrics", "psnr,dists"), "'dists' is none of"),
        (("--recogniser", "vggface"), "expected builtin, facenet, dlib, or an .onnx"),
        (("--condition", "stn"), "condition stn needs an aligner, and there is no run of one in"),
        (("--data", "nowhere"), "no data set here"),
    ],
)
def test_mistakes_are_one_line_and_write_no_results(tiny, tmp_path, options, word):
    printed = run("eval", "--data", tiny, "--out", tmp_path / "out", "--quiet", *options, exit_code=1)
    assert word in printed and len(printed.splitlines()) == 1
    assert not (tmp_path / "out" / "scores.csv").exists()


@pytest.mark.parametrize(
    "how, word",
    [
        ("missing", "not a shard of recovered faces"),
        ("short", "expected uint8"),
        ("float", "float32"),
        ("other", "another data set"),
    ],
)
def test_recovered_shards_that_do_not_fit_are_named(tiny, tmp_path, how, word):
    data = open_dataset(tiny)
    for path in data.shards("test"):
        write_recovered(tmp_path / "made" / path.name, read_shard(path).stylized, {})
    path = next((tmp_path / "made").glob("*.h5"))
    if how == "missing":
        path.unlink()
    elif how == "other":
        write_recovered(path, read_shard(data.root / path.name).stylized, {"data_sha256": "0" * 64})
    else:
        with h5py.File(path, "r+") as file:
            faces = file["recovered"][()]
            del file["recovered"]
            file["recovered"] = faces[1:] if how == "short" else faces.astype(np.float32)
    with pytest.raises(InputError, match=word) as caught:
        evaluate(
            [Entry("x", "", "raw", tmp_path / "made")], data, tmp_path / "out", metrics=("psnr",), quiet=True
        )
    assert path.name in str(caught.value) and not (tmp_path / "out" / "scores.csv").exists()


def test_tables_refuse_to_mix_data_sets(results):
    frame = pd.read_csv(results / "scores.csv")
    frame.loc[0, "data_sha256"] = "another"
    with pytest.raises(InputError, match="data_sha256 differs"):
        check_one(frame, "scores.csv")
    shutil.rmtree(results)
    with pytest.raises(InputError, match="`ifrp-bench eval` makes it"):
        read_scores(results)


def test_the_bootstrap_interval_covers_as_it_should():
    draws = np.random.default_rng(0)
    covered = sum(low <= 0 <= high for low, high in intervals([draws.normal(size=40) for _ in range(100)]))
    assert 87 <= covered <= 100
    assert intervals([np.array([2.0, 2.0]), np.array([])])[0] == (2.0, 2.0)


def test_paired_tests_by_hand():
    one, other = np.array([1.0] * 10 + [0.0] * 2), np.array([0.0] * 10 + [1.0] * 2)
    # exact McNemar on 10 against 2
    assert paired_test(one, other, hits=True) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert paired_test(one, one, hits=True) == 1.0
    assert paired_test(np.arange(1.0, 9), np.zeros(8), hits=False) == pytest.approx(2 / 2**8)
    # what is not finite on one side does not count
    lame = np.append(one, [np.inf, 1.0]), np.append(other, [0.0, np.nan])
    assert paired_test(*lame, hits=True) == paired_test(one, other, hits=True)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_latex_is_escaped():
    assert escape("50 % of_it & {more}") == r"50 \% of\_it \& \{more\}"


def test_two_processes_find_the_same_numbers_as_one(tiny, tmp_path):
    """Identical files, no face twice; under torchrun each process has one thread."""
    for out, start in (
        ("one", ["-m", "ifrp_bench"]),
        ("two", ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ifrp_bench"]),
    ):
        command = [
            sys.executable,
            *start,
            "eval",
            "--data",
            tiny,
            "--device",
            "cpu",
            "--condition",
            "raw",
            "--condition",
            "oracle",
            "--out",
            tmp_path / out,
            "--quiet",
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("| method |") == 2   # one process speaks
    for name in ("scores.csv", "consistency.csv", "tables/table1.tex", "tables/conditions.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_run_is_not_tested_on_people_it_may_have_been_trained_on(tiny, tmp_path):
    other = shutil.copytree(tiny, tmp_path / "other")
    info = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps(info | {"faces_sha256": "another"}))
    run(
        "train",
        "--method",
        "srn",
        "--data",
        other,
        *sets(steps=1, epochs=0.0, batch_size=2, ema=0.0),
        "--preset",
        "smoke",
        "--out",
        tmp_path / "run",
        "--quiet",
    )
    assert "trained on another data set" in run(
        "eval", tmp_path / "run", "--data", tiny, "--metrics", "psnr", "--out", tmp_path / "out", exit_code=1
    )


def test_chance_is_chance_and_one_face_is_always_found():
    draws = np.random.default_rng(0)
    vectors = draws.normal(size=(2, 1000, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    hits = rank_queries(vectors[0], vectors[1], np.arange(1000)).hit
    assert hits.sum() <= 5 + 3 * np.sqrt(5)   # 0.5 % of 1,000, three standard deviations
    alone = rank_queries(vectors[0, :3], vectors[1, :1], np.zeros(3, int))
    assert alone.rank.tolist() == [1, 1, 1] and alone.nearest.tolist() == [[0]] * 3
    # nobody else: no impostor
    assert verified(vectors[0, :2], vectors[1, :1], np.zeros(2, int), np.zeros(1)).all()


def test_equal_faces_tie_and_the_lower_index_stands_first():
    face = np.ones((1, 64), np.float32) / 8
    ranks = rank_queries(face.repeat(9, 0), face.repeat(9, 0), np.arange(9))
    assert ranks.rank.tolist() == list(range(1, 10)) and ranks.ties == 9


def test_second_place_is_underlined_only_where_it_is_told_from_the_third():
    people = np.arange(60)
    rows = []
    for method, score in (("a", 30.0), ("b", 20.0), ("c", 10.0), ("d", 10.0)):
        noise = np.random.default_rng(len(rows)).normal(size=60)
        rows.append(
            pd.DataFrame(
                {
                    "method": method,
                    "run": "",
                    "condition": "raw",
                    "style": "candy",
                    "seen": True,
                    "face": people.astype(str),
                    "identity": people,
                    "psnr_db": score + noise,
                }
            )
        )
    frame = pd.concat(rows)
    column = TableColumn("psnr seen", "psnr_db", lambda part: part["seen"])
    table = summarize(frame, [column]).set_index("method")
    assert table["best"].to_dict() == {"a": True, "b": False, "c": False, "d": False} and table[
        "second"
    ].to_dict() == {"a": False, "b": True, "c": False, "d": False}
    table = summarize(frame[frame["method"] != "b"], [column]).set_index("method")
    assert not table["second"].any()
    assert summarize(frame, [replace(column, lower=True)]).set_index("method")["best"].to_dict() == {
        "a": False,
        "b": False,
        "c": True,
        "d": True,
    }


def test_tables_compile(results):
    latex = shutil.which("pdflatex")
    if not latex:
        pytest.skip("no pdflatex")
    body = "\n".join(path.read_text() for path in sorted((results / "tables").glob("*.tex")))
    source = (
        r"\documentclass{article}\usepackage[margin=1cm]{geometry}"
        r"\usepackage{booktabs,siunitx,graphicx}\begin{document}"
        + body
        + r"\end{document}"
    )
    (results / "all.tex").write_text(source)
    done = subprocess.run(
        [latex, "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=results,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_sets_of_faces_want_their_weights(tiny, tmp_path, monkeypatch):
    pytest.importorskip("torch_fidelity")
    monkeypatch.setenv("IFRP_BENCH_CACHE", str(tmp_path / "cache"))
    options = ("eval", "--data", tiny, "--metrics", "psnr,fid,kid", "--out", tmp_path / "out", "--quiet")
    assert "`ifrp-bench fetch inception`" in run(*options, exit_code=1)


def test_sets_of_faces_have_their_own_distances(tiny, tmp_path, inception_at_hand):
    out = tmp_path / "out"   # one for all: features are kept
    for single in ("fid", "kid"):
        run("eval", "--data", tiny, "--metrics", single, "--out", out, "--quiet")
        assert f"{single} seen" in (out / "tables" / "sets.md").read_text()
        assert "Distances of sets of faces" in (out / "report.html").read_text()
    run("eval", "--data", tiny, "--metrics", "psnr,fid,kid", "--out", out, "--quiet")
    sets = pd.read_csv(out / "sets.csv").set_index(["method", "group"])
    assert set(sets.index) == {
        (method, group) for method in ("copy", "mean-face", "nearest-face") for group in ("seen", "unseen")
    }
    # three people are too few for KID's subsets
    assert np.isfinite(sets["fid"]).all() and sets["kid"].isna().all()
    same = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    assert abs(fid.distance(same, same)) < 1e-3 and abs(kid.distance(same, same)[0]) < 0.1
    moved = fid.distance(same + 2, same), kid.distance(same + 2, same)[0]
    # the means are two apart in each of eight dimensions
    assert moved[0] == pytest.approx(8 * 2**2, abs=1e-3) and moved[1] > 1


def test_lpips_equals_torch_fidelitys(tiny, tmp_path, monkeypatch):
    """With random weights in the published layouts, the linear ones by `fetch`."""
    theirs = pytest.importorskip("torch_fidelity.sample_similarity_lpips")
    monkeypatch.setenv("IFRP_BENCH_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    vgg = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    linear = {
        f"lin{number}.model.1.weight": torch.rand(1, channels, 1, 1)
        for number, channels in enumerate((64, 128, 256, 512, 512))
    }
    torch.save(linear, tmp_path / "linear.pth")
    assert "md5 is" in run("fetch", "lpips", "--from", tmp_path / "linear.pth", exit_code=1)
    monkeypatch.setitem(
        HASHES, "lpips", f"md5:{hashlib.md5((tmp_path / 'linear.pth').read_bytes()).hexdigest()}"
    )
    run("fetch", "lpips", "--from", tmp_path / "linear.pth")
    options = ("eval", "--data", tiny, "--metrics", "lpips", "--out", tmp_path / "out", "--quiet")
    assert "`ifrp-bench fetch vgg16`" in run(*options, exit_code=1)
    torch.save(
        {f"features.{name}": value for name, value in vgg.state_dict().items()},
        tmp_path / "cache" / "weights" / "vgg16-397923af.pth",
    )
    run(*options)

    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: linear)
    monkeypatch.setattr(theirs, "torchvision_load_pretrained_vgg16", lambda: SimpleNamespace(features=vgg))
    shard = read_shard(open_dataset(tiny).shards("test")[0])
    stylized, real = (
        torch.from_numpy(faces).permute(0, 3, 1, 2)
        for faces in (shard.stylized, shard.real[shard.real_index])
    )
    wanted = theirs.SampleSimilarityLPIPS("lpips")(stylized, real).flatten()
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    found = scores[scores["method"] == "copy"]["lpips"].to_numpy()[:len(wanted)]
    assert found == pytest.approx(wanted.numpy(), rel=1e-4) and found.std() > 0
    assert "lpips" in (tmp_path / "out" / "tables" / "conditions.md").read_text().lower()


def test_the_shipped_aligner_brings_faces_upright_where_there_is_no_run_of_one(tiny, tmp_path):
    out = tmp_path / "out"
    stn = "--condition", "stn", "--aligner", "aligner", "--metrics", "psnr"
    run("eval", "--data", tiny, *stn, "--out", out, "--quiet")
    errors = pd.read_csv(out / "alignment.csv")
    assert len(errors) == 24 and set(errors["run"]) == {"aligner"}
    assert errors["angle_error_deg"].median() < 15   # of up to 45, and rendered faces are new to it
