"""Any task of reasoning-gym, by its name and a seed: questions made here, graded by its own scorers."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial

from qtarget.evaluate.grading.gym_scorer import gym_rows
from qtarget.evaluate.nouns import Question, QuestionSet, RowSource, SamplingProtocol, Task
from qtarget.evaluate.tasks.fields import Row

GYM = "reasoning-gym"
DEFAULTS = (0, 100)
"""The seed, and how many questions."""
GYM_PROMPT = "{question}\n\nReason step by step. Then write your final answer between <answer> and </answer>."
GYM_ASK = SamplingProtocol(GYM_PROMPT, k=4, temperature=1.0, top_p=1.0, max_new_tokens=2048)


def gym_task(word: str) -> Task:
    """The task of ``reasoning-gym:NAME``, ``reasoning-gym:NAME:SEED`` or ``reasoning-gym:NAME:SEED:QUESTIONS``.

    Raises:
        ValueError: reasoning-gym is not installed, or has no such task; or seed or number are no numbers.
    """
    _, name, *numbers = word.split(":")
    if len(numbers) > 2 or not all(number.isdecimal() for number in numbers) or numbers[1:] == ["0"]:
        raise ValueError(f"{word} was given; write {GYM}:NAME:SEED:QUESTIONS, as {GYM}:chain_sum:0:100.")
    seed, size = map(int, [*numbers, *DEFAULTS[len(numbers) :]])
    _check_name(name)
    return Task(
        name=f"{GYM}-{name}-{seed}-{size}",
        version=1,
        suite=GYM,
        source=RowSource(make=partial(gym_rows, name, seed, size)),
        rows=size,
        ask=GYM_ASK,
        read=partial(_questions, name, seed, size),
        grader=GYM,
        citation="arXiv 2505.24760",
    )


def _check_name(name: str) -> None:
    try:
        from reasoning_gym.factory import DATASETS  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as missing:
        raise ValueError(
            f"--task {GYM}:{name} needs {missing.name}; write: pip install 'qtarget[train,reasoning-gym]'"
        ) from missing
    if name not in DATASETS:
        near = get_close_matches(name, DATASETS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"reasoning-gym has no task {name!r}. {hint}It has: {', '.join(sorted(DATASETS))}.")


def _questions(name: str, seed: int, size: int, rows: Sequence[Row]) -> QuestionSet:
    """The scorer makes each row anew from this; as JSON a row would lose types that some scorers need."""

    def made(index: int) -> str:
        return json.dumps({"name": name, "seed": seed, "size": size, "index": index})

    return QuestionSet(
        [
            Question(f"{seed}-{index}", str(row["question"]), str(row["answer"]), row=made(index))
            for index, row in enumerate(rows)
        ]
    )
