"""Grading by a number: the last one of an answer equals the gold, exactly or within a tolerance."""

from fractions import Fraction

from qtarget.evaluate.grading.beside_box import is_one_of_two, is_part
from qtarget.evaluate.grading.boxed import Box, last_box, last_tag
from qtarget.evaluate.grading.denied import is_denied, is_taken_back
from qtarget.evaluate.grading.next_question import parts_by_question
from qtarget.evaluate.grading.number_reading import last_number, only_number
from qtarget.evaluate.grading.thinking import said
from qtarget.evaluate.nouns import Grade, Question


class NumberGrader:
    r"""The last number of the answer is the gold; where there is a ``\boxed{…}``, the last number in the last box.

    Read are 1234, 1,234, 1 234, -0.5, .5, 3/4, 2 1/2, ½, 1e-3, 5 × 10^3, 10³, 5k, "minus 5", -$5 and "5 million";
    units around them ($, %, km) do not count. What looks like a number and is not one of these (1,5 or 2^10), or is a
    part of something else (2π, 10-5, "3 or 5", "less than 5", 3!), is an answer that cannot be read. Numbers that only
    refer to something (section 3, step 2, [4], the 2. of a list, "In 2019, …") are passed over. Two boxes, or an answer
    to a second question that is another, are more than one answer. Values are compared exactly.

    Args:
        tolerance: how far the answer may be from the gold.
        relative: the same as a share of the gold; the wider of the two counts.
    """

    name, version = "number", 4

    def __init__(self, tolerance: float = 0.0, relative: float = 0.0) -> None:
        for name, value in (("tolerance", tolerance), ("relative", relative)):
            if isinstance(value, bool | str) or not 0 <= value < float("inf"):
                raise ValueError(f"{name}={value} was given; write 0 or more, as {name}=0.01.")
        self.tolerance, self.relative = tolerance, relative

    def fingerprint(self) -> str:
        return f"{self.name} {self.version} (tolerance {self.tolerance:g}, relative {self.relative:g})"

    def trouble(self, question: Question) -> str | None:
        unread = [answer for answer in question.answers if only_number(answer).value is None]
        return f"has the answer {unread[0]!r}, which is not one number" if unread else None

    def grade(self, question: Question, completion: str) -> Grade:
        text = said(completion)
        if text is None:
            return Grade(0, "unfinished_thinking")
        box = last_box(text)
        if box is not None and box.inside is None:
            return Grade(0, "cut_off")
        if box is not None and any(beside.strip() != (box.inside or "").strip() for beside in box.beside):
            return Grade(0, "several")
        parts = parts_by_question(text)
        if len(parts) > 1 and len({read for part in parts if (read := _said_in(part)) is not None}) > 1:
            return Grade(0, "several")
        if _is_withdrawn(text, box):
            return Grade(0, "withdrawn")
        if box and (is_part(text, box) or is_one_of_two(text, box)):
            return Grade(0, "parse_error", box.inside)
        answer = last_number(text) if box is None else only_number(box.inside or "")
        if answer.value is None:
            return Grade(0, "parse_error", answer.text) if answer.text else Grade(0, "no_answer")
        golds = [value for gold in question.answers if (value := only_number(gold).value) is not None]
        if not golds:
            return Grade(None, "gold_unparseable", answer.text)
        return Grade(1 if any(self._is_near(answer.value, gold) for gold in golds) else 0, "ok", answer.text)

    def _is_near(self, answer: Fraction, gold: Fraction) -> bool:
        allowed = max(Fraction(str(self.tolerance)), Fraction(str(self.relative)) * abs(gold))
        return abs(answer - gold) <= allowed


def _is_withdrawn(text: str, box: Box | None) -> bool:
    tag = None if box else last_tag(text)
    span = (box.start, box.end) if box else tag.span() if tag else None
    return span is not None and (is_denied(text, *span) or is_taken_back(text, span[1]))


def _said_in(part: str) -> Fraction | None:
    box = last_box(part)
    return (last_number(part) if box is None else only_number(box.inside or "")).value
