"""Seeing at a glance what nobody can work out, so that it costs no time: towers of powers, factorials of millions."""

import math
import re

DIGITS_AT_MOST, FACTORIAL_AT_MOST, CHOICE_AT_MOST = 10_000_000, 200_000, 1_000_000
OPENED = re.compile(r"\s*\^\s*[({]*\s*")
POWERS = re.compile(r"\d+(?:\^-?\d+)+")
FACTORIAL = re.compile(r"(\d+(?:\^\d+)*)\s*[)}]*\s*!(\s*[)}]*\s*!)?")
NUMBERS = re.compile(r"\d+(?:\^\d+)*")


def is_too_large(expression: str) -> bool:
    """Whether an expression holds a power, a factorial or a binomial that no computer writes out.

    Such ones that are hidden, in a sum say, are found by the worker's limit of time.
    """
    text = OPENED.sub("^", expression)
    if any(_digits(chain[0]) > DIGITS_AT_MOST for chain in POWERS.finditer(text)):
        return True
    if any(_value(sign[1]) > (9 if sign[2] else FACTORIAL_AT_MOST) for sign in FACTORIAL.finditer(text)):
        return True
    return "binom" in text and any(_value(number[0]) > CHOICE_AT_MOST for number in NUMBERS.finditer(text))


def _digits(chain: str) -> float:
    """About how many digits a chain of powers has, or its reciprocal; infinite above what a float holds."""
    base, *exponents = [abs(int(number[:20])) for number in chain.split("^")]
    return _power(exponents) * math.log10(max(base, 1))


def _value(chain: str) -> float:
    return _power([abs(int(number[:20])) for number in chain.split("^")])


def _power(numbers: list[int]) -> float:
    """A chain of powers, from the right."""
    value = float(numbers[-1])
    for number in reversed(numbers[:-1]):
        try:
            value = float(number) ** value
        except OverflowError:
            return math.inf
    return value
