"""The race as a picture: every arm's mean by the steps of the rungs, to where it was dropped."""

from pathlib import Path

from matplotlib.figure import Figure

from qtarget.disk.files import replacing
from qtarget.search.search_outcome import SearchOutcome, is_sft

SFT_COLOUR, WINNER_COLOUR, OTHER_COLOUR = "#c2602a", "#0b6e4f", "#9aa1ab"
NAMED = 12
"""Arms that the legend names: the winner, sft, and those that came furthest."""


def draw_race(outcome: SearchOutcome, default_method: str, path: Path) -> None:
    """Write the picture. A cross is where an arm was dropped."""
    figure = Figure(figsize=(9, 4.8), dpi=130, layout="constrained")
    axes = figure.subplots()
    order = sorted(outcome.arms, key=lambda each: each.reached, reverse=True)
    for place, record in enumerate(order):
        if not record.standings:
            continue
        winner, sft = record.arm == outcome.winner, is_sft(record.arm, default_method)
        colour = WINNER_COLOUR if winner else SFT_COLOUR if sft else OTHER_COLOUR
        steps = outcome.steps[: len(record.standings)]
        means = [standing.mean for standing in record.standings]
        label = record.arm.name if winner or place < NAMED else None
        axes.plot(steps, means, marker="o", markersize=4, color=colour, linewidth=2.4 if winner else 1.2, label=label)
        if record.standings[-1].is_dropped:
            axes.plot(steps[-1:], means[-1:], marker="x", color=colour, markersize=10, markeredgewidth=2)
    axes.set_xscale("log", base=2)
    axes.set_xticks(outcome.steps, [str(each) for each in outcome.steps])
    axes.minorticks_off()
    axes.set_xlabel("steps of the rung, each with a schedule of its own")
    axes.set_ylabel(outcome.measure)
    axes.grid(axis="y", color="#e3e5e8")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=7)
    with replacing(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
