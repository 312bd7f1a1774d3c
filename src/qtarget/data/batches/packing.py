"""Truncation and packing that keep every per-token column in step with `input_ids`.

The orders and strategies are TRL's own; TRL applies them to `input_ids` and `labels` alone.
"""

from collections.abc import Sequence
from typing import Any

from trl.data_utils import pack_dataset

from qtarget.data.columns import AnyDataset
from qtarget.target.types import IGNORED


def truncate_rows(
    dataset: AnyDataset, max_length: int, mode: str, columns: Sequence[str], **map_kwargs: Any
) -> AnyDataset:
    """Cut `columns` to `max_length` tokens from the start or the end, then drop rows left without a label.

    Args:
        max_length: tokens.
        mode: `"keep_start"` or `"keep_end"`.
        columns: those with one entry per token, `labels` among them.
    """
    stretch = {"keep_start": slice(None, max_length), "keep_end": slice(-max_length, None)}.get(mode)
    if stretch is None:
        raise ValueError(f"truncation_mode is {mode!r}; expected 'keep_start' or 'keep_end'.")
    cut = dataset.map(_cut, fn_kwargs={"kept": stretch, "columns": list(columns)}, **map_kwargs)
    return cut.filter(_has_label, **map_kwargs)


def pack_rows(
    dataset: AnyDataset,
    max_length: int | None,
    strategy: str,
    columns: Sequence[str],
    *,
    shuffle_seed: int | None = None,
    **map_kwargs: Any,
) -> AnyDataset:
    """Lay rows end to end in blocks of `max_length` tokens, every one of `columns` alike.

    Args:
        strategy: `"bfd"`, `"bfd_split"` or `"wrapped"`, as in `trl.pack_dataset`.
        shuffle_seed: shuffle the rows first with this seed; None keeps their order.
    """
    if max_length is None:
        raise ValueError("packing=True needs max_length (tokens in a block), as in `max_length: 1024`.")
    rows = dataset.select_columns(list(columns))
    if shuffle_seed is not None:
        rows = rows.shuffle(seed=shuffle_seed)
    return pack_dataset(rows, max_length, strategy, map_kwargs)  # pyright: ignore[reportArgumentType]


def _cut(row: dict[str, Any], kept: slice, columns: list[str]) -> dict[str, Any]:
    return {column: row[column][kept] for column in columns}


def _has_label(row: dict[str, Any]) -> bool:
    return any(label != IGNORED for label in row["labels"])
