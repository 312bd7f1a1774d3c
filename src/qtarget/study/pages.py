"""Markdown pages with tables that code writes: each stands between `<!-- table: name -->` and `<!-- end -->`."""

import re
from collections.abc import Callable, Sequence

MARKED = re.compile(r"(<!-- table: (\w+) -->\n)(?:(?!<!--).*\n)*(<!-- end -->)")


def filled(text: str, table: Callable[[str], str]) -> str:
    """The page with every marked table replaced by `table(name)`."""
    return MARKED.sub(lambda mark: mark[1] + table(mark[2]) + "\n" + mark[3], text)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
