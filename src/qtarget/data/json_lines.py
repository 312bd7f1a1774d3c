"""Rows in files of JSON, one object a line or one array of objects, read one after the other with their places."""

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from qtarget.console import printable

KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
LONGEST_LINE = 1 << 28
"""Bytes. A file without line ends is not read into memory whole."""
_PIECE = 1 << 20
"""Characters of an array that are read at once."""
_AS_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_MANY_DIGITS = b"0" * 19


class PlacedRow(NamedTuple):
    """A row, and where it stands in its file: "line 3", in an array or a table "row 2"."""

    place: str
    row: dict[str, Any]


def json_rows(file: BinaryIO, name: str) -> Iterator[PlacedRow]:
    """The rows of JSON lines or of one JSON array of objects, in bounded memory. A byte-order mark is no part of them.

    Args:
        file: open for reading.
        name: of the file, for error messages.

    Raises:
        ValueError: what is no JSON object, with the file and its line.
    """
    start = _start(file)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{name}: the text is UTF-16; save the file as UTF-8.")
    if start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        return _array_rows(_ArrayText(file, name, start[:3] == codecs.BOM_UTF8), name)
    return _line_rows(file, name)


def read_json(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, or of one JSON array of objects.

    Raises:
        ValueError: as `json_rows`.
    """
    with path.open("rb") as file:
        return [placed.row for placed in json_rows(file, str(path))]


def kind_of_value(value: Any) -> str:
    """What a value is, in words: "text", "a number", "a list"."""
    return "null" if value is None else KINDS.get(type(value), f"a {type(value).__name__}")


def _start(file: BinaryIO) -> bytes:
    """The first bytes, which stay to be read."""
    peek: Any = getattr(file, "peek", None)
    if peek is not None:
        return peek(64)
    start = file.read(64)
    file.seek(0)
    return start


def _line_rows(file: BinaryIO, name: str) -> Iterator[PlacedRow]:
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
        if len(line) == LONGEST_LINE:
            raise ValueError(f"{name}, line {number} is longer than {LONGEST_LINE >> 20} MiB; is this a file of rows?")
        if line.strip():
            yield PlacedRow(f"line {number}", _row(_parsed(line, name, number), name, f"line {number}"))


def _row(value: Any, name: str, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(
            f'{name}, {place}: a row is an object like {{"prompt": …}}, and this is {kind_of_value(value)}.'
        )
    return value


def _parsed(raw: bytes, name: str, line: int) -> Any:
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8").strip()
        return _checked(_DECODER.decode(text), raw)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}, line {line}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        at = f"{name}, line {line}, column {error.colno}"
        raise ValueError(f"{at}: this is not JSON ({error.msg}): {printable(error.doc)}") from error
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{name}, line {line}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply to be a row."
    if isinstance(error, UnicodeEncodeError):
        return "half of a surrogate pair (\\ud800 to \\udfff); remove it."
    return str(error)


def _checked(value: Any, raw: bytes) -> Any:
    """The value, if Arrow's tables can hold it: JSON can write halves of characters and numbers of any length."""
    if b"\\ud" in raw or b"\\uD" in raw:
        json.dumps(value, ensure_ascii=False).encode()
    if _MANY_DIGITS in raw.translate(_AS_ZERO):
        _check_numbers(value)
    return value


def _check_numbers(value: Any) -> None:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _check_numbers(each)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{printable(str(value), 24)} is a number beyond 64 bits; write it as text.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"`{printable(twice)}` is written twice in one object; keep one.")
    return fields


def _not_a_number(name: str) -> Any:
    raise ValueError(f"{name} is not a value of JSON; write null or a number.")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_not_a_number)


@dataclass
class _ArrayText:
    """A window on the text of a JSON array: what was read is forgotten.

    Attributes:
        text, at: the window, and the position in it.
        line, column: number of the line at the window's start, and how many of its characters are forgotten.
    """

    file: BinaryIO
    name: str
    marked: bool
    text: str = ""
    at: int = 0
    line: int = 1
    column: int = 0

    def __post_init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8-sig" if self.marked else "utf-8")
        self._decoder, self._ended = decoder(), False

    @property
    def place(self) -> str:
        """The file and the line of the position."""
        return f"{self.name}, line {self.line + self.text.count(chr(10), 0, self.at)}"

    def more(self) -> bool:
        """Read on, at least as much again as was not parsed yet; False at the end."""
        if self._ended:
            return False
        self._forget()
        raw = self.file.read(max(_PIECE, len(self.text) - self.at))
        self._ended = not raw
        try:
            self.text += self._decoder.decode(raw, final=self._ended)
        except UnicodeDecodeError as error:
            line = self.line + self.text.count("\n") + error.object[: error.start].count(b"\n")
            raise ValueError(f"{self.name}, line {line}: not UTF-8; save the file as UTF-8.") from error
        return True

    def _forget(self) -> None:
        """Move the window's start to the position."""
        ends = self.text.count("\n", 0, self.at)
        self.line += ends
        self.column = self.at - self.text.rfind("\n", 0, self.at) - 1 if ends else self.column + self.at
        self.text, self.at = self.text[self.at :], 0

    def next_sign(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            sign = self.text[self.at : self.at + 1]
            if sign and not sign.isspace():
                return sign
            if not sign and not self.more():
                return ""
            self.at += len(sign)

    def value(self) -> Any:
        """The JSON value that begins here."""
        while True:
            try:
                value, stop = _DECODER.raw_decode(self.text, self.at)
                _checked(value, self.text[self.at : stop].encode(errors="replace"))
                self.at = stop
                return value
            except json.JSONDecodeError as error:
                if len(self.text) - self.at > LONGEST_LINE:
                    what = f"a value is longer than {LONGEST_LINE >> 20} MiB; is this a file of rows?"
                    raise ValueError(f"{self.place}: {what}") from error
                if self._may_go_on(error) and self.more():
                    continue
                self.at = error.pos
                raise self.wrong(error.msg) from error
            except (RecursionError, ValueError) as error:
                raise ValueError(f"{self.place}: {_reason(error)}") from error

    def wrong(self, why: str) -> ValueError:
        """The error for what stands at the position."""
        start = self.text.rfind("\n", 0, self.at) + 1
        column = self.at - start + 1 + (0 if start else self.column)
        shown = printable(self.text[start : start + 120].partition("\n")[0].strip())
        return ValueError(f"{self.place}, column {column}: this is not JSON ({why}): {shown}")

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether the value may only be cut off at the window's end."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - 12


def _array_rows(text: _ArrayText, name: str) -> Iterator[PlacedRow]:
    text.next_sign()
    text.at += 1  # the bracket
    for index in _counted_until(text, "]"):
        place = f"row {index + 1}"
        yield PlacedRow(place, _row(text.value(), name, place))
    if text.next_sign():
        raise text.wrong("text after the end of the array")


def _counted_until(text: _ArrayText, end: str) -> Iterable[int]:
    """0, 1, … with the position on each element of the array; behind its end when they are over."""
    index = 0
    while (sign := text.next_sign()) != end or index:
        if index and sign not in (",", end):
            raise text.wrong("Expecting ',' delimiter" if sign else "the array does not end")
        text.at += bool(index)
        if index and sign == end:
            return
        text.next_sign()
        yield index
        index += 1
    text.at += 1
