"""Pages whose tables are written by the code that measured them, from `<!-- table: name -->` to `<!-- end -->`."""

import re
from collections.abc import Callable, Sequence

MARKED = re.compile(r"(<!-- table: (\w+) -->\n)(?:(?!<!--).*\n)*(<!-- end -->)")


def filled(text: str, table: Callable[[str], str]) -> str:
    """The page with what stands between marks written anew, by the name in the mark."""
    return MARKED.sub(lambda mark: mark[1] + table(mark[2]) + "\n" + mark[3], text)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
