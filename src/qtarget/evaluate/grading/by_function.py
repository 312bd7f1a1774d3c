"""Grading by a Python function of a user's file, or of ours, in processes that can be killed."""

import json
import re
from pathlib import Path
from typing import Any, ClassVar

from qtarget.evaluate.grading.any_right import any_right
from qtarget.evaluate.grading.function_code import code_sha256
from qtarget.evaluate.grading.thinking import said
from qtarget.evaluate.grading.worker import KillableWorker, WorkerReply
from qtarget.evaluate.grading.worker_pool import WorkerPool
from qtarget.evaluate.nouns import Grade, Question

FUNCTION_SCRIPT = Path(__file__).with_name("function_worker.py")
MIB = 1 << 20


class FunctionPool:
    """A function of a file, called in processes of their own.

    What it prints goes nowhere, and the environment that it sees has no variable that is named like a secret.

    Args:
        seconds: for one call.
        memory_mib: that a process may take for its calls, beside what its imports took (on Linux).
        at_once: processes; None for one a processor, up to 8.
    """

    def __init__(self, file: Path, function: str, seconds: float, memory_mib: int, at_once: int | None) -> None:
        if not seconds > 0 or memory_mib < 1:
            raise ValueError(f"seconds={seconds}, memory_mib={memory_mib} were given; write more than 0 of both.")
        self.file, self.function = file, function

        def make(seconds: float, memory_bytes: int) -> KillableWorker:
            return KillableWorker(seconds, memory_bytes, FUNCTION_SCRIPT, str(file), function)

        self.pool = WorkerPool(seconds, memory_mib * MIB, at_once, make)
        self.at_once = len(self.pool.workers)
        self.limits = f"{seconds:g} s and {memory_mib} MiB"

    def why_not(self) -> str:
        """Why the function cannot be called, in words; "" where it can."""
        worker = self.pool.workers[0]
        try:
            worker.start()
        except RuntimeError:
            return f"its process ended, or did not start: {' '.join(worker.command)}"
        return str(worker.greeting.get("why", ""))

    def grade(self, *arguments: Any) -> Grade:
        """The grade that the function gives."""
        reply: WorkerReply = self.pool.ask(list(arguments))
        note = (
            f"it did not answer within {self.limits}, or its process ended"
            if reply["reason"] == "timeout"
            else reply.get("note", "")
        )
        return Grade(reply["value"], reply["reason"], reply.get("extracted"), note)

    def close(self) -> None:
        """End the processes."""
        self.pool.close()


class PythonGrader:
    """Calls ``function(completion, gold, row)`` of a file: True is right, False wrong, None unknown.

    It may return a pair instead, of that and of the answer that it read, as text. `completion` is what the model said
    (without its thinking, unless `thinking`), `gold` the right answer, `row` the question's whole row. Where a row has
    several right answers it is called with each until one is right. A function that raises, takes too long or too much
    memory, or returns anything else leaves an unknown grade with the reason.

    Args:
        file: Python source. It is your code: it runs with your rights.
        thinking: give the function the completion as it is.
        seconds, memory_mib, at_once: as of `FunctionPool`.
    """

    name, version = "python", 3

    def __init__(
        self,
        file: str,
        function: str,
        thinking: bool = False,
        seconds: float = 5.0,
        memory_mib: int = 2048,
        at_once: int | None = None,
    ) -> None:
        self.file, self.thinking = Path(file), thinking
        self.pool = FunctionPool(self.file, function, seconds, memory_mib, at_once)
        self.at_once = self.pool.at_once

    def fingerprint(self) -> str:
        code = code_sha256(self.file)[:16]
        return f"{self.name} {self.version} ({self.pool.function}, sha256 {code}, {self.thinking}, {self.pool.limits})"

    def check(self) -> None:
        """Raise ValueError where the file or the function is not there."""
        if not self.file.is_file():
            raise ValueError(f"--grade python:{self.file}:{self.pool.function}: there is no such file.")
        if why := self.pool.why_not():
            raise ValueError(f"--grade python:{self.file}:{self.pool.function} cannot be used: {why}.")

    def grade(self, question: Question, completion: str) -> Grade:
        text = completion if self.thinking else said(completion)
        if text is None:
            return Grade(0, "unfinished_thinking")
        row = json.loads(question.row or "{}")
        return any_right(self.pool.grade(text, gold, row) for gold in question.answers)

    def close(self) -> None:
        """End the processes. They end with this one too."""
        self.pool.close()


class RegexGrader:
    """The gold is a regular expression, and is found in the answer; or `pattern` finds the answer, which is the gold.

    Regular expressions are Python's. They run in processes that are killed where one does not end.

    Args:
        pattern: its last match is the answer: the group ``answer``, else the first group, else the whole match. It
            must be the gold, spaces aside. Without a pattern, each row's gold is one.
        ignore_case: of pattern, gold and answer.
        seconds: for one answer.
    """

    name, version = "regex", 2
    function: ClassVar[tuple[Path, str]] = (Path(__file__).with_name("pattern_search.py"), "search")

    def __init__(self, pattern: str | None = None, ignore_case: bool = False, seconds: float = 5.0) -> None:
        self.pattern, self.ignore_case = pattern, ignore_case
        if pattern is not None and (why := not_a_pattern(pattern)):
            raise ValueError(f"pattern={pattern!r} is not a regular expression: {why}.")
        self.pool = FunctionPool(*self.function, seconds, 512, None)
        self.at_once = self.pool.at_once

    def fingerprint(self) -> str:
        settings = f"{self.pattern!r}, ignore_case={self.ignore_case}, {self.pool.limits}"
        return f"{self.name} {self.version} ({settings})"

    def trouble(self, question: Question) -> str | None:
        whys = [] if self.pattern is not None else filter(None, map(not_a_pattern, question.answers))
        why = next(iter(whys), None)
        return f"has the answer {question.gold!r}, which is not a regular expression: {why}" if why else None

    def grade(self, question: Question, completion: str) -> Grade:
        text = said(completion)
        if text is None:
            return Grade(0, "unfinished_thinking")
        if not text.strip():
            return Grade(0, "no_answer")
        grade = self.pool.grade(text, list(question.answers), self.pattern, self.ignore_case)
        return Grade(0, "no_answer") if grade.reason == "ok" and grade.extracted is None else grade

    def close(self) -> None:
        """End the processes."""
        self.pool.close()


def not_a_pattern(text: str) -> str:
    """Why a text is not a regular expression; "" where it is one."""

    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return "" if text.strip() else "it is empty"
