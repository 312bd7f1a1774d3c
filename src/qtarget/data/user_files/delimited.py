"""Rows of CSV and TSV files. Every cell is text, as it stands in the file: "1", "NA" and "" are no numbers or nulls."""

import codecs
import csv
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from qtarget.console import printable
from qtarget.data.json_lines import PlacedRow


def csv_rows(file: BinaryIO, name: str) -> Iterator[PlacedRow]:
    """The rows of a file whose cells are separated by commas. Its first line names the columns.

    Args:
        file: open for reading.
        name: of the file, for error messages.

    Raises:
        ValueError: a row has more or fewer cells than there are columns, or the file is no CSV; with file and line.
    """
    return _rows(file, name, ",")


def tsv_rows(file: BinaryIO, name: str) -> Iterator[PlacedRow]:
    """The rows of a file whose cells are separated by tabs; otherwise as `csv_rows`."""
    return _rows(file, name, "\t")


def _rows(file: BinaryIO, name: str, delimiter: str) -> Iterator[PlacedRow]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a cell may hold a whole document
    lines: Any = codecs.iterdecode(_checked_lines(file, name), "utf-8-sig")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    columns: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not columns and cells:
                columns = _columns(cells, f"{name}, line {line}", delimiter)
            elif cells:
                yield PlacedRow(f"line {line}", _row(columns, cells, f"{name}, line {line}"))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{name}, line {line}: these are no cells separated by {_NAMES[delimiter]} ({error}); a cell with a "
            'quote, a separator or a line end stands in quotes, with its own quotes doubled: "he said ""yes"""'
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}, line {reader.line_num + 1}: not UTF-8; save the file as UTF-8.") from error


_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons"}


def _checked_lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    start = file.readline()
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{name}: the text is UTF-16; save the file as UTF-8.")
    if b"\0" in start:
        raise ValueError(f"{name} is no text, it holds zero bytes; name a file of rows.")
    yield start
    yield from file


def _columns(cells: list[str], place: str, delimiter: str) -> list[str]:
    """The names of the columns. One without a name is named as pandas does, which writes its index so."""
    names = [cell.strip() or f"Unnamed: {index}" for index, cell in enumerate(cells)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{place}: two columns are named `{printable(twice)}`; rename one.")
    other = next((sign for sign in _NAMES if sign != delimiter and sign in names[0]), None)
    if len(names) == 1 and other is not None:
        ending = " or name it .tsv" if other == "\t" else " or name it .csv" if other == "," else ""
        raise ValueError(
            f"{place}: the columns are separated by {_NAMES[other]}, not by {_NAMES[delimiter]}; save the file with "
            f"{_NAMES[delimiter]}{ending}."
        )
    return names


def _row(columns: list[str], cells: list[str], place: str) -> dict[str, str]:
    if len(cells) != len(columns):
        raise ValueError(
            f"{place}: {len(cells)} cells for {len(columns)} columns ({printable(', '.join(columns))}); put a cell "
            "that holds a separator or a line end in quotes."
        )
    return dict(zip(columns, cells, strict=True))
