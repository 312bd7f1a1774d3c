"""What is wrong with a row, in words that are safe to print: never a row's own control characters."""

import json
import math
from typing import Any

from qtarget.data.json_lines import printable

SHOWN_CHARACTERS = 60


class RowFault(Exception):
    """A row that cannot be trained on.

    Attributes:
        reason: what is wrong, in words that are the same for every such row, for counting: "empty text".
        field: the column, or the place in it: "messages[2].content".
        found: what is there, and why that does not do.
        remedy: what to do about the row; "" where there is nothing beyond mending it.
    """

    def __init__(self, reason: str, field: str, found: str, remedy: str = "") -> None:
        super().__init__(reason, field, found, remedy)
        self.reason, self.field, self.found, self.remedy = reason, field, found, remedy

    def as_text(self) -> str:
        """The fault as one text, which a column of a data set can hold."""
        return json.dumps(self.args)

    @classmethod
    def of_text(cls, text: str) -> "RowFault":
        """The fault that `as_text` wrote."""
        return cls(*json.loads(text))


def shown(value: Any) -> str:
    """A value as Python writes it, at most sixty characters, without control characters or line breaks."""
    text = repr(value)
    return spelled_out(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")


def spelled_out(text: str) -> str:
    """A text with every character that is not printable written out: `\\x1b`, `\\n`."""
    return printable(text, len(text))


def kind_of(value: Any) -> str:
    """What a value is, in words: "a number", "a list"."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "null" if value is None else kinds.get(type(value), type(value).__name__)


def text_of(value: Any, field: str, *, may_be_blank: bool = False) -> str:
    """The value, if it is text that says something.

    Raises:
        RowFault: it is null, no text, or (unless `may_be_blank`) nothing but white space.
    """
    if not isinstance(value, str):
        reason = "null" if value is None else "NaN" if kind_of(value) == "NaN" else f"{kind_of(value)} for text"
        remedy = f'Write it as text, as in "{value}".' if reason == "a number for text" else ""
        raise RowFault(reason, field, f"holds {_with_kind(value)}, and text is expected", remedy)
    if not may_be_blank and not value.strip():
        raise RowFault("empty text", field, f"is empty ({shown(value)}), and text is expected")
    return value


def _with_kind(value: Any) -> str:
    kind = kind_of(value)
    return kind if kind in ("null", "NaN") else f"{kind} ({shown(value)})"
