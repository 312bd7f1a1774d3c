"""The token ids of some documents of a cache, beside its shards: by them its teacher can be asked again.

    rows.safetensors    `ids` [N] int32 and `asked` [N] bool of the first documents end to end; `lengths` [D] int32

Documents stand in the order of their digests, so the first are drawn at random. The shards name each by the digest of
what it holds, so ids that were changed are found nowhere.
"""

from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from qtarget.teacher.documents import Document

SOME_ROWS = "rows.safetensors"
MOST_ROWS, MOST_TOKENS = 256, 65536
"""Documents that are kept, at most, and their tokens: a quarter of a megabyte."""


def some_rows(shards: Sequence[Sequence[Document]]) -> bytes:
    """The first documents of a cache, as the file holds them; one at least."""
    first = list(islice((document for shard in shards for document in shard), MOST_ROWS))
    tokens = np.cumsum([len(document.ids) for document in first])
    first = first[: max(1, int((tokens <= MOST_TOKENS).sum()))]
    return save(
        {
            "ids": torch.from_numpy(np.concatenate([document.ids for document in first])),
            "asked": torch.from_numpy(np.concatenate([document.asked for document in first])),
            "lengths": torch.tensor([len(document.ids) for document in first], dtype=torch.int32),
        }
    )


def read_some_rows(folder: Path, rows: int) -> list[Document]:
    """The first `rows` documents of a cache, or all that are kept.

    Raises:
        ValueError: the file is missing, as in caches of before there was one, or damaged.
    """
    path = folder / SOME_ROWS
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no {SOME_ROWS}, so the token ids of its rows are not known; start the command that wrote "
            "it again (`qtarget teacher cache config.yaml`), which adds it and asks nothing anew."
        )
    try:
        tensors = {name: value.numpy() for name, value in load(path.read_bytes()).items()}
        ids, asked = tensors["ids"], tensors["asked"]
        bounds = np.cumsum([0, *tensors["lengths"][:rows]])
        if ids.dtype != np.int32 or asked.dtype != np.bool_ or len(ids) != len(asked) or bounds[-1] > len(ids):
            raise ValueError("its tensors do not fit together")
        return [Document(ids[start:stop], asked[start:stop]) for start, stop in pairwise(bounds.tolist())]
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); delete it, and start the command that wrote the cache again."
        ) from error
