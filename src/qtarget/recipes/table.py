"""The table of a recipe run: each arm's score beside the paper's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.evaluate.run.results import Results
from qtarget.recipes.recipe_files import Recipe, paper_figure


@dataclass(frozen=True)
class RecipeScore:
    """What an arm reached. Every task counts alike, whatever its number of questions.

    Attributes:
        mean: of the tasks' Average@k, in [0, 1].
        margin: half the width of its 95 % interval, from those of the tasks. It holds evaluation noise only, not what
            another training run would change.
        truncated: share of samples cut off at the length limit, a mean over tasks.
        tasks: Average@k by task.
        warnings: evaluation's warnings, each after its task's name.
    """

    arm: str
    mean: float
    margin: float
    truncated: float
    tasks: dict[str, float]
    questions: int
    k: int
    warnings: tuple[str, ...]


def arm_score(arm: str, results: Results) -> RecipeScore:
    """The mean over the tasks, whose errors are independent: half widths add up in squares."""
    tasks = results.tasks
    halves = [(task.average.high - task.average.low) / 2 for task in tasks]
    return RecipeScore(
        arm=arm,
        mean=fmean(task.average.mean for task in tasks),
        margin=math.sqrt(sum(half**2 for half in halves)) / len(tasks),
        truncated=fmean(task.truncated for task in tasks),
        tasks={task.task: task.average.mean for task in tasks},
        questions=sum(task.questions for task in tasks),
        k=tasks[0].ask.k,
        warnings=tuple(f"{task.task}: {warning}" for task in tasks for warning in task.warnings),
    )


def comparison(
    recipe: Recipe, scores: Sequence[RecipeScore], dry: bool, changed: Mapping[str, Any] | None = None
) -> RenderableType:
    """The table, with notes on how to read it.

    Args:
        changed: what the run changes of the recipe.
    """
    k = scores[0].k
    title = f"{recipe.title}: Average@{k} in per cent, {scores[0].questions} questions of {len(scores[0].tasks)} sets"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for name in ("here (95 %)", *([] if changed else ["paper's figure"]), "cut off"):
        table.add_column(name, justify="right", no_wrap=True)
    for score in scores:
        paper = recipe.paper[score.arm]
        here = f"{100 * score.mean:.1f} ± {100 * score.margin:.1f}"
        beside = [] if changed else [paper_figure(paper.value, paper.where)]
        table.add_row(score.arm, here, *beside, f"{100 * score.truncated:.0f} %")
    notes = [] if changed else ["The paper's are read off its figure: ±0.3, with ~ about ±0.6, = from its text."]
    notes += [] if dry else [f"{score.arm}, {warning}" for score in scores for warning in score.warnings]
    if changed:
        said = ", ".join(f"{key} {value}" for key, value in changed.items())
        notes.insert(0, f"Changed from the recipe, so the paper's figures do not stand beside it: {said}.")
    if dry:
        notes.insert(0, "A dry run: tiny random models and invented rows. The figures here mean nothing.")
    return Group(Text(title, style="bold"), table, *(Text(note, style="dim") for note in notes))
