"""Reading the golden corpus: completions with the verdict that a grader owes them, and the reason that it gives."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from qtarget.evaluate.nouns import NO_ANSWER, Grade, Grader, Question

GOLDEN = Path(__file__).with_name("golden")
TEN = ("Aspirin", "Surgery", "A hearing aid", "Nothing", "Ear drops", "Rest", "Iron", "Zinc", "Prednisone", "Insulin")
LETTERS = "ABCDEFGHIJ"


class Case(NamedTuple):
    """A completion and its grade; `why` names the trap, where there is one to name."""

    question: Question
    completion: str
    verdict: str
    reason: str
    why: str = ""

    @property
    def name(self) -> str:
        return f"{self.completion!r} for {self.question.gold!r}"


def cases(name: str) -> list[Case]:
    """The cases of a file ``golden/NAME.jsonl``."""
    rows = [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        Case(
            Question("q", "?", row["gold"], tuple(row.get("options", ()))),
            row["completion"],
            row["verdict"],
            row["reason"],
            row.get("why", ""),
        )
        for row in rows
    ]


def cases_in_every_letter() -> Iterator[Case]:
    """Each sentence of ``golden/choice_letters.jsonl`` with ten options, each of which is the right one in its turn.

    L is the right letter, l a small one, W a full-width one, T its text; M is another letter, and U that one's text.
    """
    for line in (GOLDEN / "choice_letters.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for place, right in enumerate(LETTERS):
            other = (place + 3) % len(LETTERS)
            signs = {"L": right, "l": right.lower(), "W": chr(ord(right) + 0xFEE0), "M": LETTERS[other]}
            text = row["completion"].format(**signs, T=TEN[place], U=TEN[other])
            yield Case(Question("q", "?", right, TEN), text, row["verdict"], row["reason"])


def verdict(grade: Grade) -> str:
    """A grade in one word of the corpus."""
    if grade.value is None:
        return "unknown"
    if grade.value == 1:
        return "right"
    return "no answer" if grade.reason in NO_ANSWER else "wrong"


def misjudged(grader: Grader, asked: list[Case], grades: list[Grade] | None = None) -> list[str]:
    """What a grader says of the cases on which it says another verdict or reason than the corpus."""
    grades = grades or [grader.grade(case.question, case.completion) for case in asked]
    said = [(verdict(grade), grade.reason) for grade in grades]
    return [
        f"{case.name}: {' '.join(given)}, not {case.verdict} {case.reason} {case.why}"
        for case, given in zip(asked, said, strict=True)
        if given != (case.verdict, case.reason)
    ]
