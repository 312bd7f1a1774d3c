"""Draw the numbers of docs/ideas.md: two models on one token, four targets made of them, and what η does to one.

python examples/draw_ideas.py [ideas.png]
"""

import sys

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import qtarget as qt
from qtarget import residual, trust

STUDENT = torch.tensor([0.02, 0.70, 0.28])
TEACHER = torch.tensor([0.60, 0.30, 0.10])
LABEL = torch.tensor(0)
TOKENS = ("y, the row's token", "z, the student's own", "all others")
COLOURS = ("#0b6e4f", "#3d6fb6", "#c9ccd1")


def target(method: qt.Method) -> torch.Tensor:
    """The target of a method on the token, [3]."""
    return qt.target_distribution(STUDENT.log(), LABEL, method, teacher=TEACHER.log()).q


def composed() -> qt.Method:
    """The target that the page composes: a label is never trusted by less than a tenth."""
    gamma = 0.1 + 0.9 * trust.label_probability()
    return qt.Method("own", gamma, residual.rest(gamma, residual.guided(0.5)))


def draw(path: str) -> None:
    """Three panels: the models, the targets, and Target-SFT from η = 0 to 1."""
    figure = Figure(figsize=(10.5, 3.4), dpi=130, layout="constrained")
    models, targets, path_of_eta = figure.subplots(1, 3, width_ratios=(1, 2.2, 1.6))
    _bars(models, {"student p": STUDENT, "teacher t": TEACHER})
    models.set_title("two models", loc="left", fontsize=10)
    named = {name: target(qt.method(name)) for name in ("sft", "dft", "kd", "target-sft")}
    _bars(targets, {**named, "composed": target(composed())})
    targets.set_title("targets Q made of them", loc="left", fontsize=10)
    etas = torch.linspace(0, 1, 41)
    shares = torch.stack([target(qt.method("target-sft", eta=float(eta))) for eta in etas], dim=1)
    path_of_eta.stackplot(etas, shares, colors=COLOURS)
    path_of_eta.set(xlim=(0, 1), ylim=(0, 1), xlabel="η: 0 is dft, 1 sends the rest to the teacher")
    path_of_eta.set_title("target-sft", loc="left", fontsize=10)
    handles, labels = targets.get_legend_handles_labels()
    figure.legend(handles[: len(TOKENS)], labels[: len(TOKENS)], loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path)


def _bars(axes: Axes, distributions: dict[str, torch.Tensor]) -> None:
    """A stacked bar for each distribution."""
    below = torch.zeros(len(distributions))
    for place, (token, colour) in enumerate(zip(TOKENS, COLOURS, strict=True)):
        heights = torch.stack([q[place] for q in distributions.values()])
        axes.bar(list(distributions), heights, bottom=below, color=colour, width=0.7, label=token)
        below = below + heights
    axes.set_ylim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw(sys.argv[1] if len(sys.argv) > 1 else "ideas.png")
