"""The script of the process that parses and compares expressions. It holds no state and may be killed at any time.

After a reply that the limits were hit, the parent ends it and starts another.
Run as a script, so that it starts in half a second, without torch. A line of JSON on its input,
``{"gold": …, "answer": …}``, is answered by one on its output, ``{"value": 1, "reason": "ok"}``.
"""

import functools
import itertools
import json
import logging
import math
import os
import re
import signal
import sys
from typing import Any, TextIO

OUT_OF_LIMITS = {"value": None, "reason": "timeout"}
TINY, RELATIVE = 1e-2, 1e-4
"""Below `TINY`, two numbers are compared by their relative difference, as Qwen2.5-Math's evaluation compares all."""
SPELLINGS = (
    (re.compile(r"(?<![\w.\\])(\d+\.?\d*|\.\d+)[eE]([+-]?\d+)(?![\w.])"), r"\1 \\times 10^{\2}"),
    (re.compile(r"(?<=[\d}])\s*[x×]\s*(?=10\s*\^)"), r" \\times "),
    (re.compile(r"(?<=\d)\.(?![\d.\\])"), ""),
    (re.compile(r"(?<!\\)[.,;]\s*$"), ""),
)
"""Spellings of numbers that math-verify reads as something else: 4.5e33 as 4.5·e·33, "4.5 x 10^33" with a variable,
1./3 and what ends in a full stop not at all. Of Minerva's 272 golds, 58 are written in the first way."""

PAIR = re.compile(r"(\\\{|[(\[])[^()\[\]{}]*,[^()\[\]{}]*(\\\}|[)\]])")
NOTHING = re.compile(r"\\emptyset|\\\{\\\}")
APPROXIMATELY = re.compile(r"\\approx(?![A-Za-z])|≈")
NEGATED = re.compile(
    r"(?<!\\)\b(?:not(?!\s(?:know|sure|possible|exist|enough|determin))|wrong|incorrect|neither|nor|except)\b"
    r"|\\(?:not|neq?|lnot|neg)(?![A-Za-z])"
)
ARROW = re.compile(r"\\(?:to|rightarrow)(?![A-Za-z])")
INTERVAL = re.compile(r"\\infty|\\cup|\[[^\[\]()]*,[^\[\]()]*[\])]|\([^\[\]()]*,[^\[\]()]*\]")
LONE_LETTER = re.compile(r"\s*(?!\\pi(?![A-Za-z]))\\?[A-Za-z]+(?:_\{?\w+\}?)?\s*(?:\(\s*\w+\s*\))?\s*")
TURNED = re.compile(r"\s*(-?(?:[\d.]+|\\frac\{-?\d+\}\{\d+\}|\\?[a-z]*\{?\d+\}?))\s*=\s*([A-Za-z])\s*")
MEASURED = re.compile(r"\\(?:text|mathrm|circ|operatorname|pmod|bmod|mod|equiv|lim|pm|mp)(?![A-Za-z])|[%$°]|\bmod\b")
"""Equations that hold of units, degrees and remainders, which are not read."""
LITERAL = re.compile(
    r"\s*-?\d*(?:\.(?P<places>\d*))?\s*(?:\\(?:times"
    r"|cdot)\s*10\s*\^\s*\{?(?P<power>-?\d{1,3})\}?)?\s*"
)


def main(memory_bytes: int, seconds: float) -> None:
    """Answer lines of the standard input until it ends, within so much memory and so many seconds a line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    replies = _take_stdout()
    logging.disable(logging.CRITICAL)  # math-verify warns that it was told to leave the time to us
    compare_expressions(r"\frac{1}{2}", "0.5")  # imports and fills tables, outside any answer's time
    _limit(memory_bytes)
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        _alarm(seconds)
        reply = compare_expressions(**json.loads(line))
        _alarm(None)
        if _peak_bytes() > memory_bytes / 2:  # somewhere inside, a MemoryError may have become "not equal"
            reply = OUT_OF_LIMITS
        print(json.dumps(reply), file=replies, flush=True)


def compare_expressions(gold: str, answer: str) -> dict[str, Any]:
    """Whether an answer equals the gold, both as they would stand in a box.

    What math-verify cannot read as an expression is compared letter by letter. Beyond that, an answer it cannot
    read is wrong (``parse_error``), and where it cannot read the gold nobody knows (``gold_unparseable``). It rounds to
    six decimal places, which makes all tiny numbers equal; those are compared once more. An answer that equates what
    is not equal, or says what the answer is not, is wrong (``untrue``).
    """
    try:
        if (NEGATED.search(answer) and not NEGATED.search(gold)) or not _holds(answer):
            return {"value": 0, "reason": "untrue"}
        golds, answers = _readings(gold), _readings(answer)
        if any(_equal(one, other, gold) for one in golds for other in answers):
            return {"value": 1, "reason": "ok"}
        if not any(map(_has_expression, golds)):
            return {"value": None, "reason": "gold_unparseable"}
        return {"value": 0, "reason": "ok" if any(map(_has_expression, answers)) else "parse_error"}
    except MemoryError:
        return OUT_OF_LIMITS


def _equal(gold: list[Any], answer: list[Any], written: str) -> bool:
    """Whether Math-Verify takes two readings for equal and their numbers agree. An inequality may stand for a gold that
    is an interval for sure: (3, ∞) is one, and (1, 2) may be a point."""
    from math_verify import verify

    interval = INTERVAL.search(written) is not None
    equal = verify(gold, answer, timeout_seconds=None, allow_set_relation_comp=interval)
    return equal and not _differ(_number(gold), _number(answer)) and not _apart(gold, answer)


def _apart(gold: list[Any], answer: list[Any]) -> bool:
    """Whether two pairs that Math-Verify calls equal have other brackets, braces included, or no point lies in their
    intervals, as in (5, 2) and [4, 1]."""
    one, other = (re.sub(r"\s|\\left|\\right", "", forms[-1]) for forms in (gold, answer))
    pairs = PAIR.fullmatch(one), PAIR.fullmatch(other)
    if pairs[0] and pairs[1] and pairs[0].groups() != pairs[1].groups():
        return True
    if not any(getattr(form, "is_empty", False) for form in (gold[0], answer[0])):
        return False
    return one != other and (NOTHING.fullmatch(one) is None or NOTHING.fullmatch(other) is None)


def _differ(one: Any, other: Any) -> bool:
    """Whether two numbers that Math-Verify's rounding makes equal are not: tiny ones, and exact ones very near."""
    if one is None or other is None:
        return False
    apart, size = abs(one - other), max(abs(one), abs(other))
    if one.is_Rational and other.is_Rational:
        return bool(apart != 0)
    return bool(size < TINY and apart > RELATIVE * size)


def _readings(expression: str) -> list[list[Any]]:
    """An expression as a whole; both sides of "10/3 ≈ 3.33"; and "3 = x" turned round."""
    sides = [side for side in APPROXIMATELY.split(expression) if not LONE_LETTER.fullmatch(side)]
    if len(sides) > 1 or APPROXIMATELY.search(expression):
        return [_parsed(side) for side in dict.fromkeys((sides[:1] + sides[-1:]) or [expression])]
    turned = TURNED.fullmatch(expression)
    return [_parsed(f"{turned[2]}={turned[1]}" if turned else expression)]


def _holds(answer: str) -> bool:
    """Whether what an answer equates are equal numbers, or near ones after ≈. What has no one value is left alone."""
    for part in _split(ARROW.sub("=", APPROXIMATELY.sub("≈", answer)), ",;"):
        sides = [] if MEASURED.search(part) else _split(part, "=≈")
        if len(sides) < 2:
            continue
        known = [(value, side) for side in sides if (value := _value(side)) is not None]
        for (one, left), (other, right) in itertools.pairwise(known):
            if abs(one - other) > max(_step(left, "≈" in part), _step(right, "≈" in part)) + abs(one) / 10**9:
                return False
    return True


def _value(side: str) -> Any:
    return None if LONE_LETTER.fullmatch(side) else _number(_parsed(side))


def _step(side: str, near: bool) -> Any:
    """By how much a number that is written so may be rounded: by less than one in the last place behind the point, and
    after ≈ by half of one where there is no point."""
    from sympy import Rational

    written = LITERAL.fullmatch(side)
    if written is None or not (near or written["places"]):
        return 0
    last = -len(written["places"] or "")
    share = Rational(999, 1000) if written["places"] else Rational(1, 2)
    return share * Rational(10) ** (last + int(written["power"] or 0))


def _split(text: str, signs: str) -> list[str]:
    """The parts between signs that stand in no bracket; ≤ and := are none."""
    parts, depth, start = [], 0, 0
    for at, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if sign in signs and depth == 0 and text[at - 1 : at] not in ("<", ">", "!", ":", "\\"):
            parts.append(text[start:at])
            start = at + 1
    return [part for part in (*parts, text[start:]) if part.strip()]


@functools.lru_cache(1000)
def _parsed(expression: str) -> list[Any]:
    """The expression that math-verify finds, if any, and the string itself last."""
    from math_verify import parse

    for spelling, plain in SPELLINGS:
        expression = spelling.sub(plain, expression)
    return parse(f"\\boxed{{{expression}}}", parsing_timeout=None)  # type: ignore[arg-type]


def _number(parsed: list[Any]) -> Any:
    """The real number that an expression is, or that an equation ends in; None where there is none, and for one in per
    cent, which Math-Verify reads in two ways. Unlike Python's, it does not become zero where it is very small."""
    if "%" in str(parsed[-1:]):
        return None
    try:
        value = getattr(parsed[0], "rhs", parsed[0]).doit()
        value = value if value.is_Rational else value.evalf(20)
        return value if value.is_Rational or value.is_Float else None
    except (IndexError, AttributeError, TypeError, ValueError, OverflowError):
        return None


def _has_expression(parsed: list[Any]) -> bool:
    return any(not isinstance(form, str) for form in parsed)


def _take_stdout() -> TextIO:
    """The output, for replies alone: what a library prints goes nowhere."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return replies


def _limit(memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    allowed = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, most))


def _alarm(seconds: float | None) -> None:
    """End by itself over an answer where the parent, which would kill it, is gone; None where no answer is in hand."""
    if hasattr(signal, "alarm"):
        signal.alarm(0 if seconds is None else math.ceil(seconds) + 5)


def _peak_bytes() -> int:
    """The most address space this process has had; 0 where the system does not say (nor limits it)."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmPeak:")), 0)
    except OSError:
        return 0


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
