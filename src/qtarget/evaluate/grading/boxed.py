"""Reading the answer in a completion's last ``\\boxed{…}``."""

import re

BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")


def last_boxed(text: str) -> str | None:
    """What the last ``\\boxed{…}`` holds, without the spaces around it.

    None where there is no box, where the last one is empty, and where it is not closed: a completion that was cut
    off while it wrote its answer has not given one, whatever it had boxed before.
    """
    boxes = list(BOX.finditer(text))
    return (_inside(text, boxes[-1].end()) or "").strip() or None if boxes else None


def _inside(text: str, start: int) -> str | None:
    """The text from `start` to the brace that closes it; None if none does. A brace after a backslash is a sign."""
    depth, at = 1, start
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] in "{}":
            depth += 1 if text[at] == "{" else -1
            if depth == 0:
                return text[start:at]
        at += 1
    return None
