"""Files of rows: their formats, known by how their names end, and how they are opened."""

import gzip
import io
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from qtarget.data.json_lines import PlacedRow, json_rows
from qtarget.data.user_files.delimited import csv_rows, tsv_rows
from qtarget.data.user_files.parquet import parquet_rows
from qtarget.data.user_files.paths import existing_file

RowReader = Callable[[BinaryIO, str], Iterator[PlacedRow]]
"""Reads the rows of an open file one after the other; the second argument is its name, for error messages."""

FORMATS: dict[str, RowReader] = {
    ".jsonl": json_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".tsv": tsv_rows,
    ".parquet": parquet_rows,
}
"""How a file of rows ends, in lower case, and what reads it. Each may be gzipped, and end in `.gz` then."""

GZIPPED = ".gz"
_GZIP_MAGIC = b"\x1f\x8b"


def reader_of(path: Path) -> RowReader | None:
    """What reads a file, by how its name ends; None where no format ends so."""
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    if endings and endings[-1] == GZIPPED:
        endings.pop()
    return FORMATS.get(endings[-1]) if endings else None


def format_endings() -> str:
    """How files of rows may end, as a list in a sentence."""
    *others, last = FORMATS
    return f"{', '.join(others)} or {last}, each also with {GZIPPED} behind it"


def rows_in(path: Path, on_position: Callable[[int], None] = lambda _: None) -> Generator[PlacedRow]:
    """A file's rows, one after the other, unpacked where it is gzipped, whatever its name says.

    Args:
        on_position: told at each row how many bytes of the file are read.

    Raises:
        ValueError: the file cannot be opened or unpacked, or something in it is no row; names the file and the place.
    """
    reader = reader_of(path)
    assert reader is not None
    try:
        with path.open("rb") as file:
            packed = file.peek(2)[:2] == _GZIP_MAGIC
            source: Any = io.BufferedReader(gzip.GzipFile(fileobj=file), 1 << 20) if packed else file
            for placed in reader(source, str(path)):
                on_position(file.tell())
                yield placed
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be unpacked ({error}); it is damaged or cut off, copy it again.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from error


def rows_of(path: Path, what: str) -> list[PlacedRow]:
    """All rows of a file that a user named, in memory.

    Args:
        what: names the file in an error, as "the questions".

    Raises:
        ValueError: there is no such file, its name does not say its format, or as `rows_in`.
    """
    if reader_of(existing_file(path, what)) is None:
        raise ValueError(f"{what} {path}: files of rows end in {format_endings()}; rename it, or save it as one.")
    return list(rows_in(path))
