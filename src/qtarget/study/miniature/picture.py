"""The study as pictures: scores by setting, in the layout of the paper's summary figure, and the sweep as a map."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from qtarget.disk.files import replacing
from qtarget.study.miniature.analysis import Cell, MethodRuns
from qtarget.study.miniature.settings import Setting

LOOK = {
    "base": ("#8a8f98", "s"),
    "sft": ("#c2602a", "o"),
    "dft": ("#3d6fb6", "^"),
    "kd": ("#8b5fb0", "D"),
    "target-sft": ("#0b6e4f", "*"),
}
"""Colour and marker of a method."""


def draw_study(settings: Sequence[Setting], arms: Sequence[MethodRuns], path: Path) -> None:
    """Average@k of every method with its interval: a column for each setting, the settings of a world side by side."""
    groups = list(dict.fromkeys(setting.group for setting in settings))
    widths = [sum(setting.group == group for setting in settings) for group in groups]
    figure = Figure(figsize=(1.05 * sum(widths) + 1.2, 4.6), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True, width_ratios=widths, squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        members = [setting for setting in settings if setting.group == group]
        _panel(axes, group, members, arms)
    k = arms[0].outcomes[0].run.budget.samples
    panels[0].set_ylabel(f"Average@{k}, per cent right")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _panel(axes: Axes, group: str, settings: Sequence[Setting], arms: Sequence[MethodRuns]) -> None:
    for index, (method, (colour, marker)) in enumerate(LOOK.items()):
        by_setting = {arm.setting: arm for arm in arms if arm.method == method}
        at = [x + (index - 2) * 0.13 for x, setting in enumerate(settings) if setting.name in by_setting]
        shown = [by_setting[setting.name] for setting in settings if setting.name in by_setting]
        for x, arm in zip(at, shown, strict=True):
            axes.plot([x, x], [100 * end for end in arm.interval], color=colour, linewidth=2, alpha=0.45)
        size = 13 if marker == "*" else 6.5
        axes.plot(at, [100 * arm.mean for arm in shown], marker, color=colour, markersize=size, label=method)
    teachers = [100 * arm.mean for arm in arms if arm.method == "teacher" and arm.setting == settings[0].name]
    for height in teachers:
        axes.axhline(height, color="#8a8f98", linewidth=1, linestyle="--", label="teacher")
    axes.set_xticks(range(len(settings)), [setting.label for setting in settings])
    axes.set_xlim(-0.6, len(settings) - 0.4)
    axes.set_ylim(0, 103)
    axes.set_title(group, fontsize=10, loc="left")
    axes.grid(axis="y", color="#e3e5e8")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_sweep(cells: Sequence[Cell], path: Path) -> None:
    """The best method of each setting of the sweep, with its score and lead: a panel for each teacher."""
    slips = sorted({cell.slips for cell in cells})
    figure = Figure(figsize=(3.1 * len(slips) + 0.8, 3.7), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(slips), sharey=True, squeeze=False)[0]
    for axes, slip in zip(panels, slips, strict=True):
        _map(axes, [cell for cell in cells if cell.slips == slip])
        axes.set_title(f"teacher wrong in {100 * slip:g} % of steps", fontsize=9, loc="left")
    panels[0].set_ylabel("wrong steps demonstrated")
    figure.supxlabel("products in the student's pre-training, beside sums", fontsize=9)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _map(axes: Axes, cells: Sequence[Cell]) -> None:
    noises, products = sorted({cell.noise for cell in cells}), sorted({cell.products for cell in cells})
    picture = [[(1.0, 1.0, 1.0)] * len(products) for _ in noises]
    for cell in cells:
        y, x = noises.index(cell.noise), products.index(cell.products)
        red, green, blue = to_rgb(LOOK[cell.best.method][0])
        strength = 0.3 + 0.6 * min(1.0, cell.lead / 0.1)
        picture[y][x] = tuple(1 - strength * (1 - part) for part in (red, green, blue))  # type: ignore[assignment]
        eta = "" if cell.best.eta is None else f" η={cell.best.eta:g}"
        axes.text(x, y, f"{cell.best.method}{eta}\n{100 * cell.best.mean:.0f} (+{100 * cell.lead:.0f})", ha="center",
                  va="center", fontsize=7.5)  # fmt: skip
    axes.imshow(picture, aspect="auto")
    axes.set_xticks(range(len(products)), [f"{value:g}" for value in products])
    axes.set_yticks(range(len(noises)), [f"{100 * value:g} %" for value in noises])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
