"""Dry runs: a recipe with tiny random models of the same architecture, and invented rows in the data's own format."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qtarget.recipes.recipe_files import FILES, Recipe, shapes
from qtarget.recipes.tiny import write_tiny

DRY_ROWS = FILES / "rows"
MODELS = "tiny"
TRAINING: dict[str, Any] = {
    "dataset_config": None,
    "train_rows": 4,
    "max_length": 512,
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "logging_steps": 1,
    "save_strategy": "no",
    "use_cpu": True,
    "disable_tqdm": True,
}
"""Keys that a dry run changes beside models and rows. Every other key is the recipe's."""
DRY_PROTOCOL: dict[str, Any] = {"k": 2, "max_new_tokens": 4}
DRY_QUESTIONS = 1
"""How many of each task a dry run evaluates."""


def dry_models(recipe: Recipe, home: Path) -> dict[str, str]:
    """Folders of the tiny student ("model") and teacher ("teacher"); they are made where they do not exist yet."""
    sizes, folder = shapes().shapes, home / MODELS
    families = {"model": sizes[recipe.model.shape].family, "teacher": sizes[recipe.model.teacher_shape].family}
    roles = {"model": "student", "teacher": "teacher"}
    return {
        key: str(write_tiny(family, roles[key], dry_texts(), folder / f"{family}-{roles[key]}"))
        for key, family in families.items()
    }


def dry_values(recipe: Recipe, values: dict[str, Any], home: Path) -> dict[str, Any]:
    """An arm's configuration with tiny models, invented rows and two steps."""
    models = dry_models(recipe, home)
    small = {**TRAINING, "train_dataset": str(DRY_ROWS / recipe.data.rows)}
    tiny = {key: models[key] for key in ("model", "teacher") if key in values}
    return {**values, **small, **tiny}


def dry_texts() -> Iterator[str]:
    """All text of the invented rows; the tiny tokenizer is trained on it."""
    for path in sorted(DRY_ROWS.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield from (value for value in json.loads(line).values() if isinstance(value, str))
