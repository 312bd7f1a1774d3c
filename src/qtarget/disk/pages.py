"""Markdown pages of which some parts are written by code, so that they cannot differ from what they speak of.

A table stands on lines of its own from `<!-- table: NAME -->` to `<!-- end -->`; a number stands within a sentence, as
`<!-- number: NAME -->25<!-- end -->`. Markdown does not show the marks.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from qtarget.disk.files import replace_text

MARKED = re.compile(r"(<!-- table: (\w+) -->\n)(?:(?!<!--).*\n)*(<!-- end -->)")
MARKED_NUMBER = re.compile(r"(<!-- number: (\w+) -->)[^<\n]*(<!-- end -->)")


def filled(text: str, part: Callable[[str], str]) -> str:
    """The page with what stands between marks written anew. `part` gives a table or a number by its name."""
    text = MARKED.sub(lambda mark: mark[1] + part(mark[2]) + "\n" + mark[3], text)
    return MARKED_NUMBER.sub(lambda mark: mark[1] + part(mark[2]) + mark[3], text)


def rewrite_page(page: Path, parts: Mapping[str, str]) -> None:
    """Write the marked parts of a page anew, in place.

    Raises:
        ValueError: the page is not UTF-8, or marks a part that `parts` does not have.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{page} is not UTF-8 (byte {error.start + 1}); name a page of Markdown.") from error
    replace_text(page, filled(text, partial(_part, parts, page.name)))


def _part(parts: Mapping[str, str], page: str, name: str) -> str:
    if name not in parts:
        raise ValueError(f'{page} marks a part "{name}"; this command writes {", ".join(parts)}')
    return parts[name]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
