"""The race as a picture: every arm's mean by the steps of the rungs, to where it was dropped."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qtarget.disk.files import replacing
from qtarget.search.search_outcome import ArmRecord, SearchOutcome, is_sft
from qtarget.search.search_space import SearchArm

SFT_COLOUR = "#c2602a"
COLOURS = ("#3d6fb6", "#8b5fb0", "#0b6e4f", "#b04f86", "#a8862a", "#5b6470")
"""Of the other methods, in the order in which they come."""
DASHES = ("-", "--", ":", "-.")
"""Of one method's arms."""
DROPPED: dict[str, Any] = {"marker": "x", "markersize": 10, "markeredgewidth": 2, "linestyle": ""}
FAILED: dict[str, Any] = {"marker": "X", "markersize": 9, "linestyle": ""}
MARK_COLOUR = "#5b6470"
LEGEND_ARMS = 12
"""Arms that the legend names: the winner, and those that came furthest."""


def draw_race(outcome: SearchOutcome, default_method: str, path: Path) -> None:
    """Write the picture. A thin cross is where an arm was dropped; a thick one at the bottom, where one failed."""
    figure = Figure(figsize=(9, 4.8), dpi=130, layout="constrained")
    axes = figure.subplots()
    order = sorted(outcome.arms, key=lambda each: each.reached, reverse=True)
    looks = _looks(order, default_method)
    for place, record in enumerate(order):
        winner, (colour, dashes) = record.arm == outcome.winner, looks[record.arm]
        steps = outcome.steps[: len(record.standings)]
        means = [standing.mean for standing in record.standings]
        label = record.arm.name if winner or place < LEGEND_ARMS else None
        width = 3.0 if winner else 1.3
        axes.plot(steps, means, dashes, marker="o", markersize=4, color=colour, linewidth=width, label=label)
        if record.standings and record.standings[-1].is_dropped:
            axes.plot(steps[-1:], means[-1:], color=colour, **DROPPED)
        if record.failed:
            at = outcome.steps[min(len(steps), len(outcome.steps) - 1)]
            axes.plot([at], [0.02], color=colour, transform=axes.get_xaxis_transform(), clip_on=False, **FAILED)
    axes.set_xscale("log", base=2)
    axes.set_xticks(outcome.steps, [str(each) for each in outcome.steps])
    axes.minorticks_off()
    axes.set_xlabel("steps of the rung, each with a schedule of its own")
    axes.set_ylabel(outcome.measure)
    axes.grid(axis="y", color="#e3e5e8")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles = [*axes.get_legend_handles_labels()[0], *_marks(outcome)]
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=7)
    with replacing(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


def _marks(outcome: SearchOutcome) -> list[Line2D]:
    """What the crosses mean, of those that are there."""
    dropped = any(each.standings and each.standings[-1].is_dropped for each in outcome.arms)
    failed = any(each.failed for each in outcome.arms)
    named = (("dropped", DROPPED, dropped), ("failed", FAILED, failed))
    return [Line2D([], [], color=MARK_COLOUR, label=label, **style) for label, style, is_there in named if is_there]


def _looks(order: Sequence[ArmRecord], default_method: str) -> dict[SearchArm, tuple[str, str]]:
    """Colour and dashes of each arm."""
    others = dict.fromkeys(each.arm.method for each in order if not is_sft(each.arm, default_method))
    colours = {method: COLOURS[place % len(COLOURS)] for place, method in enumerate(others)}
    seen: Counter[str] = Counter()
    looks = {}
    for each in order:
        colour = SFT_COLOUR if is_sft(each.arm, default_method) else colours[each.arm.method]
        looks[each.arm] = (colour, DASHES[seen[colour] % len(DASHES)])
        seen[colour] += 1
    return looks
