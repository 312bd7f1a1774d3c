"""The questions of a task: from the hub, from a file, or made here, and always those of the lock file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qtarget.data.json_lines import PlacedRow, read_json
from qtarget.data.user_files.formats import reader_of, rows_in, rows_of
from qtarget.evaluate.nouns import OWN, Question, QuestionSet, Task
from qtarget.evaluate.tasks.catalogue import TASKS
from qtarget.evaluate.tasks.hub import Download, from_hub
from qtarget.evaluate.tasks.lock_file import LockEntry, check_held, hold, questions_sha256, read_lock

SAMPLE_FILES = Path(__file__).parent / "samples"
"""A few invented rows of each task in its own format, to try things on: not the task."""


@dataclass(frozen=True)
class TaskRows:
    """The questions of a task and where they are from.

    Attributes:
        entry: what the lock file holds of them.
        remarks: what a reader of results should know: rows left out, odd options, fewer rows than were published.
    """

    task: Task
    questions: tuple[Question, ...]
    entry: LockEntry
    remarks: tuple[str, ...] = ()


def load_questions(
    task: Task,
    lock: Path,
    file: Path | None = None,
    download: Callable[[Task, str | None], Download] = from_hub,
) -> TaskRows:
    """The questions of a task, as the lock file has them.

    Args:
        lock: the lock file. What it does not have yet is written down; what it has must be met. A user's own rows are
            never written down.
        file: rows to use in the place of the task's own, in the same format.

    Raises:
        ValueError: rows that cannot be read, downloaded or understood, or that are not the ones locked.
    """
    source, commit, rows = _raw(task, lock, file, download)
    if not rows:
        option = "--questions FILE" if task.suite == OWN else f"--rows {task.name}=FILE.jsonl"
        raise ValueError(f"{source} has no rows for {task.name}; give a file that has some: {option}")
    try:
        read = distinct(task.read(rows))
    except ValueError as error:
        raise ValueError(f"{task.name}, {source}: {error}") from error
    questions = tuple(read.questions)
    entry = LockEntry(source, commit, len(questions), questions_sha256(questions), task.version)
    remarks = (*read.remarks, *_check_count(task, entry, complete=file is None))
    if file is not None:
        check_held(lock, task, entry)
    elif _is_of_the_catalogue(task):
        hold(lock, task, entry)
    return TaskRows(task, questions, entry, remarks)


def _is_of_the_catalogue(task: Task) -> bool:
    """Whether a task's rows are those of a task that everybody has, or of the hub under a name of its own."""
    known, source = TASKS.get(task.name), task.source
    if known is None or source.file is not None:
        return bool(source.hub)
    return (known.source.hub, known.source.make is None) == (source.hub, source.make is None)


def sample_rows(task: Task) -> Path:
    """The file of invented rows in the task's format that comes with the package."""
    return SAMPLE_FILES / f"{task.name}.jsonl"


def parse_rows(words: Sequence[str]) -> dict[str, Path]:
    """The files given as ``TASK=FILE``, by task."""
    files: dict[str, Path] = {}
    for word in words:
        name, equals, file = word.partition("=")
        if not equals or not file:
            raise ValueError(f"--rows {word} was given; write --rows TASK=FILE, as in --rows aime24=rows.jsonl")
        if name in files:
            raise ValueError(f"--rows gives {name} twice, {files[name]} and {file}; write one file for each task.")
        files[name] = Path(file).expanduser()
    return files


def distinct(read: QuestionSet) -> QuestionSet:
    """The questions with a qid each. Rows that say the same thing twice become one cluster, and a remark counts them.

    Raises:
        ValueError: two different questions under one name.
    """
    groups: dict[str, list[Question]] = {}
    for question in read.questions:
        groups.setdefault(question.qid, []).append(question)
    for qid, same in groups.items():
        if any(replace(question, row="") != replace(same[0], row="") for question in same):
            raise ValueError(f"two different questions are named {qid!r}; give each row an id of its own")
    repeated = {qid: len(same) for qid, same in groups.items() if len(same) > 1}
    if not repeated:
        return read
    remark = f"{sum(repeated.values()) - len(repeated)} rows say again what an earlier one says: " + ", ".join(repeated)
    return QuestionSet(_renamed(read.questions, repeated), (*read.remarks, remark))


def _renamed(questions: Sequence[Question], repeated: Mapping[str, int]) -> list[Question]:
    seen: dict[str, int] = {}
    renamed = []
    for question in questions:
        number = seen[question.qid] = seen.get(question.qid, 0) + 1
        cluster = question.cluster or (question.qid if question.qid in repeated else "")
        qid = question.qid if number == 1 else f"{question.qid}~{number}"
        renamed.append(replace(question, qid=qid, cluster=cluster))
    return renamed


def _raw(
    task: Task, lock: Path, file: Path | None, download: Callable[[Task, str | None], Download]
) -> tuple[str, str | None, Sequence[Mapping[str, Any]]]:
    """Where the rows are from, the commit where there is one, and the rows."""
    if file is not None:
        if not file.is_file():
            raise ValueError(
                f"--rows {task.name}={file}: there is no such file; write the path of a JSON or JSON-lines file."
            )
        return file.name, None, read_json(file) if reader_of(file) is None else list(map(RowOfFile, rows_in(file)))
    if task.source.file is not None:
        own = task.source.file
        return own.name, None, list(map(RowOfFile, rows_of(own, f"the questions of {task.name}:")))
    if task.source.make is not None:
        return "made here", None, task.source.make()
    locked = read_lock(lock).get(task.name)
    commit, rows = download(task, locked.revision if locked else None)
    return task.source.hub, commit, rows


class RowOfFile(dict[str, Any]):
    """A row that knows where it stands in its file: `place` is "line 3" or "row 2"."""

    def __init__(self, placed: PlacedRow) -> None:
        super().__init__(placed.row)
        self.place = placed.place


def _check_count(task: Task, entry: LockEntry, complete: bool) -> tuple[str, ...]:
    """A remark on a file with other than the published number of rows; of the hub's own, an error."""
    if task.rows is None or entry.rows == task.rows:
        return ()
    counts = f"{entry.source} gives {entry.rows} questions, and the published {task.name} has {task.rows}"
    if complete:
        raise ValueError(f"{counts}. The data set was changed; give the rows as a file: --rows {task.name}=FILE.jsonl")
    return (counts,)
