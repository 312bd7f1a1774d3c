"""A comparison as a picture: paired differences to the baseline, with their intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qtarget.disk.files import replacing
from qtarget.evaluate.compare.tables import ComparisonTables
from qtarget.evaluate.confidence import SeedsDifference

CLEAR_GAIN, CLEAR_LOSS, UNCLEAR = "#0b6e4f", "#b23a48", "#8a8f98"
ROW_INCHES, PANEL_INCHES = 0.42, 0.5


class Dot(NamedTuple):
    """A row of the picture: an arm's difference to the baseline, and whether it is clear after Holm's adjustment."""

    arm: str
    difference: SeedsDifference
    is_clear: bool


def draw_comparison(tables: ComparisonTables, path: Path) -> None:
    """A panel for each task and suite, a row for each arm: a dot at its difference, a line over the 95 % interval."""
    panels = _panels(tables)
    rows = [len(dots) for _, dots in panels]
    height = ROW_INCHES * sum(rows) + PANEL_INCHES * len(panels) + 1.0
    figure = Figure(figsize=(7.5, height), dpi=150, layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=[n + 0.4 for n in rows])[:, 0]
    for panel, (title, dots) in zip(axes, panels, strict=True):
        _draw_panel(panel, title, dots)
    noise = "; one training seed: evaluation noise only" if tables.evaluation_noise_only else ""
    label = f"points above {tables.baseline}, paired 95 % intervals{noise}\ncoloured: clear after Holm's adjustment"
    axes[-1].set_xlabel(label, fontsize=9)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _panels(tables: ComparisonTables) -> list[tuple[str, list[Dot]]]:
    panels = []
    for table in tables.tasks:
        title = f"{table.task} ({table.n_questions} × {table.k})"
        scores = [score for score in table.scores if score.against is not None]
        panels.append((title, [Dot(s.arm, s.against.difference, s.is_clear) for s in scores if s.against]))
    for suite in tables.suites:
        dots = [Dot(s.arm, s.against, s.is_clear) for s in suite.scores if s.against]
        panels.append((f"{suite.suite}, mean of {len(suite.tasks)} tasks", dots))
    return panels


def _draw_panel(axes: Axes, title: str, dots: Sequence[Dot]) -> None:
    axes.axvline(0, color="#3c4048", linewidth=1)
    for row, dot in enumerate(dots):
        mean, low, high = (100 * x for x in (dot.difference.mean, dot.difference.low, dot.difference.high))
        colour = UNCLEAR if not dot.is_clear else CLEAR_GAIN if mean > 0 else CLEAR_LOSS
        axes.plot([low, high], [row, row], color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
        axes.plot(mean, row, "o", color=colour, markersize=7)
        axes.annotate(
            f"{mean:+.1f}", (mean, row), (0, 6), textcoords="offset points", ha="center", color=colour, fontsize=8
        )
    axes.set_yticks(range(len(dots)), [dot.arm for dot in dots])
    axes.set_ylim(len(dots) - 0.5, -0.8)
    axes.set_title(title, fontsize=9, loc="left")
    axes.grid(axis="x", color="#e3e5e8")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
