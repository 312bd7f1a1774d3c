"""Answers that a model repeats without end: the time of a grade grows as their length does, whatever is in them."""

import time
from collections.abc import Callable

import pytest

from qtarget.evaluate.grading import GRADERS
from qtarget.evaluate.grading.untrusted import LONGEST
from qtarget.evaluate.nouns import Question

ASKED = {
    "math": Question("q", "?", "7"),
    "choice": Question("q", "?", "B", ("one", "two", "three", "four")),
    "lab": Question("q", "?", "7"),
}
SHORT, TIMES, MOST = LONGEST + 400, 8, 24
"""Characters, more than are sent to the process that grades mathematics; a text so many times as long takes 8 times as
long where time is linear, and 64 times where it is quadratic; a busy machine moves the ratio."""
HOSTILE: dict[str, Callable[[int], str]] = {
    "blanks": lambda n: "The answer" + " " * n,
    "blanks after is": lambda n: "The answer is" + "\u00a0" * n + "x",
    "line ends": lambda n: "The answer" + "\n" * n,
    "blanks after a letter": lambda n: "Answer: A" + " " * n + "x",
    "blanks after a command": lambda n: ("\\text" + " " * 90) * (n // 95),
    "nested commands": lambda n: "\\text{" * (n // 7) + "A" + "}" * (n // 7),
    "commands that are not closed": lambda n: "\\text{" * (n // 6),
    "commands one after another": lambda n: "\\text{}" * (n // 7),
    "a pair inside nested commands": lambda n: "\\text{" * (n // 7) + "{}" + "}" * (n // 7),
    "closing braces": lambda n: "}" * n,
    "answers on one line": lambda n: "answer A, " * (n // 10),
    "answers that are words": lambda n: "answer I am " * (n // 12),
    "answers with alternatives": lambda n: "answer is B or " * (n // 15),
    "the word alone": lambda n: "answer" * (n // 6),
    "the word with blanks": lambda n: "answer is  " * (n // 11),
    "brackets": lambda n: "answer" + "([{$*_" * (n // 6),
    "an option and brackets": lambda n: "A" + ")" * n + "x",
    "an option and blanks": lambda n: "A" + " " * n + "x",
    "boxes that are not closed": lambda n: "\\boxed{" * (n // 7),
    "nested boxes": lambda n: "\\boxed{" * (n // 8) + "7" + "}" * (n // 8),
    "a box of blanks": lambda n: "\\boxed{" + " " * n + "}",
    "a box of commands": lambda n: "\\boxed{" + "\\text{" * (n // 7) + "B" + "}" * (n // 7 + 1),
    "backslashes": lambda n: "\\boxed{" + "\\" * n + "}",
    "digits": lambda n: "\\boxed{" + "1" * n + "}",
    "code": lambda n: "\\boxed{" + "lambda " * (n // 7) + "}",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in HOSTILE.items()])
@pytest.mark.parametrize("name", ASKED)
def test_the_time_is_linear_in_the_length(name: str, text: Callable[[int], str]):
    grader = GRADERS[name]()
    short, long = (least_seconds(lambda n=n: grader.grade(ASKED[name], text(n))) for n in (SHORT, SHORT * TIMES))
    assert long < MOST * short


def least_seconds(call: Callable[[], object], tries: int = 5) -> float:
    """Seconds of this thread's own work, of the quickest of some tries."""
    seconds = []
    for _ in range(tries):
        start = time.thread_time()
        call()
        seconds.append(time.thread_time() - start)
    return max(min(seconds), 1e-5)


def test_commands_are_taken_off_from_the_inside_out():
    grader, question = GRADERS["choice"](), ASKED["choice"]
    answers = ["\\textbf{\\text{ B }}", "\\boxed{\\mathrm{\\textbf {B. two}}}", "The answer is \\text{(\\mathbf\n{B})}"]
    assert [grader.grade(question, answer).value for answer in answers] == [1, 1, 1]
    assert grader.grade(question, "\\boxed{\\text{B {}}}").reason == "parse_error"
