"""What there is, by name: the rows behind ``ifrp-bench list``."""

from collections.abc import Iterator
from typing import Any

from ifrp_bench import parts
from ifrp_bench.data.recipe import load_recipe, recipe_names
from ifrp_bench.data.shipped import Shipped, open_shipped, shipped_names
from ifrp_bench.data.styles import Style, find_styles
from ifrp_bench.parts import Part

Row = dict[str, Any]


def catalogue() -> Iterator[tuple[str, list[Row]]]:
    """Recipes, sources, styles, methods, metrics and shipped weights with the facts that a user chooses by,
    in this order.
    """
    yield "recipes", [_recipe(name) for name in recipe_names()]
    yield "sources", [_source(name) for name in parts.source_names()]
    yield "styles", style_rows()
    yield "methods", [_method(part) for part in parts.trainables().values()]
    yield "metrics", [_metric(name) for name in parts.metrics()]
    yield "weights", [_weights(open_shipped(name)) for name in shipped_names()]


def style_rows() -> list[Row]:
    """The styles alone."""
    return [_style(style) for style in find_styles().values()]


def _recipe(name: str) -> Row:
    recipe = load_recipe(name)
    return {
        "name": name,
        "source": recipe.source,
        "train_faces": recipe.train_faces,
        "test_faces": recipe.test_faces,
        "description": recipe.description,
    }


def _source(name: str) -> Row:
    source = parts.source(name)
    return {"name": name, "faces": source.folder, "made": source.made}


def _style(style: Style) -> Row:
    card = style.card
    losses = card.get("losses", {})
    return {
        "name": style.name,
        "role": "seen" if style.seen else "unseen",
        "trained": style.trained,
        "title": card.get("title", ""),
        "artist": card.get("artist", ""),
        "year": card.get("year", ""),
        "gram_fall_percent": losses.get("gram_fall_percent"),
        "stored_gone": losses.get("stored_gone"),
        "auc": card.get("measured", {}).get("auc"),
    }


def _method(part: Part) -> Row:
    return {
        "name": part.name,
        "kind": "aligner" if part.aligns else "method",
        "use": part.use,
        "trainable": part.use == "trained",
        "settings": dict(part.settings),
        "presets": list(part.declared.presets),
        "description": part.title,
    }


def _metric(name: str) -> Row:
    metric = parts.metric(name)
    return {
        "name": name,
        "kind": metric.kind,
        "columns": [column.name for column in metric.columns],
        "default": metric.default,
    }


def _weights(weights: Shipped) -> Row:
    card = weights.info
    data, training = card["data"], card["training"]
    trained_on = f"{data['people']} people in {', '.join(data['recipe']['train_styles'])}"
    return {
        "name": weights.root.name,
        "method": weights.method,
        "description": f"{card['title']}; trained on {trained_on}, {training['hours']:.1f} hours",
        "limits": card["limits"],
        "licence": card["licence"],
        "sha256": weights.sha256("last"),
        "scores": card.get("scores", {}),
    }
