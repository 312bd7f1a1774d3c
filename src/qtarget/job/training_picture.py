"""Loss, nll and trust over the steps of a run, as a picture beside its model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qtarget.disk.files import replacing

PICTURE = "training.png"
PANELS = {
    "loss": "loss: the objective",
    "nll": "nll of the labels, nats a token",
    "trust": "trust: share of the target on the label",
}
TRAINING_COLOUR, EVALUATION_COLOUR = "#3d6fb6", "#b23a48"


def draw_training(history: Sequence[Mapping[str, Any]], method: str, folder: Path) -> bool:
    """Draw what a run logged into `training.png` of a folder: a line for training, dots for evaluations.

    Args:
        history: the trainer's log, one mapping an entry, with its `step`.

    Returns:
        Whether a picture was drawn: not without matplotlib, and not of a log without losses.
    """
    panels = {name: title for name, title in PANELS.items() if _points(history, name)}
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not panels:
        return False
    figure = Figure(figsize=(7.5, 0.6 + 1.7 * len(panels)), dpi=120, layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, title) in zip(axes, panels.items(), strict=True):
        _draw_panel(panel, history, name, title)
    axes[0].set_title(f"{panels[next(iter(panels))]}, {method}", fontsize=9, loc="left")
    axes[0].legend(fontsize=8, frameon=False)
    axes[-1].set_xlabel("optimizer step", fontsize=9)
    with replacing(folder / PICTURE) as file:
        figure.savefig(file, format="png")
    return True


def _points(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """Steps and figures; of a checkpoint's log, a figure that was no number is None."""
    return [(entry["step"], float(entry[name])) for entry in history if entry.get(name) is not None and "step" in entry]


def _draw_panel(axes: Any, history: Sequence[Mapping[str, Any]], name: str, title: str) -> None:
    steps, values = zip(*_points(history, name), strict=True)
    axes.plot(
        steps,
        values,
        color=TRAINING_COLOUR,
        linewidth=1.5,
        marker="o" if len(steps) < 20 else "",
        markersize=3,
        label="training",
    )
    if evaluated := _points(history, f"eval_{name}"):
        at, found = zip(*evaluated, strict=True)
        axes.plot(at, found, "o", color=EVALUATION_COLOUR, markersize=5, label="on the evaluation rows")
    axes.set_title(title, fontsize=9, loc="left")
    axes.grid(color="#e3e5e8")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)
