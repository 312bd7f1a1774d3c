"""The script of the process that parses and compares expressions. It holds no state and may be killed at any time.

After a reply that the limits were hit, the parent ends it and starts another.
Run as a script, so that it starts in half a second, without torch. A line of JSON on its input,
``{"gold": …, "answer": …}``, is answered by one on its output, ``{"value": 1, "reason": "ok"}``.
"""

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
        if _peak_bytes() > memory_bytes / 2:  # somewhere inside, a MemoryError may have become "not equal"
            reply = OUT_OF_LIMITS
        print(json.dumps(reply), file=replies, flush=True)


def compare_expressions(gold: str, answer: str) -> dict[str, Any]:
    """Whether an answer equals the gold, both as they would stand in a box.

    What math-verify cannot read as an expression is compared letter by letter. Beyond that, an answer it cannot
    read is wrong (``parse_error``), and where it cannot read the gold nobody knows (``gold_unparseable``). It rounds to
    six decimal places, which makes all tiny numbers equal; those are compared once more.
    """
    from math_verify import verify

    try:
        gold_forms, answer_forms = _parsed(gold), _parsed(answer)
        if verify(gold_forms, answer_forms, timeout_seconds=None):
            return {"value": 0 if _tiny_and_different(gold_forms, answer_forms) else 1, "reason": "ok"}
        if not _has_expression(gold_forms):
            return {"value": None, "reason": "gold_unparseable"}
        return {"value": 0, "reason": "ok" if _has_expression(answer_forms) else "parse_error"}
    except MemoryError:
        return OUT_OF_LIMITS


def _parsed(expression: str) -> list[Any]:
    """The expression that math-verify finds, if any, and the string itself last."""
    from math_verify import parse

    for spelling, plain in SPELLINGS:
        expression = spelling.sub(plain, expression)
    return parse(f"\\boxed{{{expression}}}", parsing_timeout=None)  # type: ignore[arg-type]


def _tiny_and_different(gold: list[Any], answer: list[Any]) -> bool:
    numbers = _number(gold), _number(answer)
    if None in numbers or max(map(abs, numbers)) >= TINY:
        return False
    return not math.isclose(*numbers, rel_tol=RELATIVE)


def _number(parsed: list[Any]) -> Any:
    """The real number that an expression is, or that an equation ends in; None where there is none."""
    try:
        return float(getattr(parsed[0], "rhs", parsed[0]).doit().evalf())
    except (AttributeError, TypeError, ValueError, OverflowError):
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


def _alarm(seconds: float) -> None:
    """End by itself where the parent, which would kill it, is gone."""
    if hasattr(signal, "alarm"):
        signal.alarm(math.ceil(seconds) + 5)


def _peak_bytes() -> int:
    """The most address space this process has had; 0 where the system does not say (nor limits it)."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmPeak:")), 0)
    except OSError:
        return 0


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
