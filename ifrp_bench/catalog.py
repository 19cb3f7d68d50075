"""What there is, by name: the catalogue behind ``ifrp-bench list`` and the tests that every part must pass."""

from typing import Any

from ifrp_bench.recipe import SOURCES, load_recipe, recipe_names
from ifrp_bench.stylize import find_styles


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """Recipes, sources and styles with the facts that a user chooses by."""
    return {
        "recipes": [
            {"name": name, "source": recipe.source, "train_faces": recipe.train_faces, "test_faces": recipe.test_faces, "description": recipe.description}
            for name in recipe_names() for recipe in [load_recipe(name)]
        ],
        "sources": [{"name": name} for name in SOURCES],
        "styles": [
            {
                "name": style.name, "role": "seen" if style.seen else "unseen", "trained": style.trained, "title": style.card.get("title", ""),
                "artist": style.card.get("artist", ""), "year": style.card.get("year", ""),
                "gram_fall_percent": style.card.get("losses", {}).get("gram_fall_percent"), "auc": style.card.get("measured", {}).get("auc"),
            }
            for style in find_styles().values()
        ],
    }
