"""Columns of rows, each of one type: text stays text, and objects are kept as they were written.

Arrow gives all objects of a column the same fields, in one order, and null where one was missing. Objects of rows are
messages and arguments of tools, where that would change what is learned, so they are kept as `datasets.Json`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Features

from qtarget.console import printable
from qtarget.data.json_lines import PlacedRow, kind_of_value

_NO_TYPE = (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError)


@dataclass
class ColumnTypes:
    """The types of the columns of the rows seen so far.

    Attributes:
        types: of each column, in the order in which they came.
        first: of each column the kind of its first value that is not null, and the file and place of that.
    """

    types: dict[str, pa.DataType] = field(default_factory=dict)
    first: dict[str, tuple[str, Path, str]] = field(default_factory=dict)

    @property
    def features(self) -> Features:
        """The columns as `datasets` describes them."""
        return Features.from_arrow_schema(pa.schema(self.types))

    def take(self, path: Path, rows: Sequence[PlacedRow]) -> dict[str, pa.Array]:
        """The columns of some rows of a file; `types` is widened where they need it.

        Raises:
            ValueError: a column has values of two types; names the file, the row and the column.
        """
        names = dict.fromkeys(name for placed in rows for name in placed.row)
        return {name: self._column(path, rows, name) for name in names}

    def _column(self, path: Path, rows: Sequence[PlacedRow], name: str) -> pa.Array:
        values = [placed.row.get(name) for placed in rows]
        self._note_first(path, rows, name)
        known = self.types.get(name, pa.null())
        try:
            array = _array(values)
            self.types[name] = common_type(known, array.type)
            return array
        except _NO_TYPE as error:
            raise self._misfit(path, rows, name, error) from error

    def _note_first(self, path: Path, rows: Sequence[PlacedRow], name: str) -> None:
        if name in self.first:
            return
        filled = next((placed for placed in rows if placed.row.get(name) is not None), None)
        if filled is not None:
            self.first[name] = (kind_of_value(filled.row[name]), path, filled.place)

    def _misfit(self, path: Path, rows: Sequence[PlacedRow], name: str, error: Exception) -> ValueError:
        """The error for the first value that has not the column's type."""
        known, kept = self.types.get(name, pa.null()), self.first[name]
        shown = printable(name)
        first = f"on {kept[2]}" if kept[1] == path else f"in {kept[1]}, {kept[2]},"
        for placed in rows:
            value = placed.row.get(name)
            if value is not None and kind_of_value(value) != kept[0]:
                return ValueError(
                    f"{path}, {placed.place}: `{shown}` is {kind_of_value(value)}, and {first} it is {kept[0]}; give "
                    "a column one type."
                )
            try:
                known = common_type(known, _array([value]).type)
            except _NO_TYPE as reason:
                return ValueError(
                    f"{path}, {placed.place}: `{shown}` holds values of another type than {first} "
                    f"({printable(str(reason), 120)}); give a column one type."
                )
        return ValueError(f"{path}: `{shown}` cannot be a column ({printable(str(error), 120)}).")


def filled_column(column: pa.Array | None, kind: pa.DataType, rows: int) -> pa.Array:
    """A column in its final type; nulls where these rows have none."""
    return pa.nulls(rows, kind) if column is None else column if column.type == kind else column.cast(kind)


def _array(values: list[Any]) -> pa.Array:
    depth = _depth_of_objects(values)
    if not isinstance(depth, int):
        return pa.array(values)
    text, kind = pa.string(), pa.json_()
    for _ in range(depth - 1):
        text, kind = pa.list_(text), pa.list_(kind)
    return pa.array(_as_json(values, depth), text).cast(kind)


def _depth_of_objects(value: Any) -> int | str | None:
    """How many lists deep the first thing that is no list stands, if it is an object; "scalar" for another thing, None
    where there is nothing."""
    if isinstance(value, dict):
        return 0
    if not isinstance(value, list):
        return None if value is None else "scalar"
    inner = next((depth for depth in map(_depth_of_objects, value) if depth is not None), None)
    return inner + 1 if isinstance(inner, int) else inner


def _as_json(value: Any, depth: int) -> Any:
    if value is None:
        return None
    if depth:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, got {kind_of_value(value)}")
        return [_as_json(each, depth - 1) for each in value]
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, got {kind_of_value(value)}")
    return json.dumps(value, ensure_ascii=False, default=str)


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that holds values of both: null widens to anything, whole numbers to fractions, objects to JSON.

    Raises:
        TypeError: there is none.
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(common_type(one.value_type, other.value_type))
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if {one, other} == {pa.string(), pa.large_string()}:
        return pa.large_string()
    if pa.json_() in (one, other) and (pa.types.is_struct(one) or pa.types.is_struct(other)):
        return pa.json_()
    raise TypeError(f"expected {one}, got {other}")
