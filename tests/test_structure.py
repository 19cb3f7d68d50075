"""The house: imports point one way, and the map in docs/architecture.md is the tree."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ifrp_bench"
LAYERS = {   # a module imports from lower layers and its own room: rooms of one layer never import each other
    "__init__": 0,
    "ground": 1,
    "nets": 2,
    "sources": 3,
    "methods": 3,
    "metrics": 3,
    "parts": 4,
    "data": 5,
    "shards": 6,
    "training": 6,
    "recovery": 6,
    "results": 6,
    "making": 7,
    "robustness": 7,
    "portraits": 7,
    "forecast": 7,
    "submission": 7,
    "paper": 8,
    "cli": 9,
    "__main__": 10,
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(name: str) -> str:
    """``ifrp_bench.nets.vgg`` is in the room ``nets``."""
    names = name.split(".")
    return names[1] if len(names) > 1 else "__init__"


def imported(path: Path) -> set[str]:
    """Rooms of the package that a module imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "ifrp_bench":
            found |= {alias.name if alias.name in LAYERS else "__init__" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ifrp_bench."):
            found |= {room(node.module)}
        elif isinstance(node, ast.Import):
            found |= {room(alias.name) for alias in node.names if alias.name.startswith("ifrp_bench")}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if here == "__init__":   # the package's face for Python: it hands out the one call, and imports it late
        assert imported(path) == {"recovery"}
        return
    for there in imported(path) - {here}:
        assert LAYERS[there] < LAYERS[here], f"{here} imports {there}"


def test_the_format_stands_on_the_ground_alone():
    for name in ("format", "runs"):
        assert imported(PACKAGE / "data" / f"{name}.py") <= {"ground", "__init__"}
    assert imported(PACKAGE / "shards.py") == {"data"}


def test_only_the_format_knows_hdf5():
    assert [path.name for path in modules() if "import h5py" in path.read_text()] == ["format.py"]


def test_nobody_asks_a_part_what_it_is():
    asked = re.compile(r"getattr\((module|method|part|metric|source)\b|hasattr\(")
    for path in modules():
        found = [line for line in path.read_text().splitlines() if asked.search(line) and "os," not in line]
        assert not found, f"{path}: {found}"


def test_no_stage_knows_a_method_by_its_name():
    names = {
        f'"{name}"'
        for name in (
            "copy",
            "mean-face",
            "nearest-face",
            "aligner",
            "gatys",
            "johnson",
            "mgan",
            "pix2pix",
            "cyclegan",
        )
    }
    stages = [path for path in modules() if room(".".join(path.relative_to(ROOT).with_suffix("").parts)) in
              ("data", "training", "recovery", "results", "paper", "parts")]
    for path in stages:
        constants = {
            f'"{node.value}"'
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant)
        }
        assert not constants & (names - ALLOWED_WORDS.get(path.name, set())), path


# a table's name, a kind's
ALLOWED_WORDS = {"tables.py": {'"aligner"'}, "report.py": {'"aligner"'}, "catalog.py": {'"aligner"'}}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_and_public_name_says_what_it_is(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_the_map_of_the_code_names_every_room_and_file():
    page = (ROOT / "docs" / "architecture.md").read_text()
    for path in modules():
        if path.name not in ("__init__.py", "__main__.py"):
            assert (
                f"`{path.relative_to(PACKAGE)}`" in page
            ), f"{path} is not in the map of docs/architecture.md"
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        assert f"`{path.name}`" in page, f"{path.name} is not in the map of docs/architecture.md"
