"""The frame: imports point one way, and the README's map is the tree."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ifrp_bench"
LAYERS = {   # a module imports from lower layers and its own, stages (4) never from each other
    "errors": 0, "draws": 0, "images": 0, "workers": 0, "provenance": 0, "weights": 0, "memory": 0, "compiler": 0, "precision": 0, "settings": 0, "nets": 1, "warp": 1,
    "processes": 1, "methods": 2, "metrics": 2, "stylize": 2, "sources": 2, "recipe": 2, "plan": 2, "runs": 2, "shards": 3, "pairs": 3, "batches": 3,
    "catalog": 3, "synth": 4, "verify": 4, "train_style": 4, "train": 4, "destylize": 4, "evaluate": 4, "exchange": 4, "tables": 4,
    "report": 5, "paper": 6, "cli": 7, "__main__": 8, "__init__": 0,
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(name: str) -> str:
    """``ifrp_bench.nets.vgg`` is in the room ``nets``."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(path: Path) -> set[str]:
    """Rooms of the package that a module imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ifrp_bench"):
            found |= {room(node.module)} if node.module != "ifrp_bench" else {"__init__"}
        elif isinstance(node, ast.Import):
            found |= {room(alias.name) for alias in node.names if alias.name.startswith("ifrp_bench")}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for there in imported(path) - {here}:
        assert LAYERS[there] <= LAYERS[here], f"{here} imports {there}"
        assert not LAYERS[there] == LAYERS[here] == 4, f"the stages {here} and {there} meet in files"


def test_only_shards_knows_hdf5():
    assert [path.name for path in modules() if "import h5py" in path.read_text()] == ["shards.py"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_and_public_name_says_what_it_is(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_") and path.name != "cli.py":
            assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_the_readme_maps_every_file():
    readme = (ROOT / "README.md").read_text()
    for path in modules():
        if path.name not in ("__init__.py", "__main__.py"):
            assert f"`{path.relative_to(PACKAGE)}`" in readme, f"{path.name} is not in the README's map"
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        assert f"`{path.name}`" in readme, f"{path.name} is not in the README's map"


def test_the_readme_names_every_recipe_and_target():
    readme = (ROOT / "README.md").read_text()
    for path in (ROOT / "manifests").glob("*.toml"):
        assert f"`{path.stem}`" in readme
    for target in ("make demo", "make test", "make lint", "make bench"):
        assert target in readme


def test_the_readmes_table_of_styles_is_the_cards():
    from ifrp_bench.stylize import find_styles

    readme = (ROOT / "README.md").read_text()
    for name, style in find_styles().items():
        fall, auc = style.card["losses"]["gram_fall_percent"], style.card["measured"]["auc"]
        assert f"| `{name}` | {'seen' if style.seen else 'unseen'} | {fall:.1f} % | {auc:.3f} |" in readme
