"""Samples on disk: one JSON line a generation, appended as it is drawn, and never drawn again.

out/run.json               what model and generator said of themselves
out/effects.json           what else was measured, where it was asked for
out/TASK/task.json         the task as it was asked: protocol, questions, rows
out/TASK/samples.jsonl     a `Record` a line
"""

import errno
import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from qtarget.evaluate.nouns import Answers, Question, Record, SamplingProtocol, TaskFacts, TaskRun

RUN, TASK, SAMPLES = "run.json", "task.json", "samples.jsonl"
EFFECTS_FILE = "effects.json"
SYNC_RECORDS, SYNC_SECONDS = 64, 5.0
"""An fsync after so many lines, or so long."""
_FIELDS = {field.name for field in fields(Record)}


class Appender:
    """Writes records at the end of a file. Each is with the system at once, and on the disk soon after."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._waiting, self._since = 0, time.monotonic()

    def append(self, record: Record) -> None:
        line = line_of(record)
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, "the disk is full; make room, and the same command goes on", str(self.path))
        self._waiting += 1
        if self._waiting >= SYNC_RECORDS or time.monotonic() - self._since > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        os.fsync(self._file.fileno())
        self._waiting, self._since = 0, time.monotonic()

    def close(self) -> None:
        self.sync()
        self._file.close()


@contextmanager
def appending(path: Path) -> Iterator[Appender]:
    """An `Appender` that is synced and closed however the block ends."""
    appender = Appender(path)
    try:
        yield appender
    finally:
        appender.close()


def line_of(record: Record) -> bytes:
    return json.dumps(asdict(record), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def cut_torn_line(path: Path) -> str | None:
    """Cut off a last line that was being written when its process died; what was cut, in words."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole == len(content):
        return None
    os.truncate(path, whole)
    return (
        f"{path}, line {content.count(10) + 1} was cut off in the middle of its writing "
        f"({len(content) - whole} bytes); that sample is drawn again."
    )


def read_records(path: Path) -> list[Record]:
    """The records of a file in their order; none where there is no file.

    Raises:
        ValueError: a line that is not a record, or a sample that stands twice, naming file and line.
    """
    if not path.is_file():
        return []
    found: dict[tuple, int] = {}
    records = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            record = _parsed(line, path, number)
            if record.key in found:
                raise ValueError(
                    f"{path}, line {number}: sample {record.sample_i} of question {record.qid!r} stands on line "
                    f"{found[record.key]} already; remove one of the two lines."
                )
            found[record.key] = number
            records.append(record)
    return records


def _parsed(line: bytes, path: Path, number: int) -> Record:
    try:
        values = json.loads(line.decode())
        trouble = _trouble(values)
    except ValueError as error:
        values, trouble = None, f"this is not JSON ({error})"
    if values is None or trouble:
        raise ValueError(
            f"{path}, line {number}: {trouble}. The samples are damaged; remove the line and run the same command, "
            "which draws that sample again, or write another --out."
        )
    return Record(**values)


def _trouble(values: Any) -> str | None:
    if not isinstance(values, dict):
        return "this is no sample"
    missing, unknown = sorted(_FIELDS - values.keys()), sorted(values.keys() - _FIELDS)
    return f"missing {missing}, unknown {unknown}" if missing or unknown else None


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Replace a file of records: the old one is whole until the new one is."""
    replace_file(path, b"".join(map(line_of, records)))


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file."""
    replace_file(path, (json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n").encode())


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file as a whole: whatever happens, the old one is there or the new one."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)


def short_sha(value: Any) -> str:
    """sha256 of a value as JSON, its first 16 digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def task_sha(asked: TaskRun) -> str:
    """What makes samples comparable: name and version of the task, protocol, grader's name, and every question."""
    facts = asked.task
    return short_sha([facts.name, facts.version, facts.grader, asdict(asked.ask), [asdict(q) for q in asked.questions]])


def identity(facts: Mapping[str, Any]) -> str:
    """Short sha256 of what a model or generator said of itself; how its folder is called does not count."""
    return short_sha({name: value for name, value in facts.items() if name not in ("name", "adapter")})


def write_task(folder: Path, asked: TaskRun) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / TASK, {"task_sha": task_sha(asked), **asdict(asked)})


def read_task(folder: Path) -> TaskRun:
    """The task as it was asked in a folder."""
    values = _read_json(folder / TASK)
    questions = tuple(Question(**{**one, "options": tuple(one["options"])}) for one in values["questions"])
    facts, ask = TaskFacts(**values["task"]), SamplingProtocol(**values["ask"])
    return TaskRun(facts, ask, questions, values["rows"], tuple(values["remarks"]), tuple(values["overridden"]))


def read_run(out: Path) -> Mapping[str, Any] | None:
    """What model and generator said of themselves, if anything was drawn into the folder."""
    return _read_json(out / RUN) if (out / RUN).is_file() else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); write another --out, or restore it.") from error


def load_answers(folder: Path) -> list[Answers]:
    """The answers of a run, a task each, in the order of their names.

    A question has as many records as there are; statistics refuse one that has not all k.

    Raises:
        ValueError: no run is there, it is not graded yet, or a sample is damaged.
    """
    run, found = read_run(folder), sorted(folder.glob(f"*/{TASK}"))
    if run is None or not found:
        raise ValueError(f"{folder} holds no evaluation; write the folder that was given to `qtarget eval … --out`.")
    return [answers_in(path.parent, run) for path in found]


def answers_in(folder: Path, run: Mapping[str, Any]) -> Answers:
    """The answers in the folder of a task."""
    return answers_of(read_task(folder), read_records(folder / SAMPLES), run)


def answers_of(asked: TaskRun, records: Sequence[Record], run: Mapping[str, Any]) -> Answers:
    """Records by question and in the order of the samples.

    Raises:
        ValueError: a record that is not graded, or of a question that was not asked.
    """
    by_question: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_question[record.qid].append(record)
        if record.grade_reason == "ungraded":
            raise ValueError(
                f"The samples of {asked.task.name} are not all drawn and graded yet; run the same `qtarget eval` "
                "again, which goes on where it stopped."
            )
    strange = by_question.keys() - {question.qid for question in asked.questions}
    if strange:
        raise ValueError(
            f"{asked.task.name}: there are samples of questions that were not asked: {sorted(strange)[:3]}."
        )
    ordered = (sorted(by_question[question.qid], key=lambda r: r.sample_i) for question in asked.questions)
    return Answers(asked.task, asked.ask, asked.questions, tuple(map(tuple, ordered)), run["model"], run["generation"])
