"""Whether the model has an embedding for every token id in its rows. On a GPU, one without stops the process."""

from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qtarget.target.types import IGNORED


def check_ids(rows: Any, key: str, embeddings: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse prepared rows with a token id outside of the model's embeddings, naming the first.

    Args:
        rows: a data set with `input_ids` and `labels`, or several by name; streams are not checked.
        key: the configuration's name for it, for errors.  embeddings: how many the model has.
    """
    if isinstance(rows, dict):
        for name, part in rows.items():
            check_ids(part, f"{key}[{name!r}]", embeddings, tokenizer)
    elif isinstance(rows, Dataset):
        _check_set(rows, key, embeddings, tokenizer)


def _check_set(rows: Dataset, key: str, embeddings: int, tokenizer: PreTrainedTokenizerBase) -> None:
    for column in ("input_ids", "labels"):
        if not all(
            _inside(chunk.flatten().to_numpy(), column, embeddings) for chunk in rows.data.column(column).chunks
        ) and (outside := _first_outside(rows, column, embeddings)):
            raise ValueError(_outside(*outside, column, key, embeddings, tokenizer))


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


def _outside(row: int, token: int, column: str, key: str, embeddings: int, tokenizer: PreTrainedTokenizerBase) -> str:
    text = f" ({tokenizer.decode([token])!r})" if 0 <= token < len(tokenizer) else ""
    return (
        f"`{key}`, prepared row {row}: {column} holds {token}{text}, and the model has tokens 0 to {embeddings - 1} "
        f"(its tokenizer knows {len(tokenizer)}). Use the tokenizer that belongs to the model, or resize the model's "
        "embeddings with `model.resize_token_embeddings`."
    )
