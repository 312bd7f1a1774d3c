"""The token ids of some documents of a cache, beside its shards: by them its teacher can be asked again.

    rows.json    of the first documents their token ids, and which of them are asked about, as a text of 0 and 1

Documents stand in the order of their digests, so the first are drawn at random. The shards name each by the digest of
what it holds, so other rows are found nowhere.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from qtarget.disk.files import read_json_object
from qtarget.teacher.cache.format import to_json
from qtarget.teacher.documents import Document

SOME_ROWS = "rows.json"
MOST_ROWS, MOST_TOKENS = 256, 65536
"""Documents that are kept, at most, and their tokens: half a megabyte."""
_REMEDY = "delete it, and start the command that wrote the cache again, which adds it and asks nothing anew"


def some_rows(shards: Sequence[Sequence[Document]]) -> bytes:
    """The first documents of a cache, as the file holds them; one at least."""
    first = list(islice((document for shard in shards for document in shard), MOST_ROWS))
    tokens = np.cumsum([len(document.ids) for document in first])
    first = first[: max(1, int((tokens <= MOST_TOKENS).sum()))]
    return to_json({"rows": [{"ids": _joined(document.ids), "asked": _digits(document.asked)} for document in first]})


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
        return [_document(row) for row in read_json_object(path, _REMEDY, ("rows",))["rows"][:rows]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); {_REMEDY}.") from error


def _joined(ids: np.ndarray) -> str:
    return " ".join(map(str, ids.tolist()))


def _digits(asked: np.ndarray) -> str:
    return "".join("1" if each else "0" for each in asked)


def _document(row: dict[str, str]) -> Document:
    ids, asked = np.array(row["ids"].split(), np.int32), np.array([digit == "1" for digit in row["asked"]])
    return Document(ids, asked)
