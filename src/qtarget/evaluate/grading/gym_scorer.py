"""Rows of reasoning-gym and their scores: loaded by path into a process that can be killed, it imports no qtarget."""

from functools import lru_cache
from typing import Any


def gym_rows(name: str, seed: int, size: int) -> list[dict[str, Any]]:
    """The rows of a task: a question, an answer and what its scorer reads."""
    return list(_dataset(name, seed, size))


def score(answer: str, row: dict[str, Any]) -> tuple[bool, str]:
    """Whether an answer is right by the task's own scorer: a full score, 1. `row` says which question it answers."""
    data = _dataset(row["name"], row["seed"], row["size"])
    return data.score_answer(answer=answer, entry=data[row["index"]]) >= 1.0, answer


@lru_cache(8)
def _dataset(name: str, seed: int, size: int) -> Any:
    import reasoning_gym  # pyright: ignore[reportMissingImports]

    return reasoning_gym.create_dataset(name, seed=seed, size=size)
