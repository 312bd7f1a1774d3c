"""Grading a file of samples: in order, several at once where the grader says so, and stopped at any moment."""

import threading
from pathlib import Path

import pytest

from qtarget.evaluate.nouns import Grade, Question, Record, SamplingProtocol, TaskFacts, TaskRun
from qtarget.evaluate.run.grade import grade_records
from qtarget.evaluate.run.progress import SilentWatch
from qtarget.evaluate.store import read_records, write_records

QUESTIONS = tuple(Question(f"q{number}", "?", str(number)) for number in range(6))
RUN = TaskRun(TaskFacts("numbers", 1, "math", "pairs"), SamplingProtocol("plain", k=2), QUESTIONS)


class Pairs:
    """Grades an answer when a second one is in hand."""

    at_once = 2

    def __init__(self) -> None:
        self.met, self.closed = threading.Barrier(2, timeout=300), False

    def fingerprint(self) -> str:
        return "pairs"

    def grade(self, question: Question, completion: str) -> Grade:
        self.met.wait()
        return Grade(1 if completion == question.gold else 0, "ok", completion)

    def close(self) -> None:
        self.closed = True


class Stopping(Pairs):
    """Is stopped, as by Ctrl-C, over its third answer."""

    def grade(self, question: Question, completion: str) -> Grade:
        if question.qid == "q1":
            raise KeyboardInterrupt
        return Grade(1, "ok")


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "samples.jsonl"
    write_records(path, [sample(question, i) for i in (1, 0) for question in reversed(QUESTIONS)])
    return path


def sample(question: Question, i: int) -> Record:
    answer = question.gold if i else "none"
    return Record(
        "numbers", "sha", question.qid, i, 0, "ids", answer, "stop", 1, None, None, "ungraded", "model", "engine", ""
    )


def test_two_at_once_keep_the_order(samples: Path):
    grader = Pairs()
    graded = grade_records(samples, RUN, lambda: grader, SilentWatch())
    assert [(record.qid, record.sample_i, record.grade) for record in graded] == [
        (question.qid, i, i) for question in QUESTIONS for i in (0, 1)
    ]
    assert read_records(samples) == graded
    assert grader.closed


def test_stopped_it_leaves_the_file_as_it_was(samples: Path):
    grader, before = Stopping(), samples.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        grade_records(samples, RUN, lambda: grader, SilentWatch())
    assert samples.read_bytes() == before
    assert grader.closed
