"""Ratios of three and more, term by term: Math-Verify takes 3:4:5 for a division of a division."""

import re
from fractions import Fraction

TERM = re.compile(r"\d{1,30}(?:\.\d{1,30})?|(?:\\[dt]?frac\s?\{(\d{1,30})\}\s?\{(\d{1,30})\}|(\d{1,30})/(\d{1,30}))")


def is_ratio_of_three(text: str) -> bool:
    """Whether colons part a text into three terms or more."""
    return len(terms(text)) > 2


def terms(text: str) -> list[str]:
    """What colons part, one without them as it is."""
    return [term.strip() for term in text.split(":")]


def same_ratio(gold: str, answer: str) -> bool | None:
    """Whether two ratios have the same terms up to a common factor; None where a term is no number."""
    golds, answers = terms(gold), terms(answer)
    if len(golds) != len(answers):
        return False
    numbers = [[_number(term) for term in ratio] for ratio in (golds, answers)]
    if any(number is None for ratio in numbers for number in ratio):
        return golds == answers or None
    one, other = ([number or Fraction(0) for number in ratio] for ratio in numbers)
    at = next((at for at, number in enumerate(one) if number), 0)
    return all(a * other[at] == b * one[at] for a, b in zip(one, other, strict=True)) and bool(other[at]) == bool(
        one[at]
    )


def _number(term: str) -> Fraction | None:
    found = TERM.fullmatch(term)
    if found is None:
        return None
    above, below = (found[1], found[2]) if found[1] else (found[3], found[4])
    if not above:
        return Fraction(term)
    return Fraction(int(above), int(below)) if int(below) else None
