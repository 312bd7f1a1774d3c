"""The arms of a recipe side by side with what the paper's figure shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.evaluate.run.results import Results
from qtarget.recipes.recipe_files import Recipe, paper_figure

Z95 = 1.96


@dataclass(frozen=True)
class RecipeScore:
    """An arm's mean over its tasks, each counting alike. tasks: Average@k by task.

    Attributes:
        margin: half of the 95 % interval of the mean, from the tasks' own: evaluation noise of one training run.
        truncated: share of samples cut off at the limit, a mean over tasks.
        warnings: what evaluation has to say of the tasks, each with its name.
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
    """The mean over the tasks; their intervals add up as those of independent sets do."""
    tasks = results.tasks
    halves = [(one.average.high - one.average.low) / 2 for one in tasks]
    return RecipeScore(
        arm=arm,
        mean=fmean(one.average.mean for one in tasks),
        margin=math.sqrt(sum(half**2 for half in halves)) / len(tasks),
        truncated=fmean(one.truncated for one in tasks),
        tasks={one.task: one.average.mean for one in tasks},
        questions=sum(one.questions for one in tasks),
        k=tasks[0].ask.k,
        warnings=tuple(f"{one.task}: {warning}" for one in tasks for warning in one.warnings),
    )


def comparison(recipe: Recipe, scores: Sequence[RecipeScore], dry: bool) -> RenderableType:
    """Ours beside the paper's, with what is needed to read them."""
    k = scores[0].k
    title = f"{recipe.title}: Average@{k} in per cent, {scores[0].questions} questions of {len(scores[0].tasks)} sets"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for name in ("here (95 %)", "paper's figure", "cut off"):
        table.add_column(name, justify="right", no_wrap=True)
    for score in scores:
        paper = recipe.paper[score.arm]
        here = f"{100 * score.mean:.1f} ± {100 * score.margin:.1f}"
        table.add_row(score.arm, here, paper_figure(paper.value, paper.where), f"{100 * score.truncated:.0f} %")
    notes = ["The paper's are read off its figure: ±0.3, with ~ about ±0.6, = from its text."]
    notes += [] if dry else [f"{score.arm}, {warning}" for score in scores for warning in score.warnings]
    if dry:
        notes.insert(0, "A dry run: tiny random models and invented rows. The figures here mean nothing.")
    return Group(Text(title, style="bold"), table, *(Text(note, style="dim") for note in notes))
