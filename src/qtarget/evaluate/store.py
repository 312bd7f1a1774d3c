"""Samples on disk: one JSON line a generation, appended as it is drawn, and never drawn again.

out/run.json               the fingerprint of model and generator
out/effects.json           the effects besides accuracy, where they were measured
out/TASK/task.json         the `TaskRun`: protocol, questions, where the rows are from
out/TASK/samples.jsonl     the samples, one `Record` a line, each with a checksum of its own

All of it is read back, and what was changed since it was written is refused with its file and line. Files of versions
that wrote no checksums are read as they are.
"""

import errno
import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from qtarget.disk.files import json_digest, read_json_object, reading_fields, replace_file, write_digested_json
from qtarget.disk.held_folders import check_not_replaced
from qtarget.evaluate.nouns import Answers, Question, Record, SamplingProtocol, TaskFacts, TaskRun

RUN, TASK, SAMPLES = "run.json", "task.json", "samples.jsonl"
EFFECTS_FILE = "effects.json"
RESTORE = "write another --out, or restore it"
SYNC_RECORDS, SYNC_SECONDS = 64, 5.0
"""The file is synced to disk after so many records or seconds: what a power cut may lose."""
CHECK, _CHECK_DIGITS = "check", 16
"""The key of a line's checksum: the first digits of the sha256 of its other keys and values."""
NOTE = "grade_note"
"""The key of a line that is left out where it would hold nothing."""
_FIELDS = {field.name for field in fields(Record)} - {NOTE}
_RUN_KEYS = ("model", "generation")
_TASK_KEYS = ("task_sha", *(field.name for field in fields(TaskRun)))
FIELD_TYPES: dict[str, Any] = {
    "sample_i": int, "seed": int, "n_tokens": int, "extracted": (str, type(None)), "grade": (int, type(None))
}  # fmt: skip
"""Types of a record's fields in JSON; of all others: text."""
_TYPES = [(name, FIELD_TYPES.get(name, str)) for name in sorted({*_FIELDS, NOTE})]


class Appender:
    """Writes records at the end of a file. Each goes to the system at once, and is synced to disk soon after."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._waiting, self._since = 0, time.monotonic()

    def append(self, record: Record) -> None:
        check_not_replaced(self.path)
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
    """A record as a line of JSON. Text that is no Unicode (lone surrogates) is written with backslashes."""
    values = asdict(record)
    if not record.grade_note:
        del values[NOTE]
    return json.dumps({**values, CHECK: _check(values)}, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _check(values: Mapping[str, Any]) -> str:
    return json_digest(values)[:_CHECK_DIGITS]


def cut_torn_line(path: Path) -> str | None:
    """Cut off a last line that was being written when its process died. Returns a notice of what was cut, or None."""
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


def read_records(path: Path, *, unfinished: bool = False) -> list[Record]:
    """The records of a file in their order; none where there is no file.

    Args:
        unfinished: leave out a last line without an end, as one that is still being written is.

    Raises:
        ValueError: a line that is not a record, or a sample that stands twice, naming file and line.
    """
    if not path.is_file():
        return []
    line_numbers: dict[tuple, int] = {}
    records = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if unfinished and not line.endswith(b"\n"):
                break
            record = _parsed(line, path, number)
            if record.key in line_numbers:
                raise ValueError(
                    f"{path}, line {number}: sample {record.sample_i} of question {record.qid!r} stands on line "
                    f"{line_numbers[record.key]} already; remove one of the two lines."
                )
            line_numbers[record.key] = number
            records.append(record)
    return records


def _parsed(line: bytes, path: Path, number: int) -> Record:
    try:
        values = json.loads(line.decode())
        check = values.pop(CHECK, None) if isinstance(values, dict) else None
        trouble = _trouble(values) or _changed(values, check)
    except (ValueError, RecursionError) as error:
        values, trouble = None, f"this is not JSON ({error})"
    if values is None or trouble:
        raise ValueError(
            f"{path}, line {number}: {trouble}. The samples are damaged; remove the line and run the same command, "
            "which draws that sample again, or write another --out."
        )
    return Record(**values)


def _trouble(values: Any) -> str | None:
    if not isinstance(values, dict):
        return f"expected an object with the fields of a sample, and got {str(values)[:40]!r}"
    if values.keys() - {NOTE} != _FIELDS:
        return f"missing {sorted(_FIELDS - values.keys())}, unknown {sorted(values.keys() - _FIELDS - {NOTE})}"
    wrong = [name for name, kind in _TYPES if not isinstance(values.get(name, ""), kind)]
    return f"{', '.join(wrong)} of another type than a sample has" if wrong else None


def _changed(values: Mapping[str, Any], check: str | None) -> str | None:
    is_as_written = check is None or check == _check(values)
    return None if is_as_written else "it holds another sample than was written"


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Replace a file of records: the old one is whole until the new one is."""
    replace_file(path, b"".join(map(line_of, records)))


def short_sha(value: Any) -> str:
    """sha256 of a value as JSON, its first 16 digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def task_sha(run: TaskRun) -> str:
    """Short sha256 of what makes samples comparable: the task's identity, protocol, every question."""
    return short_sha([*run.task.identity, asdict(run.ask), [question.as_json() for question in run.questions]])


def identity(facts: Mapping[str, Any]) -> str:
    """Short sha256 of the fingerprint of a model or generator; the names of its folders do not count."""
    return short_sha({name: value for name, value in facts.items() if name not in ("name", "adapter")})


def write_task(folder: Path, run: TaskRun) -> None:
    """Write the task as it is asked into its folder."""
    check_not_replaced(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_digested_json(folder / TASK, {"task_sha": task_sha(run), **asdict(run)})


def read_task(folder: Path) -> TaskRun:
    """The task as it was asked in a folder.

    Raises:
        ValueError: its file is damaged or missing.
    """
    if not (folder / TASK).is_file():
        raise ValueError(f"{folder / TASK} is missing; {RESTORE}.")
    values = _read_json(folder / TASK, _TASK_KEYS)
    with reading_fields(folder / TASK, RESTORE):
        questions = tuple(map(_question, values["questions"]))
        facts, ask = TaskFacts(**values["task"]), SamplingProtocol(**values["ask"])
        return TaskRun(facts, ask, questions, values["rows"], tuple(values["remarks"]), tuple(values["overridden"]))


def _question(values: Mapping[str, Any]) -> Question:
    lists = {name: tuple(values.get(name, ())) for name in ("options", "accepted")}
    return Question(**{**values, **lists})


def read_run(out: Path) -> Mapping[str, Any] | None:
    """The fingerprint of model and generator, if anything was drawn into the folder."""
    if not (out / RUN).is_file():
        return None
    values = _read_json(out / RUN, _RUN_KEYS)
    for part in _RUN_KEYS:
        if not isinstance(values.get(part), dict):
            raise ValueError(f"{out / RUN} is damaged (it has no {part}); {RESTORE}.")
    return values


def _read_json(path: Path, keys: Collection[str]) -> dict[str, Any]:
    return read_json_object(path, RESTORE, keys)


def load_answers(folder: Path, *, ungraded: bool = False) -> list[Answers]:
    """The answers of a run, a task each, in the order of their names.

    A question has as many records as there are; statistics refuse one that has not all k.

    Args:
        ungraded: take samples that are not graded yet, too: of a run that is still going on.

    Raises:
        ValueError: no run is there, it is not graded yet, or a sample is damaged.
    """
    facts = read_run(folder)
    tasks = sorted({path.parent for name in (TASK, SAMPLES) for path in folder.glob(f"*/{name}")})
    if facts is None and tasks:
        raise ValueError(f"{folder / RUN} is missing; {RESTORE}.")
    if facts is None or not tasks:
        raise ValueError(f"{folder} holds no evaluation; write the folder that was given to `qtarget eval … --out`.")
    return [answers_in(task, facts, ungraded=ungraded) for task in tasks]


def answers_in(folder: Path, facts: Mapping[str, Any], *, ungraded: bool = False) -> Answers:
    """The answers in the folder of a task; `facts` is the run's fingerprint, as `read_run` gives it."""
    records = read_records(folder / SAMPLES, unfinished=ungraded)
    return answers_of(read_task(folder), records, facts, ungraded=ungraded)


def answers_of(run: TaskRun, records: Sequence[Record], facts: Mapping[str, Any], *, ungraded: bool = False) -> Answers:
    """The records of a task by question, each question's in the order of the samples.

    Raises:
        ValueError: a record that is not graded, unless such are taken too; of a question that was not asked; or as
            `check_origin`.
    """
    by_question: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_question[record.qid].append(record)
        if record.grade_reason == "ungraded" and not ungraded:
            raise ValueError(
                f"The samples of {run.task.name} are not all drawn and graded yet; run the same `qtarget eval` "
                "again, which goes on where it stopped."
            )
    strange = by_question.keys() - {question.qid for question in run.questions}
    strange |= {record.qid for record in records if record.task != run.task.name}
    if strange:
        raise ValueError(
            f"{run.task.name}: {SAMPLES} has samples of questions that {TASK} does not have: {sorted(strange)[:3]}. "
            "The two files are of different evaluations; restore them, or write another --out."
        )
    check_origin(run, records, facts)
    ordered = tuple(tuple(sorted(by_question[q.qid], key=lambda r: r.sample_i)) for q in run.questions)
    return Answers(run.task, run.ask, run.questions, ordered, facts["model"], facts["generation"], run.overridden)


def check_origin(run: TaskRun, records: Iterable[Record], facts: Mapping[str, Any]) -> None:
    """Refuse a record that was drawn for another task, or by another model, than the files beside it say.

    Raises:
        ValueError: names the sample, the file that says otherwise, and what to do.
    """
    expected = (task_sha(run), identity(facts["model"]), identity(facts["generation"]))
    for record in records:
        found = (record.task_sha, record.model_fp, record.gen_fp)
        if found != expected:
            said = (f"for another task or protocol than {TASK} has", f"by another model than {RUN} names",
                    f"in another way than {RUN} says")  # fmt: skip
            how = next(words for words, old, new in zip(said, found, expected, strict=True) if old != new)
            raise ValueError(
                f"{run.task.name}/{SAMPLES}: sample {record.sample_i} of question {record.qid!r} was drawn {how}. "
                "The files are of different evaluations; restore them, or write another --out."
            )
