"""Reading fields of raw rows, with errors that name the row and the fields it has."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


class Fields:
    """One raw row with its number, from 1."""

    def __init__(self, row: Row, number: int) -> None:
        self.row = row
        self.number = number

    def get(self, *names: str) -> Any:
        """The value of the first of these fields that the row has and that is not null."""
        for name in names:
            if self.row.get(name) is not None:
                return self.row[name]
        raise self.wrong(f"has no {' or '.join(f'`{name}`' for name in names)}; it has {_list(self.row)}")

    def text(self, *names: str) -> str:
        """`get`, where it must be text with something in it; spaces around it are dropped."""
        value = self.get(*names)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(f"has {value!r} for `{names[0]}`, where text is expected")
        return value.strip()

    def wrong(self, what: str) -> ValueError:
        return ValueError(
            f"Row {self.number} {what}. See docs/tasks.md for the format, or give rows of your own in it."
        )


def numbered(rows: Sequence[Row]) -> Iterator[Fields]:
    """The rows with their numbers."""
    return (Fields(row, number) for number, row in enumerate(rows, 1))


def content_id(*parts: str) -> str:
    """A name made of what the row says, the same on every machine."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _list(row: Row) -> str:
    return ", ".join(f"`{name}`" for name, value in row.items() if value is not None) or "nothing"
