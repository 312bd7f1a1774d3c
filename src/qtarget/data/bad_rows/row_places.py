"""Where a row stands: its file, and its number there. `datasets` numbers all rows, whatever their files, and those of a
draw anew."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

from datasets import Dataset, DatasetInfo

from qtarget.console import spelled_out


@dataclass
class FilesInfo(DatasetInfo):
    """What `datasets` knows of a data set, and the files whose rows it has.

    Attributes:
        files: the names of the files, in the order of their rows, and how many rows each has.
        columns: of the rows as they were read. `datasets` hands all this on to rows that are made of them, in whatever
            order; those have other columns.
    """

    files: list[tuple[str, int]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)


class RowPlaces(NamedTuple):
    """Where the rows of a data set stand in its files.

    Attributes:
        files: names, in the order of their rows.
        ends: the number of rows up to the end of each.
        indices: of each row of the data set its number in all files; None where they are the same.
    """

    files: Sequence[str]
    ends: Sequence[int]
    indices: Any = None

    def place(self, row: int) -> str:
        """The file of the row at an index, and the row's number in it, from 1: "b.jsonl, row 6"."""
        row = row if self.indices is None else self.indices.column(0)[row].as_py()
        file = bisect_right(self.ends, row)
        return f"{spelled_out(self.files[file])}, row {row + 1 - (self.ends[file - 1] if file else 0)}"


def row_places(rows: Any) -> RowPlaces | None:
    """Where rows that were read from files stand, all of them, selected or shuffled ones. None where the files are
    not known, and where a row's number in the data set is its number in the file."""
    info = rows.info if isinstance(rows, Dataset) else None
    indices = getattr(rows, "_indices", None)
    if not isinstance(info, FilesInfo) or info.columns != rows.column_names:
        return None
    if len(info.files) == 1 and indices is None:
        return None
    names, counts = zip(*info.files, strict=True)
    return RowPlaces(names, list(accumulate(counts)), indices)
