"""Grading the samples of a task's file; nothing is drawn."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from qtarget.evaluate.nouns import Grader, Question, Record, TaskRun
from qtarget.evaluate.run.progress import ProgressWatch
from qtarget.evaluate.store import read_records, short_sha, write_records

AHEAD = 4096
"""Samples that are graded, or wait for it, behind one that takes long."""
KEPT_EVERY = 256
"""Grades of a costly grader after which the file is written, so that what stops the run costs no more than these."""


def grade_records(
    path: Path, run: TaskRun, grader_of: Callable[[], Grader], watch: ProgressWatch, *, again: bool = False
) -> list[Record]:
    """Grade the samples of a file that this grader has not graded yet, and replace the file as a whole.

    Args:
        again: grade all of them, also those that this very grader has graded.

    Returns:
        the graded records, in the order of the questions and samples.
    """
    records, grader = read_records(path), grader_of()
    is_costly = getattr(grader, "is_costly", False)
    try:
        fingerprint = short_sha(grader.fingerprint())
        if not again and all(record.grader_fp == fingerprint for record in records):
            return records
        watch.begin(f"grading {run.task.name}", len(records), 0)
        questions = {question.qid: question for question in run.questions}

        def regraded(record: Record) -> Record:
            fresh = record.grader_fp == fingerprint and not again
            return record if fresh else _with_grade(record, questions[record.qid], grader, fingerprint)

        graded, ordered = [], _in_order(records, run)
        try:
            for record in _in_parallel(regraded, ordered, getattr(grader, "at_once", 1)):
                graded.append(record)
                watch.advance()
                if is_costly and len(graded) % KEPT_EVERY == 0:
                    write_records(path, graded + ordered[len(graded) :])
        except BaseException:
            if is_costly:
                write_records(path, graded + ordered[len(graded) :])
            raise
    finally:
        watch.end()
        getattr(grader, "close", lambda: None)()
    write_records(path, graded)
    return graded


def _in_parallel(call: Callable[[Record], Record], records: Sequence[Record], at_once: int) -> Iterator[Record]:
    """The results in the order of the records. One that takes long holds up those behind it only `AHEAD` samples on."""
    if at_once == 1:
        yield from map(call, records)
        return
    pool, waiting = ThreadPoolExecutor(at_once), deque[Future[Record]]()
    try:
        for record in records:
            waiting.append(pool.submit(call, record))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C the grader is closed, which ends their waiting


def _in_order(records: Sequence[Record], run: TaskRun) -> list[Record]:
    place = {question.qid: place for place, question in enumerate(run.questions)}
    return sorted(records, key=lambda record: (place[record.qid], record.sample_i))


def _with_grade(record: Record, question: Question, grader: Grader, fingerprint: str) -> Record:
    grade = grader.grade(question, record.completion)
    return replace(
        record,
        extracted=None if grade.extracted is None else _unicode(grade.extracted),
        grade=grade.value,
        grade_reason=grade.reason,
        grader_fp=fingerprint,
        grade_note=_unicode(grade.note),
    )


def _unicode(text: str) -> str:
    """The text, with lone surrogates as backslashes: a terminal and a page cannot show them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
