"""Whether a model has an embedding for every token of its rows: on a GPU, one without stops the whole process."""

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase


def check_ids(rows: Dataset, key: str, embeddings: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse prepared rows with a token id outside of the model's embeddings, naming the first.

    Args:
        rows: with `input_ids` and `labels`.  key: they were given under.  embeddings: rows the model has.
    """
    for column in ("input_ids", "labels"):
        if not all(
            _inside(chunk.flatten().to_numpy(), column, embeddings) for chunk in rows.data.column(column).chunks
        ):
            raise ValueError(_outside(rows, column, key, embeddings, tokenizer))


def _inside(ids: np.ndarray, column: str, embeddings: int) -> bool:
    masked = (ids == -100) & (column == "labels")
    return bool((masked | ((ids >= 0) & (ids < embeddings))).all())


def _outside(rows: Dataset, column: str, key: str, embeddings: int, tokenizer: PreTrainedTokenizerBase) -> str:
    wrong = ((row, ids) for row, ids in enumerate(rows[column]) if not _inside(np.array(ids), column, embeddings))
    row, ids = next(wrong)
    token = next(token for token in ids if not _inside(np.array(token), column, embeddings))
    text = f" ({tokenizer.decode([token])!r})" if 0 <= token < len(tokenizer) else ""
    return (
        f"`{key}`, prepared row {row}: {column} holds {token}{text}, and the model has tokens 0 to {embeddings - 1} "
        f"(its tokenizer knows {len(tokenizer)}). Use the tokenizer that belongs to the model, or resize the model's "
        "embeddings with `model.resize_token_embeddings`."
    )
