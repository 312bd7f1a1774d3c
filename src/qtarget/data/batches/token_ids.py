"""Whether the model has an embedding for every token id in its rows. On a GPU, one without stops the process."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from qtarget.data.asker import Asker
from qtarget.outcomes import UnusableRow
from qtarget.target.types import IGNORED


def checked_ids(rows: Any, key: str, embeddings: int, tokenizer: PreTrainedTokenizerBase, asker: Asker) -> Any:
    """Prepared rows, after a check that none has a token id outside of the model's embeddings.

    Args:
        rows: a data set with `input_ids` and `labels`, or several by name; of a stream each row is checked as it comes.
        key: the configuration's name for it, for errors.  embeddings: how many the model has.

    Raises:
        UnusableRow: naming the first such row and token.
    """
    check = partial(_error, embeddings=embeddings, tokenizer=tokenizer, asker=asker)
    if isinstance(rows, dict):
        return {n: checked_ids(part, f"{key}[{n!r}]", embeddings, tokenizer, asker) for n, part in rows.items()}
    if isinstance(rows, IterableDataset):
        return rows.map(partial(_checked_row, key=key, embeddings=embeddings, error=check), with_indices=True)
    if isinstance(rows, Dataset):
        _check_set(rows, key, embeddings, check)
    return rows


def _checked_row(row: dict[str, Any], index: int, key: str, embeddings: int, error: Callable) -> dict[str, Any]:
    for column in ("input_ids", "labels"):
        ids = np.array(row.get(column, []))
        if not _inside(ids, column, embeddings):
            token = next(token for token in ids.tolist() if not _inside(np.array(token), column, embeddings))
            raise error(index, token, column, key)
    return row


def _check_set(rows: Dataset, key: str, embeddings: int, error: Callable) -> None:
    for column in ("input_ids", "labels"):
        if not all(
            _inside(chunk.flatten().to_numpy(), column, embeddings) for chunk in rows.data.column(column).chunks
        ) and (outside := _first_outside(rows, column, embeddings)):
            raise error(*outside, column, key)


def _inside(ids: np.ndarray, column: str, embeddings: int) -> bool:
    masked = (ids == IGNORED) & (column == "labels")
    return bool((masked | ((ids >= 0) & (ids < embeddings))).all())


def _first_outside(rows: Dataset, column: str, embeddings: int) -> tuple[int, int] | None:
    """Row and id of the first token without an embedding; None where only filtered-out rows have one."""
    for row, ids in enumerate(rows[column]):
        for token in ids:
            if not _inside(np.array(token), column, embeddings):
                return row, token
    return None


def _error(
    row: int,
    token: int,
    column: str,
    key: str,
    embeddings: int,
    tokenizer: PreTrainedTokenizerBase,
    asker: Asker,
) -> UnusableRow:
    text = f" ({tokenizer.decode([token])!r})" if 0 <= token < len(tokenizer) else ""
    resize = ", or resize the model's embeddings with `model.resize_token_embeddings`" * (asker is Asker.PYTHON)
    return UnusableRow(
        f"`{key}`, prepared row {row + 1}: {column} holds {token}{text}, and the model has tokens 0 to "
        f"{embeddings - 1} (its tokenizer knows {len(tokenizer)}). Use the tokenizer that belongs to the model{resize}."
    )
