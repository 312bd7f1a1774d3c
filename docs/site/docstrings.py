"""Docstrings as Sphinx reads them: what is plain to a reader of the code is made plain to docutils."""

import re
from typing import Any

SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Note):$")
NEXT_ENTRY = re.compile(r"(?<=[.;])  (?=[\w, ]+: )")
"""Two spaces between the entries of a section that share a line, as in `p: [T].  q: [V].`"""


def read_docstring(_app: Any, _what: str, _name: str, _value: Any, _options: Any, lines: list[str]) -> None:
    """Sphinx's `autodoc-process-docstring`: entries of sections get a line each, indented lines become code."""
    lines[:] = with_code(entries_apart(lines))


def entries_apart(lines: list[str]) -> list[str]:
    """The lines, those within a section cut where the next entry begins."""
    apart, inside = [], False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        inside = bool(SECTION.match(line)) or (inside and (indent > 0 or not line))
        parts = NEXT_ENTRY.split(line) if inside and indent == 4 else [line]
        apart += [parts[0], *(" " * indent + part for part in parts[1:])]
    return apart


def with_code(lines: list[str]) -> list[str]:
    """The lines, with docutils' mark of a code block above those that stand indented outside of a section."""
    marked, inside, code = [], False, False
    for before, line in zip(["", *lines], lines, strict=False):
        indent = len(line) - len(line.lstrip())
        inside = bool(SECTION.match(line)) or (inside and (indent > 0 or not line))
        begins = indent >= 4 and not before and not inside and not code
        marked += ["::", ""] if begins else []
        code = (code or begins) and (indent >= 4 or not line)
        marked.append(line)
    return marked


def skip_member(_app: Any, _what: str, _name: str, value: Any, _skip: bool, _options: Any) -> bool | None:
    """Sphinx's `autodoc-skip-member`: fields of named tuples, of which the class's own docstring speaks."""
    return True if str(getattr(value, "__doc__", "")).startswith("Alias for field number") else None
