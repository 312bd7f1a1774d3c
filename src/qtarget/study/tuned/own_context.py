"""What a student of the lab makes of a context: its p_y as its own teacher behind other prompts than the row's."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from qtarget import lab
from qtarget.disk.files import read_json_object, write_digested_json
from qtarget.disk.pages import markdown
from qtarget.lab import Demonstration
from qtarget.lab.tokens import END
from qtarget.lab.worlds import apply
from qtarget.study.quiet import quiet
from qtarget.study.tuned.runs import models_for
from qtarget.study.tuned.settings import Setting

CONTEXT_FILE = "context.json"
CONTEXT_ROWS = 300
EXAMPLE_SEED = 20_000
"""Of the worked example of another question."""


class WorkedRow(NamedTuple):
    """A row as the teacher may see it: the row, its question's right solution, and a worked example of another."""

    row: Demonstration
    right: str
    other: Demonstration

    @property
    def question(self) -> str:
        return self.row["prompt"]


CONTEXTS: dict[str, Callable[[WorkedRow], str]] = {
    "the row's prompt": lambda told: told.question,
    "a right solution before it": lambda told: f"{told.question}{told.right}{END}{told.question}",
    "a right solution behind it, as `privileged_context`": lambda told: f"{told.question}\n\n{told.right}",
    "another question, solved, before it": lambda told: (
        f"{told.other['prompt']}{told.other['completion']}{END}{told.question}"
    ),
    "the completion itself before it (the leak)": lambda told: (
        f"{told.question}{told.row['completion']}{END}{told.question}"
    ),
}
"""What the teacher reads before the completion."""


class LabelProbabilities(NamedTuple):
    """Mean p_y over all learned tokens, over results of right steps and over those of wrong ones."""

    all: float
    right_results: float
    wrong_results: float


def measured_contexts(setting: Setting, seeds: int, models: Path) -> dict[str, Any]:
    """By context, p_y of the untouched student of each pre-training, on rows drawn from the same seed."""
    found: dict[str, list[LabelProbabilities]] = {name: [] for name in CONTEXTS}
    with quiet():
        for seed in range(seeds):
            student = lab.load(models_for(setting, seed)[0].path(models))
            tokenizer, rows = lab.tokenizer(setting.world), told_rows(setting, seed)
            for name, prompt in CONTEXTS.items():
                found[name].append(label_probabilities(student, tokenizer, rows, prompt))
    by_name = {name: [each._asdict() for each in of_seeds] for name, of_seeds in found.items()}
    return {"student": setting.student, "noise": setting.noise, "rows": CONTEXT_ROWS, "contexts": by_name}


def keep_contexts(setting: Setting, seeds: int, models: Path, results: Path) -> None:
    """Measure, and write what was found beside the protocol; what is there is kept."""
    if not (results / CONTEXT_FILE).is_file():
        results.mkdir(parents=True, exist_ok=True)
        write_digested_json(results / CONTEXT_FILE, measured_contexts(setting, seeds, models))


def told_rows(setting: Setting, seed: int) -> list[WorkedRow]:
    """The first rows of a training, each with a right solution and with another question's."""
    world = replace(setting.world, demonstrations=CONTEXT_ROWS)
    clean = replace(world, demonstrator=replace(world.demonstrator, slips=0.0))
    others = lab.demonstrations(clean, EXAMPLE_SEED + seed)
    rows = lab.demonstrations(world, seed)
    return [WorkedRow(row, right_solution(row), other) for row, other in zip(rows, others, strict=True)]


def right_solution(row: Demonstration) -> str:
    """The row's completion with every step made right, in the row's own connectives."""
    numbers, said = row["prompt"].split()[:-1], row["completion"].split()
    value, text = int(numbers[0]), ""
    for place, (operator, number) in enumerate(zip(numbers[1::2], numbers[2::2], strict=True)):
        result = apply(operator, value, int(number))
        text += f" {value} {operator} {number} = {result} {said[6 * place + 5]}"
        value = result
    return f"{text} answer {value}"


@torch.no_grad()
def label_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[WorkedRow],
    prompt: Callable[[WorkedRow], str],
) -> LabelProbabilities:
    """p_y of every row's completion behind a prompt, the end token included."""
    every: list[float] = []
    by_truth: dict[bool, list[float]] = {True: [], False: []}
    for told in rows:
        asked = tokenizer(prompt(told))["input_ids"]
        learned = tokenizer(told.row["completion"] + END)["input_ids"]
        logits = model(input_ids=torch.tensor([asked + learned])).logits[0, len(asked) - 1 : -1]
        p = logits.softmax(-1).gather(-1, torch.tensor(learned)[:, None])[:, 0].tolist()
        every += p
        for place, is_right in step_results(told.row["completion"]):
            by_truth[is_right].append(p[place])
    return LabelProbabilities(*(round(fmean(each), 5) for each in (every, by_truth[True], by_truth[False])))


def step_results(completion: str) -> list[tuple[int, bool]]:
    """Where results of steps stand among a completion's tokens, and whether each is right."""
    said = completion.split()
    steps = [(place, said[place - 4 : place + 1]) for place in range(4, len(said), 6) if said[place - 1] == "="]
    return [(place, apply(step[1], int(step[0]), int(step[2])) == int(step[4])) for place, step in steps]


def context_table(results: Path) -> str:
    """Mean p_y by context over pre-trainings, from the file."""
    path = results / CONTEXT_FILE
    if not path.is_file():
        return "Not measured yet."
    contexts = read_json_object(path, "take it from version control")["contexts"]
    rows = [
        [name, *(f"{fmean(each[column] for each in of_seeds):.3f}" for column in LabelProbabilities._fields)]
        for name, of_seeds in contexts.items()
    ]
    return markdown(["the teacher reads", "all tokens", "results of right steps", "results of wrong steps"], rows)
