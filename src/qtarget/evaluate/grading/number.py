"""Grading by a number: the last one of an answer equals the gold, exactly or within a tolerance."""

import re
from collections import deque
from fractions import Fraction
from typing import NamedTuple

from qtarget.evaluate.grading.boxed import last_box
from qtarget.evaluate.grading.thinking import said
from qtarget.evaluate.nouns import Grade, Question

SIGN, SPACE = r"[-+−–]?", "\u00a0\u202f"
TOKEN = re.compile(
    rf"(?<![\w^])(?<!\^{{)(?<!sqrt{{){SIGN}(?:\d|\.(?=\d))(?:[\d.,:/^'’_{SPACE}]*[\d/^])?(?:[eE]{SIGN}\d+)?"
)
"""A number with all that stands against it: separators, fractions and powers, which decide whether it can be read."""
PLAIN_NUMBER = re.compile(rf"([-+]?)(\d+|\d{{1,3}}(?:[,{SPACE}]\d{{3}})+)?(\.\d+)?(?:[eE]([-+]?\d{{1,3}}))?")
FRACTION = re.compile(r"([-+]?\d+)/(\d+)")
FRAC = re.compile(r"\\[dt]?frac\s?(?:{(\d{1,30})}{(\d{1,30})}|(\d)(\d))")
UNITS = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s?{([^{}]*)}|\\[,;!:$%]|\\(?:quad|degree|circ|dollar)\b|\^\\circ")
"""What a box may hold besides a number: words, spaces and units."""
LONGEST_NUMBER = 60
"""Characters of a number that is read."""
MINUS = str.maketrans("−–", "--")


class NumberReading(NamedTuple):
    """A number as it stands, and its value; None where it cannot be read."""

    text: str
    value: Fraction | None


class NumberGrader:
    r"""The last number of the answer is the gold; where there is a ``\boxed{…}``, the last number in the last box.

    Read are 1234, 1,234, -0.5, .5, 3/4 and 1e-3; signs and units around them ($, %, km) do not count. What looks like a
    number and is not one of these (1,5 or 2^10) is an answer that cannot be read. Values are compared exactly.

    Args:
        tolerance: how far the answer may be from the gold.
        relative: the same as a share of the gold; the wider of the two counts.
    """

    name, version = "number", 1

    def __init__(self, tolerance: float = 0.0, relative: float = 0.0) -> None:
        for name, value in (("tolerance", tolerance), ("relative", relative)):
            if isinstance(value, bool | str) or not 0 <= value < float("inf"):
                raise ValueError(f"{name}={value} was given; write 0 or more, as {name}=0.01.")
        self.tolerance, self.relative = tolerance, relative

    def fingerprint(self) -> str:
        return f"{self.name} {self.version} (tolerance {self.tolerance:g}, relative {self.relative:g})"

    def trouble(self, question: Question) -> str | None:
        unread = [answer for answer in question.answers if _gold(answer) is None]
        return f"has the answer {unread[0]!r}, which is not one number" if unread else None

    def grade(self, question: Question, completion: str) -> Grade:
        text = said(completion)
        if text is None:
            return Grade(0, "unfinished_thinking")
        box = last_box(text)
        if box is not None and (box.inside is None or box.beside):
            return Grade(0, "cut_off" if box.inside is None else "several")
        answer = _last_number(text) if box is None else _boxed_number(box.inside or "")
        if answer.value is None:
            return Grade(0, "parse_error", answer.text) if answer.text else Grade(0, "no_answer")
        golds = [value for gold in question.answers if (value := _gold(gold)) is not None]
        if not golds:
            return Grade(None, "gold_unparseable", answer.text)
        return Grade(1 if any(self._is_near(answer.value, gold) for gold in golds) else 0, "ok", answer.text)

    def _is_near(self, answer: Fraction, gold: Fraction) -> bool:
        allowed = max(Fraction(str(self.tolerance)), Fraction(str(self.relative)) * abs(gold))
        return abs(answer - gold) <= allowed


def _last_number(text: str) -> NumberReading:
    found = deque(TOKEN.finditer(FRAC.sub(_as_slash, text)), 1)
    return NumberReading(found[0][0], _value(_signed(found[0]))) if found else NumberReading("", None)


def _boxed_number(boxed: str) -> NumberReading:
    """The number of a box that holds one and no formula."""
    plain = UNITS.sub(r" \1", FRAC.sub(_as_slash, boxed))
    return NumberReading(boxed, None) if re.search(r"[\\^{}]", plain) else NumberReading(boxed, _gold(plain))


def _gold(text: str) -> Fraction | None:
    """The only number of a text; None where there is none, or another."""
    found = list(TOKEN.finditer(FRAC.sub(_as_slash, text)))
    return _value(_signed(found[0])) if len(found) == 1 else None


def _as_slash(fraction: re.Match[str]) -> str:
    return f"{fraction[1] or fraction[3]}/{fraction[2] or fraction[4]}"


def _signed(found: re.Match[str]) -> str:
    """The number as it counts: a hyphen against a word or a number before it is no sign, as in 10-5."""
    number, before = found[0].translate(MINUS), found.string[: found.start()][-1:]
    return number[1:] if number[0] in "-+" and (before.isalnum() or before in ")]}%") and before else number


def _value(number: str) -> Fraction | None:
    if len(number) > LONGEST_NUMBER:
        return None
    fraction, plain = FRACTION.fullmatch(number), PLAIN_NUMBER.fullmatch(number)
    if fraction:
        return Fraction(int(fraction[1]), int(fraction[2])) if int(fraction[2]) else None
    if plain is None or not (plain[2] or plain[3]):
        return None
    whole = re.sub(r"\D", "", plain[2] or "0")
    return Fraction(f"{plain[1]}{whole}{plain[3] or ''}") * Fraction(10) ** int(plain[4] or 0)
