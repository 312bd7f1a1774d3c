"""The lock file of tasks' rows, like a package manager's: what a task's rows were at their first use in a folder.

It holds the commit, the number of rows and their sha256. From then on that commit is downloaded, and rows that differ
are an error. The package ships no lock file.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from qtarget.disk.files import write_json
from qtarget.evaluate.nouns import Question, Task

LOCK_NAME = "qtarget-tasks.lock.json"
FORMAT = 1


@dataclass(frozen=True)
class LockEntry:
    """What the lock file holds of a task.

    Attributes:
        source: data set, file name, or "made here".
        revision: commit of the data set; None for rows that have none.
        sha256: of the questions as they were read (`questions_sha256`).
        task_version: of the code that read them.
    """

    source: str
    revision: str | None
    rows: int
    sha256: str
    task_version: int


def questions_sha256(questions: Sequence[Question]) -> str:
    """The sha256 of questions in their order: the same for the same questions, whatever file they came in."""
    lines = (json.dumps(question.as_json(), sort_keys=True, ensure_ascii=True) for question in questions)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_lock(path: Path) -> dict[str, LockEntry]:
    """What is locked, by task; nothing where there is no file.

    Raises:
        ValueError: the file is damaged, or of a newer format.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, and this version of qtarget reads {FORMAT}")
        return {name: LockEntry(**entry) for name, entry in content["tasks"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"The lock file {path} cannot be read: {error}. Restore it, or delete it to lock anew."
        ) from error


def hold(path: Path, task: Task, entry: LockEntry) -> None:
    """Lock a task's rows at their first use; later, check that they are the ones locked.

    Raises:
        ValueError: the rows differ, naming old and new.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.guard")):
        locked = read_lock(path)
        if task.name in locked:
            return _check_same(path, task, locked[task.name], entry)
        _write(path, {**locked, task.name: entry})


def check_held(path: Path, task: Task, entry: LockEntry) -> None:
    """Check rows that are locked already; nothing is written.

    Raises:
        ValueError: the rows differ, naming old and new.
    """
    if (locked := read_lock(path).get(task.name)) is not None:
        _check_same(path, task, locked, entry)


def _check_same(path: Path, task: Task, old: LockEntry, new: LockEntry) -> None:
    if (old.rows, old.sha256) == (new.rows, new.sha256):
        return
    raise ValueError(
        f"The rows of {task.name} are not those of {path}.\n"
        f"  locked: {_summary(old)}\n  now:    {_summary(new)}\n"
        f"{_why(task, old)} To go on with the new rows, delete `{task.name}` from that file, or work in another "
        "folder; results from before do not compare with results from after."
    )


def _why(task: Task, old: LockEntry) -> str:
    if old.task_version != task.version:
        return f"Version {task.version} of the task reads rows in another way than version {old.task_version}."
    return "The data set, or the file, was changed."


def _summary(entry: LockEntry) -> str:
    revision = f" at {entry.revision}" if entry.revision else ""
    return f"{entry.rows} rows of {entry.source}{revision}, sha256 {entry.sha256}"


def _write(path: Path, locked: Mapping[str, LockEntry]) -> None:
    tasks: dict[str, Any] = {name: asdict(locked[name]) for name in sorted(locked)}
    write_json(path, {"format": FORMAT, "tasks": tasks}, indent=2)
