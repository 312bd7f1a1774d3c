"""Grading the samples of a task's file; nothing is drawn."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from qtarget.evaluate.nouns import Grader, Question, Record, TaskRun
from qtarget.evaluate.run.progress import ProgressWatch
from qtarget.evaluate.store import read_records, short_sha, write_records


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
    try:
        fingerprint = short_sha(grader.fingerprint())
        if not again and all(record.grader_fp == fingerprint for record in records):
            return records
        watch.begin(f"grading {run.task.name}", len(records), 0)
        questions = {question.qid: question for question in run.questions}
        graded = []
        for record in _in_order(records, run):
            fresh = record.grader_fp == fingerprint and not again
            graded.append(record if fresh else _with_grade(record, questions[record.qid], grader, fingerprint))
            watch.advance()
    finally:
        watch.end()
        getattr(grader, "close", lambda: None)()
    write_records(path, graded)
    return graded


def _in_order(records: Sequence[Record], run: TaskRun) -> list[Record]:
    place = {question.qid: place for place, question in enumerate(run.questions)}
    return sorted(records, key=lambda record: (place[record.qid], record.sample_i))


def _with_grade(record: Record, question: Question, grader: Grader, fingerprint: str) -> Record:
    grade = grader.grade(question, record.completion)
    return replace(
        record, extracted=grade.extracted, grade=grade.value, grade_reason=grade.reason, grader_fp=fingerprint
    )
