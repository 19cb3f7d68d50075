"""README, docs and help texts: what they say is so.

Commands that are marked as quick are run; every other one is at least understood.
"""

import re
import shlex
import shutil
from pathlib import Path

import click
import pytest

from ifrp_bench import parts
from ifrp_bench.cli import cli
from ifrp_bench.data.recipe import recipe_names
from ifrp_bench.data.styles import find_styles
from tests.cli.test_cli import commands
from tests.conftest import run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = (
    "data", "styles", "training", "destylizing", "evaluation", "own-parts", "results", "align-restore",
    "ifrp", "scaling", "architecture",
)
LAUNCHED = re.compile(r"^(?:torchrun|--).* -m ifrp_bench |^srun ifrp-bench ")
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def commands_in(text: str) -> list[str]:
    """Lines that call the command line, without their comments."""
    lines = [line.strip().split("  #")[0].strip() for line in text.splitlines()]
    lines = [LAUNCHED.sub("ifrp-bench ", line) for line in lines]   # also by torchrun or srun
    return [line for line in lines if line.startswith("ifrp-bench ")]


def fenced(text: str, mark: str | None = None) -> list[str]:
    """The commands of a page's fenced blocks; with ``mark``, of those that carry it."""
    blocks = [block for words, block in FENCE.findall(text) if mark is None or mark in words.split()]
    return [line for block in blocks for line in commands_in(block)]


def understood(line: str) -> None:
    """Parse a command as it would be, without running it. Raises click's errors for what it does not know."""
    group, words = cli, shlex.split(line)[1:]
    while isinstance(group.get_command(click.Context(group), words[0]), click.Group):
        group, words = group.get_command(click.Context(group), words[0]), words[1:]
    command = group.get_command(click.Context(group), words[0])
    assert command is not None, line
    if "--help" not in words:
        command.make_context(words[0], words[1:])


def test_the_call_from_python_that_the_docs_show_works(tmp_path, monkeypatch):
    shutil.copy(ROOT / "docs" / "strip.png", tmp_path / "portrait.jpg")   # a picture is known by its bytes
    monkeypatch.chdir(tmp_path)
    code = next(block for words, block in FENCE.findall(page("destylizing")) if words.strip() == "python")
    assert len([line for line in code.splitlines() if line]) <= 3
    found: dict = {}
    exec(code, found)
    assert found["face"].shape == (266, 214, 3) and found["face"].dtype == "uint8"


def test_the_readme_is_short_enough_for_a_newcomer():
    assert len(README.splitlines()) <= 150 and len(README.split()) <= 1500
    assert len(re.findall(r"^!\[", README, re.MULTILINE)) == 1
    assert "stylized face" in README and "real face" in README


def test_the_readme_links_to_every_page_and_every_link_leads_somewhere():
    for name in PAGES:
        assert f"docs/{name}.md" in README
    for path in (ROOT / "README.md", ROOT / "benchmarks" / "results.md", *(ROOT / "docs").glob("*.md")):
        for link, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", path.read_text()):
            if "://" in link:
                continue
            there = path.parent / link if link else path
            assert there.exists(), f"{path.name}: {link}"
            assert not heading or heading in anchors(there), f"{path.name}: {link}#{heading}"


def anchors(path: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_recipes_targets_methods_and_metrics_are_named():
    for name in recipe_names():
        assert f"`{name}`" in README and f"`{name}`" in page("data")
    for target in ("make demo", "make test", "make lint", "make bench"):
        assert target in README
    for name in parts.trainables():
        assert f"`{name}`" in page("training"), name
    for name in parts.metrics():
        assert f"**{name}**" in page("evaluation"), name
    for name in parts.source_names():
        assert f"**`{name}`**" in page("data"), name


def test_the_table_of_styles_is_the_cards():
    for name, style in find_styles().items():
        losses, auc = style.card["losses"], style.card["measured"]["auc"]
        role = "seen" if style.seen else "unseen"
        gone = f"{losses['gram_fall_percent']:.1f} % | {100 * losses['stored_gone']:.1f} %"
        assert f"| `{name}` | {role} | {gone} | {auc:.3f} |" in page("styles")


def of_help_texts() -> list[str]:
    return [line for _, command in commands() for line in commands_in(command.help or "")]


def of_pages() -> list[str]:
    return [line for text in (README, *map(page, PAGES)) for line in fenced(text)]


@pytest.mark.parametrize("line", [*of_pages(), *of_help_texts()])
def test_every_command_is_understood(line):
    understood(line)


def test_quick_commands_run_in_their_order(tmp_path_factory, monkeypatch):
    """On a fresh folder, page by page, as somebody who follows the docs would."""
    root = tmp_path_factory.mktemp("reader")
    monkeypatch.chdir(root)
    shutil.copytree(ROOT / "docs", root / "docs")
    lines = [line for name in PAGES for line in fenced(page(name), "quick")]
    assert len(lines) >= 15
    for line in lines:
        run(*shlex.split(line)[1:])
    for made in (
        "data/tiny/dataset.json",
        "runs/tiny/srn/last.json",
        "recovered/strip.png",
        "results/tiny/report.html",
    ):
        assert (root / made).is_file(), made
