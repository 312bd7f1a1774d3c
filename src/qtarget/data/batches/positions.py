"""Whether a model has positions for its longest rows. Where they are a table, one more is an IndexError, on a GPU an
assert that stops the process."""

import warnings
from collections.abc import Collection
from typing import Any

from datasets import Dataset, IterableDataset
from torch import nn

from qtarget.data.asker import Asker
from qtarget.data.batches.row_counts import RowCounts, longest_read
from qtarget.data.teacher_prompts.teacher_ids import TEACHER_IDS
from qtarget.outcomes import UnusableRow

TABLE_NAMES = ("wpe", "embed_positions", "position_embedding", "position_embeddings", "pos_embed")
"""Modules and buffers that hold one vector for each position."""


def positions_of(model: nn.Module) -> tuple[int | None, bool]:
    """How many positions a model was made for (None: it does not say), and whether they are a table that ends there."""
    config: Any = getattr(model, "config", None)
    limit = getattr(config, "max_position_embeddings", None)
    named = [*model.named_modules(), *model.named_buffers()]
    sizes = [_rows(part) for name, part in named if name.rsplit(".", 1)[-1] in TABLE_NAMES]
    tables = [size for size in sizes if size is not None and isinstance(limit, int) and size >= limit]
    return (limit if isinstance(limit, int) and limit > 0 else None), bool(tables)


def check_positions(
    rows: Any, counts: RowCounts | None, name: str, model: nn.Module, asker: Asker, limit: int | None
) -> Any:
    """The rows, after a check that the model has positions for the longest of them.

    Args:
        rows: prepared; of a stream each row is checked when it comes.  counts: of a finite set.
        name: of the data set, for errors.  limit: the configuration's `max_length`.

    Raises:
        UnusableRow: a row is longer than a model's table of positions. Beyond the positions that a model was made for
            without a table there is a warning.
    """
    positions, is_table = positions_of(model)
    if positions is None:
        return rows
    text = f"{type(model).__name__} has {positions} positions; write {asker.line('max_length', positions)}, to cut it."
    if isinstance(rows, IterableDataset):
        is_safe = not is_table or (limit is not None and limit <= positions)
        return rows if is_safe else rows.map(_PositionLook(name, positions, text), with_indices=True)
    if counts is None or counts.longest <= positions:
        return rows
    found = f"The longest row of the {name} data set has {counts.longest} tokens, and {text}"
    if is_table:
        raise UnusableRow(found)
    warnings.warn(f"{found} It goes on beyond them, but was not trained to.", stacklevel=2)
    return rows


def check_teacher_positions(rows: Any, name: str, teacher: nn.Module, parts: Collection[str], asker: Asker) -> None:
    """As `check_positions`, of a teacher in memory that reads prompts of its own; a stream's are not looked at ahead.

    Args:
        parts: of rows that give the prompt, by their names in `columns`.

    Raises:
        UnusableRow: it has a table of positions, and reads a document that is longer.
    """
    positions, is_table = positions_of(teacher)
    if positions is None or not isinstance(rows, Dataset) or TEACHER_IDS not in rows.column_names:
        return
    longest = longest_read(rows)
    if longest <= positions:
        return
    found = (
        f"The teacher reads up to {longest} tokens of a row of the {name} data set, its own prompt included, and "
        f"{type(teacher).__name__} has {positions} positions; shorten the "
        f"teacher's prompt, or leave its column unread: write {asker.line('columns', dict.fromkeys(parts))}."
    )
    if is_table:
        raise UnusableRow(found)
    warnings.warn(f"{found} It goes on beyond them, but was not trained to.", stacklevel=2)


def _rows(part: Any) -> int | None:
    """The length of a table: of an embedding, or of a buffer of vectors."""
    if isinstance(part, nn.Embedding):
        return part.num_embeddings
    return None if isinstance(part, nn.Module) or part.dim() < 2 else part.shape[0]


class _PositionLook:
    """Refuses a row of a stream that is too long."""

    def __init__(self, name: str, positions: int, text: str) -> None:
        self.name, self.positions, self.text = name, positions, text

    def __call__(self, row: dict[str, Any], index: int) -> dict[str, Any]:
        longest = max(row.get("seq_lengths") or [len(row["input_ids"])])
        if longest > self.positions:
            raise UnusableRow(f"Row {index + 1} of the {self.name} data set has {longest} tokens, and {self.text}")
        return row
