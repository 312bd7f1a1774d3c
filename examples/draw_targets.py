"""Draw the targets of five methods on two tokens of a demonstration: one of several good words, and one wrong digit.

python examples/draw_targets.py [targets.png]
"""

import sys

import torch
from matplotlib.figure import Figure

import qtarget as qt
from qtarget import lab

METHODS = {
    "sft": {},
    "label-smoothing": {"smoothing": 0.1},
    "dft": {},
    "kd": {},
    "target-sft": {"eta": 0.5},
}
SHOWN = 6
GREY, BLUE, GREEN = "#c9ccd1", "#3d6fb6", "#0b6e4f"


def two_tokens(world: lab.World) -> tuple[list[int], int, int]:
    """Token ids of a demonstration, and the places of a connective and of a wrong result in it."""
    tokenizer = lab.tokenizer(world)
    for row in lab.demonstrations(world, seed=0):
        ids = tokenizer(row["prompt"] + row["completion"])["input_ids"]
        words = tokenizer.convert_ids_to_tokens(ids)
        results = [i + 1 for i, word in enumerate(words) if word == "="]
        wrong = [i for i in results if int(words[i]) != eval("".join(words[i - 4 : i - 1])) % 10]  # noqa: S307  (ours)
        if wrong and wrong[0] > results[0]:  # the connective is taken before the chain goes wrong
            return ids, results[0] + 1, wrong[0]
    raise AssertionError("every demonstration is right")


def draw(path: str) -> None:
    """One column a token, one row a method: the target in colour over the student's own distribution in grey."""
    world = lab.world("weak-operator")
    tokenizer, (ids, *places) = lab.tokenizer(world), two_tokens(world)
    with torch.no_grad():
        student, teacher = (
            m(torch.tensor([ids])).logits[0] for m in (lab.load_student(world), lab.load_teacher(world))
        )
    figure = Figure(figsize=(9.5, 7), dpi=130, layout="constrained")
    panels = figure.subplots(len(METHODS), 2, sharex="col")
    for column, (place, story) in enumerate(zip(places, ("one of several good words", "a wrong digit"), strict=True)):
        z, t, label = student[place - 1], teacher[place - 1], torch.tensor(ids[place])
        p = z.softmax(-1)
        shown = (p + t.softmax(-1)).index_add(0, label[None], torch.tensor([9.0])).topk(SHOWN).indices
        shown = shown[tokenizer_order(tokenizer, shown)]
        names = [tokenizer.convert_ids_to_tokens(int(i)) for i in shown]
        for row, (name, hyperparameters) in enumerate(METHODS.items()):
            q = qt.target_distribution(z, label, qt.method(name, **hyperparameters), teacher=t).q
            axes = panels[row][column]
            axes.bar(range(SHOWN), p[shown], width=0.85, color=GREY, label="student p")
            colours = [GREEN if i == label else BLUE for i in shown]
            axes.bar(range(SHOWN), q[shown], width=0.45, color=colours, label="target Q (green: the observed token)")
            axes.set_xticks(range(SHOWN), names)
            axes.set_ylim(0, 1.05)
            axes.spines[["top", "right"]].set_visible(False)
            if column == 0:
                axes.set_ylabel(name, rotation=0, ha="right", va="center", weight="bold", labelpad=8)
        context = " ".join(tokenizer.convert_ids_to_tokens(ids[max(0, place - 5) : place]))
        observed = tokenizer.convert_ids_to_tokens(int(label))
        panels[0][column].set_title(f"{story}:  … {context} [{observed}]", fontsize=10, loc="left")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path)


def tokenizer_order(tokenizer, shown: torch.Tensor) -> list[int]:
    """The places of the shown tokens in the order of the vocabulary, so that digits stand in order."""
    return sorted(range(len(shown)), key=lambda i: tokenizer.convert_ids_to_tokens(int(shown[i])))


if __name__ == "__main__":
    draw(sys.argv[1] if len(sys.argv) > 1 else "targets.png")
