"""Files of JSON rows, checked row by row, so that an error names the line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def check_json(path: Path) -> None:
    """Refuse a file of rows that is not JSON lines, or a JSON array, of objects whose columns keep one type.

    Raises:
        ValueError: naming the file and the line (of an array: the row).
    """
    kinds: dict[str, tuple[str, str]] = {}
    rows = 0
    for where, row in _rows(path):
        rows += 1
        for column, value in _object(path, where, row).items():
            _check_kind(f"{path}, {where}", column, value, where, kinds)
    if not rows:
        raise ValueError(
            f'{path} has no rows; write one JSON object a line, as in {{"prompt": "…", "completion": "…"}}'
        )


def read_json(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, or of one JSON array of objects. A byte-order mark is no part of them.

    Raises:
        ValueError: naming the file and the line (of an array: the row).
    """
    return [_object(path, where, row) for where, row in _rows(path)]


def _check_kind(place: str, column: str, value: Any, where: str, kinds: dict[str, tuple[str, str]]) -> None:
    if value is None:
        return
    kind, first = kinds.setdefault(column, (_kind(value), where))
    if kind != _kind(value):
        raise ValueError(f"{place}: `{column}` is {_kind(value)}, and on {first} it is {kind}; give a column one type.")


def _object(path: Path, where: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f'{path}, {where}: a row is an object like {{"prompt": …}}, and this is {_kind(row)}.')
    return row


def _kind(value: Any) -> str:
    return "null" if value is None else KINDS[type(value)]


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        file.seek(0)
        if start.startswith(b"["):
            array = _parsed(path, 1, file.read())
            yield from ((f"row {index}", row) for index, row in enumerate(array))
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"line {number}", _parsed(path, number, line)


def _parsed(path: Path, line: int, raw: bytes) -> Any:
    try:
        row = json.loads(raw.decode("utf-8-sig" if line == 1 else "utf-8").rstrip())
        if b"\\ud" in raw.lower():  # escapes can say what UTF-8 cannot
            json.dumps(row, ensure_ascii=False).encode()
        return row
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {line}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8.") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"{path}, line {line}: half of a surrogate pair (\\ud800 to \\udfff); remove it.") from error
    except json.JSONDecodeError as error:
        at = f"line {line + error.lineno - 1}, column {error.colno}"
        raise ValueError(f"{path}, {at}: this is not JSON ({error.msg}): {_shown(raw, error)}") from error


def _shown(raw: bytes, error: json.JSONDecodeError) -> str:
    line = raw.decode(errors="replace").splitlines()[error.lineno - 1].strip()
    return line if len(line) <= 60 else f"{line[:60]}…"
