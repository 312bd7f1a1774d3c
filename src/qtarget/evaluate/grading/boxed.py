"""Reading the answer in a completion's last ``\\boxed{…}`` or ``<answer>…</answer>``."""

import re
from collections import deque
from typing import NamedTuple

ANSWER_TAG = re.compile(r"<(?P<name>answer|final_answer|ans)>(?P<inside>[^<]{0,2000})</(?P=name)>", re.IGNORECASE)
BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
JOINING_WORDS = (
    r"(?:,\s*)?(?:(?:and|or)(?:\s(?:maybe|perhaps|possibly|even|also|else))?|as well as|\\text\s?\{\s*(?:and|or)\s*\})"
)
JOINS = re.compile(
    rf"(?:\s|\$|\\[()\[\]]|\*|~|\\(?:quad|qquad|[,;: ]))*+(?:{JOINING_WORDS}|[.,;:/&|+–-]|vs\.?)?+"
    r"(?:\s|\$|\\[()\[\]]|\*|~|\\(?:quad|qquad|[,;: ]))*+(?:[a-z]\s*=\s*)?"
)
"""What stands between two boxes that are given at once: blanks and signs, and at most one word that joins them."""
AT_ONCE = 16
"""Boxes that may be one answer: ``\\boxed{1} and \\boxed{2}``."""


class Box(NamedTuple):
    """The last box of a text: what it holds, None where it is not closed, and where it ends.

    Attributes:
        beside: what the boxes directly before it hold, where no more than "and", "or", a sign or blanks stand between.
        start: where it, or the first of these, begins.
    """

    inside: str | None
    end: int
    beside: tuple[str, ...] = ()
    start: int = 0


def last_box(text: str) -> Box | None:
    """The last ``\\boxed{…}``, closed or not; None where there is no box."""
    starts = deque(BOX.finditer(text), AT_ONCE)
    if not starts:
        return None
    last = starts.pop()
    inside, beside, begin = _inside(text, last.end()), [], last.start()
    while starts and (before := _inside(text, starts[-1].end(), begin)) is not None:
        if not JOINS.fullmatch(text, starts[-1].end() + len(before) + 1, begin):
            break
        beside.append(before)
        begin = starts.pop().start()
    return Box(inside, last.end() + len(inside or "") + 1, tuple(reversed(beside)), begin)


def last_tag(text: str) -> re.Match[str] | None:
    """The last ``<answer>…</answer>`` with its `inside`."""
    return next(iter(deque(ANSWER_TAG.finditer(text), 1)), None)


def last_boxed(text: str) -> str | None:
    """What the last ``\\boxed{…}`` holds, without the spaces around it.

    None where there is no box, where the last one is empty, and where it is not closed: a completion that was cut
    off while it wrote its answer has not given one, whatever it had boxed before.
    """
    box = last_box(text)
    return (box.inside or "").strip() or None if box else None


def _inside(text: str, start: int, end: int | None = None) -> str | None:
    """The text from `start` to the brace that closes it before `end`; None if none does. A brace after a backslash is a
    sign."""
    depth, at = 1, start
    end = len(text) if end is None else end
    while at < end:
        if text[at] == "\\":
            at += 1
        elif text[at] in "{}":
            depth += 1 if text[at] == "{" else -1
            if depth == 0:
                return text[start:at]
        at += 1
    return None
