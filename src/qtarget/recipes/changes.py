"""What a user changes of a recipe for one run: models, keys of its training, and how it is evaluated."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

import qtarget as qt
from qtarget.data.user_files.yaml_file import CoreLoader
from qtarget.recipes.recipe_files import Recipe
from qtarget.recipes.schema import MethodPart, SourcedValue, Values

ASKED = ("tasks", "k", "max_new_tokens")
"""Values of an evaluation that may be changed."""
CACHE = "teacher-cache"


def changed_recipe(recipe: Recipe, job: Mapping[str, Any], asked: Mapping[str, Any], cache: Path | None) -> Recipe:
    """The recipe with values of a user in the place of its own.

    Args:
        job: keys of `qtarget train`, such as model, teacher or max_steps.
        asked: values of the evaluation, by the names in `ASKED`; None keeps the recipe's own.
        cache: the folder of recipes' results, where the teacher is asked once, ahead of the arms; None to ask it live.
    """
    given = {key: _yours(value) for key, value in job.items()}
    if cache is not None:
        given["teacher_cache"] = _yours(str(cache / recipe.name / CACHE))
    of_model = {key: value for key, value in given.items() if key in recipe.model.job}
    evaluation = {key: _yours(value) for key, value in asked.items() if value is not None}
    return replace(
        recipe,
        model=recipe.model.model_copy(update={"job": {**recipe.model.job, **of_model}}),
        evaluation=recipe.evaluation.model_copy(update={**evaluation, **({"questions": None} if evaluation else {})}),
        changes=given,
        asked_otherwise=evaluation,
    )


def _yours(value: Any) -> SourcedValue:
    return SourcedValue(value=value, source="yours", where="given on the command line")


def parse_keys(words: Sequence[str]) -> dict[str, Any]:
    """Keys and values of `--set KEY=VALUE`; a value is read as YAML.

    Raises:
        ValueError: a word without a key or a value, a key given twice, or a value that is no YAML.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        name = key.strip().replace("-", "_")
        if not equals or not name:
            raise ValueError(f"--set {word!r} gives no key a value; write it as `--set max_steps=4`.")
        if name in found:
            raise ValueError(f"--set {name} is given twice; keep one.")
        try:
            found[name] = yaml.load(text, CoreLoader)  # noqa: S506  (a safe loader)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {word!r}: the value is no YAML; put it in quotes.") from error
    return found


def changes_for(recipe: Recipe, part: MethodPart, is_taught: bool) -> Values:
    """The changes that concern an arm: hyperparameters and keys of the teacher only where the arm's method has them."""
    own, of_any = _hyperparameters(part), set().union(*map(_hyperparameters, recipe.arms.values()))
    return {
        key: value
        for key, value in recipe.changes.items()
        if (key in own or key not in of_any) and (is_taught or not key.startswith("teacher"))
    }


def _hyperparameters(part: MethodPart) -> set[str]:
    if part.job is None:
        return set()
    given = {key: value.value for key, value in part.job.items() if key != "method"}
    return set(qt.method(str(part.job["method"].value), **given).hyperparameters)
