"""The demo's scores as a picture: a row for each setting, a panel for each decoding."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qtarget.disk.files import replacing
from qtarget.study.demo.demo_scores import DemoTable
from qtarget.study.demo.demo_view import decoding_words
from qtarget.study.tuned.design import TEACHER, TunedStudy
from qtarget.study.tuned.tuned_arms import OURS

OURS_COLOUR, UNTRAINED_COLOUR, OTHERS_COLOUR = "#0b6e4f", "#8a8f98", "#3d6fb6"


def draw_demo(tables: Mapping[str, Sequence[DemoTable]], study: TunedStudy, path: Path) -> None:
    """Per cent right of each arm as a dot, its 95 % interval as a line."""
    figure = Figure(figsize=(12, 3.4 * len(tables) + 0.5), dpi=130, layout="constrained")
    panels = figure.subplots(len(tables), len(next(iter(tables.values()))), sharey="row", squeeze=False)
    for row, (name, found) in zip(panels, tables.items(), strict=True):
        labels = list(dict.fromkeys(score.arm for table in found for score in table.scores))
        labels.sort(key=lambda arm: [*(each.name for each in study.arms), TEACHER].index(arm))
        for axes, table in zip(row, found, strict=True):
            _panel(axes, table, labels)
            axes.set_title(f"{name}, {decoding_words(table.decoding)}", fontsize=10, loc="left")
        row[0].invert_yaxis()
    figure.supxlabel(f"per cent right, {study.seeds} trainings; lines are 95 % intervals by question", fontsize=9)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _panel(axes: Axes, table: DemoTable, labels: Sequence[str]) -> None:
    for score in table.scores:
        place, colour = labels.index(score.arm), _colour(score.arm)
        mean, low, high = (100 * share for share in (score.average.mean, score.average.low, score.average.high))
        axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
        axes.plot(mean, place, "o", color=colour, markersize=6)
        axes.annotate(f"{mean:.0f}", (mean, place), (0, 6), textcoords="offset points", ha="center", color=colour,
                      fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(-0.8, len(labels) - 0.4)
    axes.set_xlim(0, 104)
    axes.grid(axis="x", color="#e3e5e8")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _colour(arm: str) -> str:
    if arm == OURS:
        return OURS_COLOUR
    return UNTRAINED_COLOUR if arm in ("base", TEACHER) else OTHERS_COLOUR
