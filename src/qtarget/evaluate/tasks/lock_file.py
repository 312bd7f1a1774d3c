"""The lock file: which rows a task had when they were first used here. They must be the same ever after.

Nothing in it comes with the package. The commit, the number of rows and their sha256 are what was found at the first
download; from then on that commit is downloaded, and rows that differ are an error.
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
    lines = (json.dumps(asdict(question), sort_keys=True, ensure_ascii=True) for question in questions)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_lock(path: Path) -> dict[str, LockEntry]:
    """What is locked, by task; nothing where there is no file.

    Raises:
        ValueError: the file is damaged, or of a newer format.
    """
    if not path.is_file():
        return {}
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        if written["format"] != FORMAT:
            raise ValueError(f"its format is {written['format']!r}, and this version of qtarget reads {FORMAT}")
        return {name: LockEntry(**entry) for name, entry in written["tasks"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The lock file {path} cannot be read: {error}. Restore it, or delete it to lock anew."
        ) from error


def hold(path: Path, task: Task, found: LockEntry) -> None:
    """Write down what was found of a task, or see that it is what was written.

    Raises:
        ValueError: the rows differ, naming old and new.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.guard")):
        locked = read_lock(path)
        if task.name in locked:
            return _same(path, task, locked[task.name], found)
        _write(path, {**locked, task.name: found})


def _same(path: Path, task: Task, old: LockEntry, new: LockEntry) -> None:
    if (old.rows, old.sha256) == (new.rows, new.sha256):
        return
    raise ValueError(
        f"The rows of {task.name} are not those of {path}.\n"
        f"  locked: {_told(old)}\n  now:    {_told(new)}\n"
        f"{_why(task, old)} To go on with the new rows, delete `{task.name}` from that file, or work in another "
        "folder; results from before do not compare with results from after."
    )


def _why(task: Task, old: LockEntry) -> str:
    if old.task_version != task.version:
        return f"Version {task.version} of the task reads rows in another way than version {old.task_version}."
    return "The data set, or the file, was changed."


def _told(entry: LockEntry) -> str:
    revision = f" at {entry.revision}" if entry.revision else ""
    return f"{entry.rows} rows of {entry.source}{revision}, sha256 {entry.sha256}"


def _write(path: Path, locked: Mapping[str, LockEntry]) -> None:
    tasks: dict[str, Any] = {name: asdict(locked[name]) for name in sorted(locked)}
    write_json(path, {"format": FORMAT, "tasks": tasks}, indent=2)
