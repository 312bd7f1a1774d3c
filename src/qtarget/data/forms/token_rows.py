"""Rows that hold token ids, checked: whole numbers, and as many of each column as there are tokens."""

import math
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qtarget.data.bad_rows.faults import RowFault, kind_of, shown
from qtarget.data.weights.spans import NONE_BELOW_ZERO
from qtarget.data.weights.token_weight import WEIGHT

MASKS = ("completion_mask", "assistant_masks", "attention_mask")
BESIDE = ("labels", *MASKS, "position_ids", WEIGHT)
"""Columns with a value for each token of `input_ids`."""


def read_tokens(row: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing: rows of tokens are taken as they are.

    Raises:
        RowFault: `input_ids` are no token ids, or another column is not one value of its kind for each of them.
    """
    ids = _values(row.get("input_ids"), "input_ids")
    if not ids:
        raise RowFault("empty list", "input_ids", "is empty, and a row has tokens")
    _check_whole(ids, "input_ids")
    for column in BESIDE:
        if column in row:
            _check_beside(_values(row[column], column), column, len(ids))
    return {}


class TokenLook:
    """Looks at a whole batch of rows of tokens at once, and at single rows only where it is not plainly right."""

    def __call__(self, table: pa.Table) -> dict[str, list[Any]]:
        suspects = np.flatnonzero(_suspects(table))
        faults: list[str | None] = [None] * len(table)
        for index in suspects:
            try:
                read_tokens(table.slice(int(index), 1).to_pylist()[0])
            except RowFault as fault:
                faults[int(index)] = fault.as_text()
        return {"fault": faults, "changes": [False] * len(table), "rich": [False] * len(table)}


def _suspects(table: pa.Table) -> np.ndarray:
    """Rows that may be wrong: all of the batch where a value is, those of another length where only lengths are."""
    lengths = {column: _lengths(table, column) for column in ("input_ids", *BESIDE) if column in table.column_names}
    wrong = lengths["input_ids"] <= 0
    for column, counts in lengths.items():
        wrong = wrong | (counts != lengths["input_ids"]) | _holds_oddities(table.column(column), column)
    return wrong


def _lengths(table: pa.Table, column: str) -> np.ndarray:
    """How many values each row has; -1 for null, and where the column holds no lists."""
    values = table.column(column)
    if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
        return np.full(len(table), -1)
    return pc.fill_null(pc.list_value_length(values), -1).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]


def _holds_oddities(values: pa.ChunkedArray, column: str) -> bool:
    if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
        return True
    flat = pc.list_flatten(values)  # pyright: ignore[reportAttributeAccessIssue]
    if column == WEIGHT:
        return flat.null_count > 0 or not bool(np.all(np.isfinite(_numbers(flat)) & (_numbers(flat) >= 0)))
    if flat.null_count or not pa.types.is_integer(flat.type):
        return True
    return column in MASKS and not bool(np.isin(flat.to_numpy(), [1] if column == "attention_mask" else [0, 1]).all())


def _numbers(flat: Any) -> np.ndarray:
    is_number = pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type)
    return flat.to_numpy().astype(float) if is_number else np.array([math.nan])


def _values(value: Any, column: str) -> list[Any]:
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, list | tuple):
        raise RowFault(
            "null" if value is None else "no list of tokens",
            column,
            f"holds {kind_of(value)}, and a list with a value for each token is expected",
        )
    return list(value)


def _check_whole(values: list[Any], column: str) -> None:
    for value in values:
        try:
            if isinstance(value, bool) and column not in MASKS:
                raise TypeError
            operator.index(value)
        except TypeError:
            raise RowFault(
                f"{column} that are not whole numbers", column, f"holds {shown(value)}, and whole numbers are expected"
            ) from None


def _check_beside(values: list[Any], column: str, tokens: int) -> None:
    if len(values) != tokens:
        raise RowFault(
            f"{column} of another length than input_ids",
            column,
            f"has {len(values)} values for {tokens} tokens in `input_ids`, and one for each is expected",
        )
    if column == WEIGHT:
        _check_weights(values)
    else:
        _check_whole(values, column)
    if column in MASKS:
        _check_mask(values, column)


def _check_weights(values: list[Any]) -> None:
    if wrong := [value for value in values if not _is_weight(value)]:
        first = wrong[0]
        is_below = isinstance(first, int | float) and first < 0
        raise RowFault(
            f"no weight in {WEIGHT}",
            WEIGHT,
            f"holds {shown(first)}, and weights are finite numbers >= 0",
            f"{NONE_BELOW_ZERO}." if is_below else "",
        )


def _check_mask(values: list[Any], column: str) -> None:
    if wrong := [value for value in values if value not in (0, 1)]:
        raise RowFault(f"no mask in {column}", column, f"holds {shown(wrong[0])}, and a mask holds 0 and 1")
    if column == "attention_mask" and 0 in values:
        raise RowFault(
            "padded tokens", column, "holds a 0, and rows come without padding", "Cut the padding off every column."
        )


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and value >= 0 and math.isfinite(value)
