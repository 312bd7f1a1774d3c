"""The study as pictures: a column a setting in three panels, one for each decoding; and the sweep as curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qtarget.disk.files import replacing
from qtarget.study.tuned.analysis import Curve, SettingResult
from qtarget.study.tuned.beyond import BY_TOKEN, SCHEDULED, SELF_TAUGHT
from qtarget.study.tuned.design import TunedStudy
from qtarget.study.tuned.fewer_passes import OURS_FEW, SFT_FEW
from qtarget.study.tuned.rounds import GIVEN_AND_RIGHT, ONE_PASS, TWO_ROUNDS
from qtarget.study.tuned.settings import Setting
from qtarget.study.tuned.tuned_arms import (
    COMMON,
    GREEDY,
    OURS,
    WHOLE_SOFTMAX,
    Decoding,
)

LOOKS = {
    "base": ("#8a8f98", "s"),
    "base, decoding tuned": ("#8a8f98", "P"),
    "sft": ("#c2602a", "o"),
    "sft, decoding tuned": ("#c2602a", "X"),
    "dft": ("#3d6fb6", "^"),
    "kd": ("#8b5fb0", "D"),
    "kd-hybrid": ("#b04f86", "v"),
    "kd, teacher sharpened": ("#8b5fb0", "d"),
    OURS: ("#0b6e4f", "*"),
    "target-sft, teacher sharpened": ("#4fae8f", "*"),
    SCHEDULED: ("#4fae8f", "<"),
    BY_TOKEN: ("#4fae8f", ">"),
    "taid": ("#b04f86", "v"),
    SELF_TAUGHT: ("#3d6fb6", "*"),
    SFT_FEW: ("#e0a070", "o"),
    OURS_FEW: ("#4fae8f", "*"),
    GIVEN_AND_RIGHT: ("#c2602a", "P"),
    ONE_PASS: ("#4fae8f", "<"),
    TWO_ROUNDS: ("#0b6e4f", "*"),
}
"""Colour and marker of an arm."""
DECODING_PANELS: dict[str, Decoding | None] = {
    f"temperature {COMMON.temperature:g}, top_p {COMMON.top_p:g}, or the arm's own": None,
    "temperature 0": GREEDY,
    "temperature 1": WHOLE_SOFTMAX,
}


def draw_settings(study: TunedStudy, found: Sequence[SettingResult], path: Path) -> None:
    """Scores of every arm: a column for each setting, those that are not run yet empty; a panel for each decoding."""
    figure = Figure(figsize=(max(9.0, 1.0 * len(study.settings) + 2.5), 10), dpi=130, layout="constrained")
    panels = figure.subplots(len(DECODING_PANELS), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, decoding) in zip(panels, DECODING_PANELS.items(), strict=True):
        _panel(axes, study, found, decoding)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylabel("per cent right")
    labels = [setting.name.replace("-", "\n", 1) for setting in study.settings]
    panels[-1].set_xticks(range(len(labels)), labels, rotation=40, ha="right", fontsize=8)
    handles, names = panels[0].get_legend_handles_labels()
    if names:
        figure.legend(handles, names, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _panel(axes: Axes, study: TunedStudy, found: Sequence[SettingResult], decoding: Decoding | None) -> None:
    places = {setting: place for place, setting in enumerate(study.settings)}
    for index, arm in enumerate(study.arms):
        if decoding is not None and arm.tunes_decoding:
            continue
        colour, marker = LOOKS[arm.name]
        at = [places[result.setting] + (index - len(study.arms) / 2 + 0.5) * 0.08 for result in found]
        drawn = [result.arms[arm.name] for result in found]
        for x, each in zip(at, drawn, strict=True):
            axes.plot([x, x], [100 * end for end in each.interval(decoding)], color=colour, linewidth=1.5, alpha=0.45)
        heights = [100 * each.mean(decoding) for each in drawn]
        axes.plot(at, heights, marker, color=colour, markersize=10 if marker == "*" else 5, label=arm.name)
    for result in (each for each in found if each.teachers):
        height, x = 100 * result.teacher_mean(decoding or COMMON), places[result.setting]
        axes.plot([x - 0.45, x + 0.45], [height, height], color="#8a8f98", linewidth=1, linestyle="--")
    for x in set(places.values()) - {places[result.setting] for result in found}:
        axes.text(x, 50, "not run yet", rotation=90, ha="center", va="center", color="#8a8f98", fontsize=8)
    axes.set_xlim(-0.6, len(study.settings) - 0.4)
    axes.set_ylim(0, 103)
    axes.grid(axis="y", color="#e3e5e8")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_curves(swept: Mapping[Setting, Sequence[Curve]], path: Path) -> None:
    """Scores by learning rate: a panel for each setting, a colour for each method, dashed for fewer steps."""
    figure = Figure(figsize=(4.6 * max(len(swept), 1) + 1.8, 4.2), dpi=130, layout="constrained")
    panels = figure.subplots(1, max(len(swept), 1), sharey=True, squeeze=False)[0]
    for axes, (setting, lines) in zip(panels, swept.items(), strict=False):
        most = max(line.steps for line in lines)
        for line in lines:
            colour, marker = LOOKS[line.method]
            rates = sorted(line.by_rate)
            axes.plot(
                range(len(rates)), [100 * line.by_rate[rate] for rate in rates], marker=marker, color=colour,
                linestyle="-" if line.steps == most else "--", label=f"{line.method}, {line.steps} steps",
            )  # fmt: skip
            axes.set_xticks(range(len(rates)), [f"×{rate:g}" for rate in rates])
        axes.set_title(setting.name, fontsize=10, loc="left")
        axes.set_xlabel("learning rate")
        axes.grid(axis="y", color="#e3e5e8")
    panels[0].set_ylabel(f"per cent right at {COMMON.label}, development questions")
    handles, labels = panels[0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    with replacing(path) as file:
        figure.savefig(file, format="png")
