"""Regular expressions over what a model wrote: loaded by path into a process that can be killed."""

import re
from collections import deque


def search(text: str, golds: list[str], pattern: str | None, ignore_case: bool) -> tuple[bool, str | None]:
    """Whether a text is right, and the answer found in it.

    Without a pattern a gold is one, and the text is right where one is found in it. With a pattern its last match is
    the answer, and right where it is a gold.
    """
    flags = re.IGNORECASE if ignore_case else 0
    if pattern is None:
        found = next(filter(None, (re.search(gold, text, flags) for gold in golds)), None)
        return (True, found[0]) if found else (False, "")
    matches = deque(re.finditer(pattern, text, flags), 1)
    if not matches:
        return False, None
    last = matches[0]
    answer = last[("answer" if "answer" in last.re.groupindex else 1) if last.re.groups else 0] or ""
    return _folded(answer, ignore_case) in [_folded(gold, ignore_case) for gold in golds], answer


def _folded(text: str, ignore_case: bool) -> str:
    text = " ".join(text.split())
    return text.casefold() if ignore_case else text
