"""The demo's scores as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from qtarget.disk.files import replacing
from qtarget.lab import World
from qtarget.study.run_record import Outcome, Run

OURS_COLOUR, UNTRAINED_COLOUR, OTHERS_COLOUR = "#0b6e4f", "#8a8f98", "#3d6fb6"


def draw_scores(outcomes: Sequence[Outcome], world: World, path: Path) -> None:
    """One row an arm: Average@k as a dot, its 95 % interval as a line."""
    figure = Figure(figsize=(7.5, 0.55 * len(outcomes) + 1.7), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for row, outcome in enumerate(outcomes):
        colour, average = _colour(outcome.run), outcome.average
        mean, low, high = (100 * share for share in (average.mean, average.low, average.high))
        axes.plot([low, high], [row, row], color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
        axes.plot(mean, row, "o", color=colour, markersize=8)
        axes.annotate(f"{mean:.1f}", (mean, row), (0, 8), textcoords="offset points", ha="center", color=colour)
    axes.set_yticks(range(len(outcomes)), [outcome.run.label for outcome in outcomes])
    axes.invert_yaxis()
    axes.set_ylim(len(outcomes) - 0.5, -0.7)
    axes.set_xlim(0, 104)
    samples = outcomes[0].run.budget.samples
    axes.set_xlabel(
        f"Average@{samples} at temperature 1, per cent right, one training each\nlines are 95 % intervals by question"
    )
    axes.set_title(f"World {world.name}: {world.description}", fontsize=10, loc="left", wrap=True)
    axes.grid(axis="x", color="#e3e5e8")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _colour(run: Run) -> str:
    if not run.trains:
        return UNTRAINED_COLOUR
    return OURS_COLOUR if run.method == "target-sft" else OTHERS_COLOUR
