"""Hours of `qtarget eval` on named tasks, were every answer as long as it may be."""

from collections.abc import Sequence
from typing import NamedTuple

from qtarget.evaluate.tasks import TASKS
from qtarget.target.hyperparameters import suggestion


class TaskTime(NamedTuple):
    """What a task takes.

    Attributes:
        answers: questions times samples; None where the number of questions is not fixed.
        tokens: the most of an answer.
        seconds: at the most; None where nothing was timed, or `answers` is not known.
    """

    task: str
    answers: int | None
    tokens: int
    seconds: float | None


def check_tasks(names: Sequence[str]) -> None:
    """Refuse names that no task has.

    Raises:
        ValueError: names the nearest.
    """
    for name in names:
        if name not in TASKS:
            raise ValueError(f"--task {name} is no task; {suggestion(name, TASKS)}")


def task_times(names: Sequence[str], speed: float | None) -> tuple[TaskTime, ...]:
    """The hours of each task.

    Args:
        speed: tokens a second of generation, `DRAWN` completions at once.
    """
    return tuple(_task_time(name, speed) for name in names)


def _task_time(name: str, speed: float | None) -> TaskTime:
    task = TASKS[name]
    answers = None if task.rows is None else task.rows * task.ask.k
    seconds = None if answers is None or speed is None else answers * task.ask.max_new_tokens / speed
    return TaskTime(name, answers, task.ask.max_new_tokens, seconds)
