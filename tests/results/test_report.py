"""The report: one file that needs nothing else, says what the scores say, and works in a browser."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ifrp_bench.paper import write_results
from ifrp_bench.results.report import _heat_colour, write_report
from tests.conftest import run


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory) -> Path:
    """The difficulty rows and one entry that looks trained, so that the page has everything."""
    out = tmp_path_factory.mktemp("report") / "results"
    run(
        "eval",
        "--data",
        tiny,
        "--condition",
        "raw",
        "--condition",
        "oracle",
        "--metrics",
        "psnr,ssim,frr,fcr,vr,residual",
        "--out",
        out,
        "--quiet",
    )
    facts = json.loads((out / "results.json").read_text())
    for entry in facts["entries"]:
        entry["run"] = "run" if entry["method"] == "nearest-face" else ""
        entry["note"] = "<i>not</i> & escaped" if entry["method"] == "copy" else ""
    (out / "results.json").write_text(json.dumps(facts))
    for name in ("scores.csv", "consistency.csv"):
        frame = pd.read_csv(out / name, keep_default_na=False)
        frame.loc[frame["method"] == "nearest-face", "run"] = "run"
        frame.to_csv(out / name, index=False)
    write_results(out)
    return out


class Page(HTMLParser):
    """Tags with their attributes, and what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "link", "path", "use", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag


def test_the_page_is_whole_and_needs_nothing_else(results):
    text = (results / "report.html").read_text()
    page = Page(text)
    assert not page.open
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            value = attributes.get(name) or attributes.get(f"xlink:{name}") or "#"
            assert value.startswith(("data:image/webp;base64,", "#")), (tag, value[:60])
    assert "@import" not in text and not re.search(r"url\((?!#)", text) and "<link" not in text


def test_pictures_have_words_and_tables_have_heads(results):
    tags = Page((results / "report.html").read_text()).tags
    pictures = [attributes for tag, attributes in tags if tag == "img"]
    assert len(pictures) > 100 and all(attributes["alt"] and attributes["src"] for attributes in pictures)
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in tags if tag == "th")
    assert ("html", {"lang": "en"}) in tags


def test_text_is_escaped(results):
    text = (results / "report.html").read_text()
    assert "&lt;i&gt;not&lt;/i&gt; &amp; escaped" in text and "<i>not" not in text


def test_the_page_says_what_the_tables_say(results):
    text = (results / "report.html").read_text()
    table = pd.read_csv(results / "tables" / "table1.csv")
    shown = np.array([float(value) for value in re.findall(r'data-value="([^"]+)"', text)])
    for value in table["mean"]:
        assert np.abs(shown - value).min() < 1e-4, value
    assert json.loads((results / "results.json").read_text())["data_sha256"] in text


def test_the_same_results_give_the_same_page(results):
    before = (results / "report.html").read_bytes()
    run("report", results)
    assert (results / "report.html").read_bytes() == before


def test_without_the_faces_the_page_says_so(results, tmp_path):
    copy = Path(shutil.copytree(results, tmp_path / "copy"))
    facts = json.loads((copy / "results.json").read_text())
    (copy / "results.json").write_text(json.dumps(facts | {"data_folder": str(tmp_path / "gone")}))
    text = write_report(copy).read_text()
    assert "no faces are shown" in text and "<img" not in text


def test_words_on_the_heat_map_can_be_read():
    def luminance(colour: str) -> float:
        values = (
            [int(value) for value in re.findall(r"\d+", colour)]
            if colour.startswith("rgb")
            else [255 * (colour == "#fff")] * 3
        )
        linear = [
            v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in values
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for step in range(101):
        light, dark = sorted(map(luminance, _heat_colour(step / 100)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_in_a_browser_tables_are_sorted_and_styles_picked(results, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    browser.get((results / "report.html").as_uri())
    table = browser.find_elements(By.CSS_SELECTOR, "table.sortable")[0]
    button = table.find_elements(By.CSS_SELECTOR, "thead button")[1]

    def column() -> list[float]:
        return [
            float(row.find_elements(By.TAG_NAME, "td")[0].get_attribute("data-value"))
            for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")
        ]

    button.click()
    assert column() == sorted(column(), reverse=True) and len(set(column())) > 1
    button.click()
    assert column() == sorted(column())
    assert table.find_elements(By.TAG_NAME, "th")[1].get_attribute("aria-sort") == "ascending"

    def shown() -> list[str]:
        return [
            part.get_attribute("data-style")
            for part in browser.find_elements(By.CSS_SELECTOR, ".style-faces")
            if part.is_displayed()
        ]

    assert shown() == ["the_scream"]
    Select(browser.find_element(By.ID, "style-picker")).select_by_value("udnie")
    assert shown() == ["udnie"]
    assert not browser.get_log("browser")


def test_on_a_phone_only_tables_scroll_sideways(results, browser):
    browser.set_window_size(420, 800)
    browser.get((results / "report.html").as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_unseen_styles_are_plotted_over_the_number_of_training_styles(results, tmp_path):
    """Two rows as two runs of a method, one trained in one style, one in eight pictures' and another."""
    out = tmp_path / "results"
    shutil.copytree(results, out)
    facts = json.loads((out / "results.json").read_text())
    runs = {"copy": ("few", {"candy": 1}), "mean-face": ("many", {"open": 8, "feathers": 1})}
    names = ("scores.csv", "consistency.csv")
    tables = {name: pd.read_csv(out / name, keep_default_na=False) for name in names}
    for method, (run_name, styles) in runs.items():
        for entry in facts["entries"]:
            if entry["method"] == method:
                entry |= {"method": "m", "run": run_name, "trained_on": styles}
        for frame in tables.values():
            frame.loc[frame["method"] == method, ["method", "run"]] = ["m", run_name]
    (out / "results.json").write_text(json.dumps(facts))
    for name, frame in tables.items():
        frame.to_csv(out / name, index=False)
    write_results(out)

    points = pd.read_csv(out / "tables" / "training-styles.csv").set_index(["run", "score"])
    assert dict(points["pictures"].groupby("run").first()) == {"few": 1, "many": 9}
    rows = tables["scores.csv"].query("run == 'few' and condition == 'raw'")
    unseen = rows[~rows["style"].isin(["candy", "feathers"])]   # by either of them
    assert len(unseen) < len(rows)
    found = points.loc[("few", "psnr"), "mean"]
    assert found == pytest.approx(unseen["psnr_db"].astype(float).mean(), abs=1e-4)
    page = (out / "report.html").read_text()
    assert "styles trained on" in page and "by the number of training styles" in page

    # and nothing is left of it where there is nothing to compare
    for entry in facts["entries"]:
        entry["trained_on"] = None
    (out / "results.json").write_text(json.dumps(facts))
    write_results(out)
    assert not (out / "tables" / "training-styles.csv").exists()
