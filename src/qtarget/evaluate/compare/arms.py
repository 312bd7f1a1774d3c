"""The arms of a comparison: reading them from the folders of `qtarget eval`, and refusing those that do not compare."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from qtarget.evaluate.confidence import shares_of
from qtarget.evaluate.effects.effects_on_disk import read_effects
from qtarget.evaluate.nouns import Answers, SamplingProtocol
from qtarget.evaluate.store import EFFECTS_FILE, SAMPLES, load_answers

SEEDS_ENOUGH = 3
"""Training seeds from which on their own spread is known well enough to go without a warning."""


@dataclass(frozen=True)
class Arm:
    """One model, or one way of training with several training seeds.

    Attributes:
        seeds: the answers of every training seed, by task.
        effects: what `effects.json` of every seed's folder holds, where there is one.
    """

    name: str
    seeds: tuple[Mapping[str, Answers], ...]
    effects: tuple[Mapping[str, Any], ...] = ()

    def answers(self, task: str) -> list[Answers]:
        """The answers to one task, one `Answers` for each training seed."""
        return [seed[task] for seed in self.seeds]

    def shares(self, task: str) -> list[list[float]]:
        """``[S][Q]``: the share of right samples of every question, a row for each training seed."""
        return [shares_of(answers.grades, answers.ask.k, answers.qids).tolist() for answers in self.answers(task)]


def pooled(seeds: Sequence[Sequence[Sequence[int | None]]]) -> list[list[int | None]]:
    """The samples of all training seeds together: ``[S][Q][k]`` grades to ``[Q][S·k]``."""
    return [[grade for grades in by_seed for grade in grades] for by_seed in zip(*seeds, strict=True)]


def read_arms(words: Sequence[str]) -> list[Arm]:
    """Arms from ``FOLDER``, ``NAME=FOLDER`` or ``NAME=FOLDER,FOLDER,…``, one folder a training seed.

    Raises:
        ValueError: a name twice, or a folder that holds no evaluation.
    """
    named = [_named(word) for word in words]
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two arms are called {name!r}; name them: qtarget compare one=FOLDER two=FOLDER.")
    return [read_arm(name, folders) for name, folders in named]


def _named(word: str) -> tuple[str, list[Path]]:
    if Path(word).is_dir():
        return Path(word).resolve().name, [Path(word)]
    name, equals, folders = word.partition("=")
    if not equals:
        raise ValueError(f"{word} is no folder; write the one that was given to `qtarget eval … --out`.")
    return name, [Path(folder) for folder in folders.split(",")]


def read_arm(name: str, folders: Sequence[Path]) -> Arm:
    """An arm from the folders of its training seeds, in their order."""
    seeds = tuple({answers.task.name: answers for answers in load_answers(folder)} for folder in folders)
    files = [(folder / EFFECTS_FILE, answered) for folder, answered in zip(folders, seeds, strict=True)]
    return Arm(name, seeds, tuple(read_effects(file, answered) for file, answered in files if file.is_file()))


def tasks_of(arms: Sequence[Arm]) -> tuple[list[str], list[str]]:
    """The tasks that all arms answered at all seeds, and those left out.

    Raises:
        ValueError: there is none.
    """
    by_seed = [seed.keys() for arm in arms for seed in arm.seeds]
    every = dict.fromkeys(task for tasks in by_seed for task in tasks)
    common = [task for task in every if all(task in tasks for tasks in by_seed)]
    if not common:
        answered = "; ".join(f"{arm.name}: {', '.join(seed)}" for arm in arms for seed in arm.seeds)
        raise ValueError(f"No task was answered by all arms ({answered}); evaluate one task for all.")
    return common, [task for task in every if task not in common]


def check_comparable(arms: Sequence[Arm], tasks: Sequence[str], any_budget: bool = False) -> None:
    """Refuse arms whose questions, protocol, prompts or graders differ, or whose seeds cannot be paired.

    Args:
        any_budget: `max_new_tokens` may differ from arm to arm.

    Raises:
        ValueError: fewer than two arms; or the first difference, and what to do.
    """
    if len(arms) < 2:
        raise ValueError("A comparison needs two arms or more; write qtarget compare BASELINE OTHER, folders of eval.")
    most = max(len(arm.seeds) for arm in arms)
    for arm in arms:
        for task in tasks:
            _check_complete(arm, task)
        if len(arm.seeds) not in (1, most):
            raise ValueError(
                f"{arm.name} has {len(arm.seeds)} training seeds and another arm {most}; give every arm the same "
                "number, or a single folder where there is nothing to repeat, as for a model that was not trained."
            )
    for task in tasks:
        first = arms[0].seeds[0][task]
        for other, answers in [(arm.name, answers) for arm in arms for answers in arm.answers(task)]:
            if difference := next(_differences(first, answers, any_budget), None):
                raise ValueError(f"{task}: {arms[0].name} and {other} cannot be compared: {difference}")


def _check_complete(arm: Arm, task: str) -> None:
    """Refuse questions without exactly k samples."""
    try:
        arm.shares(task)
    except ValueError as error:
        raise ValueError(f"{arm.name}, {task}/{SAMPLES}: {error}") from error


def _differences(first: Answers, other: Answers, any_budget: bool) -> Iterator[str]:
    free = ("seed", "max_new_tokens") if any_budget else ("seed",)
    for name in ("version", "grader"):
        old, new = getattr(first.task, name), getattr(other.task, name)
        if old != new:
            yield f"{name} of the task {old} and {new}. Evaluate both with one release."
    for name in (field.name for field in fields(SamplingProtocol) if field.name not in free):
        old, new = getattr(first.ask, name), getattr(other.ask, name)
        if old != new:
            asked = " Or write --any-budget, to compare them all the same." if name == "max_new_tokens" else ""
            yield f"{name} {old} and {new}. Evaluate one again with --{name.replace('_', '-')} {old}.{asked}"
    yield from _question_differences(first, other)
    yield from _record_differences(first, other)


def _question_differences(first: Answers, other: Answers) -> Iterator[str]:
    if len(first.questions) != len(other.questions):
        yield f"{len(first.questions)} and {len(other.questions)} questions. Evaluate both on the same."
    for place, (old, new) in enumerate(zip(first.questions, other.questions, strict=False), 1):
        if old != new:
            yield (
                f"question {place} is {old.qid!r} ({old.text[:40]!r}, gold {old.gold!r}) and {new.qid!r} "
                f"({new.text[:40]!r}, gold {new.gold!r}). Evaluate both on the same rows."
            )


def _record_differences(first: Answers, other: Answers) -> Iterator[str]:
    for question, old, new in zip(first.questions, first.records, other.records, strict=True):
        if old[0].prompt_ids_sha256 != new[0].prompt_ids_sha256:
            yield (
                f"the prompt of question {question.qid!r} has other token ids. The tokenizer, its chat template or the "
                "model family differs, and so does what was asked."
            )
        if {record.grader_fp for record in old} != {record.grader_fp for record in new}:
            yield "they were graded by different graders. Run `qtarget eval … --regrade` on both."
