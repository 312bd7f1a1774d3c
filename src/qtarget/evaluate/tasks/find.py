"""Finding the task that a user names: of the catalogue, of reasoning-gym, in a YAML file, or given as a `Task`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from qtarget.data.user_files.formats import reader_of
from qtarget.evaluate.nouns import Task
from qtarget.evaluate.tasks.catalogue import task
from qtarget.evaluate.tasks.gym_task import GYM, gym_task
from qtarget.evaluate.tasks.task_file import ENDINGS, read_task_file

TaskName = str | Path | Task
"""A task's name, ``reasoning-gym:NAME``, the path of a task file, or the task itself."""


def find_task(given: TaskName) -> Task:
    """The task.

    Raises:
        ValueError: there is none of that name, or its file does not describe one.
    """
    if isinstance(given, Task):
        return given
    if str(given).startswith(f"{GYM}:"):
        return gym_task(str(given))
    path = Path(given)
    if isinstance(given, Path) or path.suffix.lower() in ENDINGS:
        return read_task_file(path)
    if reader_of(path) is not None:
        raise ValueError(
            f"{given} is a file of rows, and --task names a task; write --questions {given} --grade exact."
        )
    return task(given)


def find_tasks(given: Sequence[TaskName]) -> list[Task]:
    """All of them.

    Raises:
        ValueError: as `find_task`, or two tasks have one name, by which their folders are called: capitals or not.
    """
    found = [find_task(one) for one in given]
    names = Counter(one.name.casefold() for one in found)
    for one in found:
        if names[one.name.casefold()] > 1:
            raise ValueError(
                f"Two tasks are called {one.name!r}; give one of them another name: --questions NAME=FILE."
            )
    return found
