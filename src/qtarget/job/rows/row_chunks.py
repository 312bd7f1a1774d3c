"""Rows of files in chunks of bounded size, which become parts of one table."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from qtarget.data.json_lines import PlacedRow
from qtarget.data.user_files.formats import rows_in
from qtarget.job.rows.reading_progress import ReadingProgress

CHUNK_ROWS = 1000
"""A chunk ends at so many rows, or earlier where they are long."""
_CHUNK_BYTES = 1 << 23
_EXAMPLES = {
    "json": 'write one JSON object a line, as in {"prompt": "…", "completion": "…"}',
    "table": "write the names of the columns on the first line, and a row on each after it",
}


@dataclass
class RowChunk:
    """Successive rows of a file."""

    path: Path
    rows: list[PlacedRow]


@dataclass
class _Position:
    """How many bytes of a file are read."""

    value: int = 0

    def move(self, value: int) -> None:
        self.value = value


def row_chunks(
    paths: Sequence[Path], limit: int | None = None, progress: ReadingProgress | None = None
) -> Iterator[RowChunk]:
    """The rows of files, one file after the other.

    Args:
        limit: rows that are read of each file at most.

    Raises:
        ValueError: a file cannot be read, something in it is no row, or it has none.
    """
    for path in paths:
        position, count = _Position(), 0
        with closing(rows_in(path, position.move)) as every:
            rows = islice(every, limit)
            while chunk := _next_chunk(rows, position):
                count += len(chunk)
                yield RowChunk(path, chunk)
                if progress is not None:
                    progress.on_rows(len(chunk), position.value)
        if not count:
            example = _EXAMPLES["table" if {".csv", ".tsv"} & {ending.lower() for ending in path.suffixes} else "json"]
            raise ValueError(f"{path} has no rows; {example}.")
        if progress is not None:
            progress.on_file(path.stat().st_size)


def _next_chunk(rows: Iterator[PlacedRow], position: _Position) -> list[PlacedRow]:
    chunk: list[PlacedRow] = []
    start = position.value
    for placed in rows:
        chunk.append(placed)
        if len(chunk) == CHUNK_ROWS or position.value - start > _CHUNK_BYTES:
            break
    return chunk
