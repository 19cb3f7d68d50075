"""The leaderboard: entries say what was measured, strangers' files are held to what they can be, the page
ranks only what belongs together.
"""

import gzip
import json
import shutil
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest

from ifrp_bench import parts
from ifrp_bench.data.format import open_dataset
from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of
from ifrp_bench.results.entries import check_entry, read_entry
from ifrp_bench.results.leaderboard import build
from tests.conftest import run, sets


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory) -> Path:
    """The difficulty rows and a method that is trained for a moment and gone on with for another, raw and
    oracle.
    """
    root = tmp_path_factory.mktemp("scored")
    words = ("train", "--method", "align-restore", "--data", tiny, "--preset", "smoke", "--quiet")
    run(*words, "--out", root / "begun", *sets(steps=1, batch_size=2))
    run(
        *words, "--out", root / "runs" / "align-restore",
        *sets(steps=2, batch_size=2, init=root / "begun"),
    )
    both = "--condition", "raw", "--condition", "oracle"
    run("eval", root / "runs" / "align-restore", "--data", tiny, *both, "--out", root / "results", "--quiet")
    return root / "results"


@pytest.fixture(scope="module")
def two_entries(results, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("entered") / "leaderboard"
    run("leaderboard", "submit", results, "--method", "copy", "--leaderboard", folder)
    run(
        "leaderboard", "submit", results, "--name", 'Ours "$x$ & co', "--code", "https://example.org/code",
        "--who", "us", "--note", "trained for a moment", "--leaderboard", folder,
    )
    return folder


@pytest.fixture()
def board(two_entries, tmp_path) -> Path:
    """A leaderboard with two entries, to be changed."""
    return Path(shutil.copytree(two_entries, tmp_path / "leaderboard"))


def test_an_entry_says_what_was_measured_and_what_it_cost(board, results, tiny):
    facts = read_entry(board / "data" / "ours-x-co.json")
    scores = pd.read_csv(results / "scores.csv", keep_default_na=False)
    mine = scores[(scores["method"] == "align-restore") & (scores["condition"] == "oracle")]
    measured = facts["conditions"]["oracle"]["scores"]
    assert abs(measured["rank1 seen"]["mean"] - 100 * (mine["rank"][mine["seen"]] == 1).mean()) < 1e-3
    assert abs(measured["psnr unseen"]["mean"] - mine["psnr_db"][~mine["seen"]].mean()) < 1e-3
    assert set(facts["conditions"]) == {"raw", "oracle"} and facts["judges"][0]["name"] == "builtin"
    data = open_dataset(tiny)
    assert facts["protocol"]["styles"] == "seen-unseen"
    assert facts["protocol"]["trained_on"] == sorted(data.seen)
    assert facts["test_set"]["sha256"] == data.split_sha256("test") and facts["test_set"]["people"] == 3
    cost = facts["training"]
    assert cost["pairs"] == data.pairs("train") and cost["seen"] == 4 and cost["minutes"] >= 0
    assert cost["gone_on_from"] == ["begun"]   # and those two faces are not among the four
    assert cost["parameters"] > 1e6 and cost["operations"] > cost["parameters"] and cost["latency_ms"] > 0


@pytest.mark.parametrize("seconds, busy", [([0.011, 0.010, 0.012], False), ([0.35, 0.33, 0.02], True)])
def test_a_time_that_is_the_machines_is_named_and_can_be_said(results, tmp_path, monkeypatch, seconds, busy):
    monkeypatch.setattr("ifrp_bench.recovery.cost.call_seconds", lambda *_, **__: seconds)
    words = ("leaderboard", "submit", results, "--name", "ours", "--leaderboard", tmp_path)
    said = "one face took 330.0 ms in the median and 20.0 at best of 3: this machine is busy"
    assert (said in run(*words)) == busy
    assert "busy" not in run(*words, "--latency-ms", 10.5, "--replace")
    assert read_entry(tmp_path / "data" / "ours.json")["training"]["latency_ms"] == 10.5


def test_the_rows_beside_an_entry_are_those_of_its_numbers(board):
    """As a stranger would count again, with pandas alone."""
    facts = json.loads((board / "data" / "copy.json").read_text())
    rows = pd.read_csv(board / "data" / facts["rows"]["file"])
    raw = rows[(rows["condition"] == "raw") & ~rows["seen"]]
    measured = facts["conditions"]["raw"]["scores"]["frr unseen"]["mean"]
    assert abs(100 * (raw["rank"] <= 5).mean() - measured) < 1e-3
    assert facts["protocol"] == {
        "metrics": "ifrp-1", "styles": "open", "trained_on": [], "saw_test_styles": False,
    }


def test_a_test_set_is_the_same_whatever_else_a_data_set_holds(tiny, tmp_path):
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    lines = (copy / "manifest.csv").read_text().splitlines()
    others = [line for line in lines if not line.startswith("train")]
    (copy / "manifest.csv").write_text("\n".join(others) + "\n")
    assert open_dataset(copy).split_sha256("test") == open_dataset(tiny).split_sha256("test")
    changed = [line.replace("candy", "udnie") if line.startswith("test") else line for line in lines]
    (copy / "manifest.csv").write_text("\n".join(changed) + "\n")
    assert open_dataset(copy).split_sha256("test") != open_dataset(tiny).split_sha256("test")


def changed(facts: dict, path: str, value: object) -> dict:
    """The entry with one value, named by its path, replaced; None removes it."""
    facts = json.loads(json.dumps(facts))
    *before, last = path.split("/")
    place = facts
    for key in before:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return facts


SEEN = "conditions/raw/scores/psnr seen"


@pytest.mark.parametrize("path, value, word", [
    ("method", None, "'method' is a required property"),
    ("score", 1, "'score' was unexpected"),
    ("schema", 2, "schema: 1 was expected"),
    (f"{SEEN}/mean", "18", "'18' is not of type 'number'"),
    (f"{SEEN}/mean", 300.0, "not within its interval"),
    (f"{SEEN}/high", 1e9, "impossible"),
    ("conditions/raw/scores/rank1 seen", dict(mean=-1, low=-1, high=-1, rows=9), "expected 0 to 100"),
    ("conditions/raw/styles/psnr candy", -3, "expected 0 to 100"),
    ("name", "<script>alert(1)</script>", "name: "),
    ("note", "two\nlines", "note: "),
    ("name", " ", "name: "),
    ("code", "javascript:alert(1)", "code: "),
    ("test_set/sha256", "abc", "test_set.sha256"),
    ("conditions", {}, "conditions: "),
    ("rows/file", "../../x.csv.gz", "rows.file"),
])
def test_what_cannot_be_is_one_line(board, path, value, word):
    facts = changed(read_entry(board / "data" / "copy.json"), path, value)
    with pytest.raises(InputError, match=word) as caught:
        check_entry(facts, "copy.json")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("copy.json: ")
    (board / "data" / "copy.json").write_text(json.dumps(facts))
    assert "copy.json" in run("leaderboard", "build", board, exit_code=1)
    assert not (board / "index.html").exists()


@pytest.mark.parametrize("text, word", [
    ("{", "not readable"),
    ('{"schema": NaN}', "NaN is no number"),
    ('{"a": 1, "a": 2}', "stands there twice"),
    ("[]", "is not of type 'object'"),
    ("[" * 100000, "not readable"),
])
def test_a_file_that_is_no_entry_is_one_line(board, text, word):
    (board / "data" / "copy.json").write_text(text)
    said = run("leaderboard", "check", board / "data" / "copy.json", exit_code=1)
    assert word in said and said.count("\n") == 1


def test_rows_that_were_changed_are_refused(board):
    path = board / "data" / "copy.csv.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"\n"))
    assert "another sha256" in run("leaderboard", "check", board / "data" / "copy.json", exit_code=1)


def test_a_name_is_taken_once(board, results):
    before = sha256_of(board / "data" / "copy.json")
    submit = "leaderboard", "submit", results, "--method", "copy", "--leaderboard", board
    assert "there is an entry of this name" in run(*submit, "--who", "somebody", exit_code=1)
    assert sha256_of(board / "data" / "copy.json") == before
    run(*submit, "--who", "somebody", "--replace")
    assert read_entry(board / "data" / "copy.json")["who"] == "somebody"
    twice = read_entry(board / "data" / "copy.json")
    (board / "data" / "other.json").write_text(json.dumps(twice))
    assert "is taken by" in run("leaderboard", "build", board, exit_code=1)


def test_what_is_of_another_test_set_is_left_out_with_the_reason(board):
    facts = read_entry(board / "data" / "copy.json")
    strange = changed(changed(facts, "test_set/sha256", "0" * 64), "name", "zz strange")
    (board / "data" / "zz-strange.json").write_text(json.dumps(strange))
    said = run("leaderboard", "build", board)
    reason = "its test set is 000000000000"
    assert "left out" in said and reason in said
    page = (board / "index.html").read_text()
    assert reason in page and "zz strange" not in page and "Ours &#34;$x$ &amp; co" in page


def test_what_the_paper_reports_is_never_among_the_ranked(board):
    run("leaderboard", "build", board)
    page = (board / "index.html").read_text()
    ranked, reported = page.split('<section id="reported">')
    assert "27.08" in reported and "27.08" not in ranked
    assert ranked.count("<small>after begun</small>") == 2   # one trained entry, two conditions
    assert build(board, board / "again.html", parts.reported_values())[0].read_text() == page


def test_which_method_is_asked_for_where_it_is_not_clear(results, tiny, tmp_path):
    assert "no method 'mine' there, but copy" in run(
        "leaderboard", "submit", results, "--method", "mine", "--leaderboard", tmp_path, exit_code=1
    )
    alone = tmp_path / "alone"
    run("eval", "--data", tiny, "--metrics", "psnr", "--out", alone, "--quiet")
    said = run("leaderboard", "submit", alone, "--leaderboard", tmp_path, exit_code=1)
    assert "say which with --method" in said
    assert "no such folder" in run("leaderboard", "build", tmp_path / "none", exit_code=1)


def test_faces_of_another_system_can_be_entered(tiny, tmp_path):
    run("pictures", tiny, "--out", tmp_path / "pictures")
    theirs, out = tmp_path / "pictures" / "stylized", tmp_path / "results"
    given = "--recovered", f"theirs={theirs}", "--metrics", "psnr,frr"
    run("eval", "--data", tiny, *given, "--out", out, "--quiet")
    run(
        "leaderboard", "submit", out, "--method", "theirs", "--trained-on", "candy", "--minutes", 90,
        "--leaderboard", tmp_path / "board",
    )
    facts = read_entry(tmp_path / "board" / "data" / "theirs.json")
    assert list(facts["conditions"]) == ["given"] and facts["training"]["minutes"] == 90
    assert facts["protocol"]["saw_test_styles"] and facts["protocol"]["trained_on"] == ["candy"]
    assert facts["training"]["parameters"] is None


def test_in_a_browser_entries_are_sorted_filtered_and_plotted(board, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    run("leaderboard", "build", board)
    browser.get((board / "index.html").as_uri())

    def shown() -> list[str]:
        rows = browser.find_elements(By.CSS_SELECTOR, ".ranking tbody tr")
        seen = [row.find_element(By.TAG_NAME, "th") for row in rows if row.is_displayed()]
        return [head.text.split("\n")[0] for head in seen]

    assert sorted(shown()) == ['Ours "$x$ & co', 'Ours "$x$ & co', "copy", "copy"]
    head = browser.find_element(By.CSS_SELECTOR, ".ranking [aria-sort]")
    assert head.text.startswith("rank1 seen") and head.get_attribute("aria-sort") == "descending"
    buttons = browser.find_elements(By.CSS_SELECTOR, ".ranking thead button")
    buttons[2].click()
    cells = browser.find_elements(By.CSS_SELECTOR, ".ranking tbody tr td:nth-child(3)")
    values = [float(cell.get_attribute("data-value")) for cell in cells]
    assert values == sorted(values, reverse=True) and len(set(values)) > 1

    def conditions_of_the_best() -> set[str]:
        rows = browser.find_elements(By.CSS_SELECTOR, ".ranking tbody tr:has(td.best)")
        return {row.get_attribute("data-condition") for row in rows}

    # who is told how a face lies is not the best beside others
    assert conditions_of_the_best() == {"raw"}
    Select(browser.find_element(By.CSS_SELECTOR, ".by-condition")).select_by_value("oracle")
    assert sorted(shown()) == ['Ours "$x$ & co', "copy"] and conditions_of_the_best() == {"oracle"}
    browser.find_element(By.CSS_SELECTOR, ".by-text").send_keys("ours")
    assert shown() == ['Ours "$x$ & co']
    Select(browser.find_element(By.CSS_SELECTOR, ".cost")).select_by_value("parameters")
    assert len(browser.find_elements(By.CSS_SELECTOR, "figure circle")) == 1
    assert not browser.get_log("browser")


def test_names_in_the_plot_do_not_lie_upon_one_another(browser):
    """On the page of the repository, whose best entries have nearly the same scores."""
    from selenium.webdriver.common.by import By

    browser.get((Path(__file__).parents[2] / "leaderboard" / "index.html").as_uri())
    assert len(browser.find_elements(By.CSS_SELECTOR, "figure circle")) >= 15
    names = browser.find_elements(By.CSS_SELECTOR, "figure text.name")
    boxes = [name.rect for name in names]
    assert len(boxes) >= 8
    for one, other in combinations(boxes, 2):
        apart = abs(one["x"] - other["x"]) >= min(one["width"], other["width"]) / 2
        assert apart or abs(one["y"] - other["y"]) >= 9, (one, other)


def test_a_phone_shows_the_table_beside_its_names(board, browser):
    from selenium.webdriver.common.by import By

    run("leaderboard", "build", board)
    browser.set_window_size(420, 800)
    browser.get((board / "index.html").as_uri())
    name = browser.find_element(By.CSS_SELECTOR, ".ranking tbody th")
    assert 120 <= name.rect["width"] <= 160
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_the_entries_of_the_repository_are_whole_and_its_page_is_theirs(tmp_path):
    folder = Path(__file__).parents[2] / "leaderboard"
    assert {path.stem for path in folder.glob("lfw-v1/*.json")} >= {"align-restore", "copy", "portraits"}
    copy = Path(shutil.copytree(folder, tmp_path / "leaderboard"))
    _, left_out = build(copy, copy / "index.html", parts.reported_values())
    assert not left_out and (copy / "index.html").read_bytes() == (folder / "index.html").read_bytes()
    entry = read_entry(folder / "lfw-v1" / "align-restore.json")
    for group, said_db in (("seen", 18.77), ("unseen", 17.36)):   # docs/results.md
        assert abs(entry["conditions"]["raw"]["scores"][f"psnr {group}"]["mean"] - said_db) < 0.005
