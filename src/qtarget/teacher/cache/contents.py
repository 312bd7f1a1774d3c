"""What a cache is to hold, and the key that tells it from every other cache."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch

from qtarget.teacher.distributions import Keep
from qtarget.teacher.documents import Document

VERSION = 1
CACHE_DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class CacheOrigin:
    """What the rows and the teacher's answers were made with. Identities are those of `qtarget.models.identity`.

    Attributes:
        tokenizer, chat_template, teacher: identities.  truncation: the settings that cut or pack rows.
        compute_dtype: the dtype the teacher computed in, with its quantisation.
        vocabulary: tokens that the teacher's distribution is over.
        entropy: "lower bound" where the teacher's own is not known; None where it is, then no part of the key.
    """

    tokenizer: str
    chat_template: str
    truncation: str
    teacher: str
    compute_dtype: str
    vocabulary: int
    entropy: str | None = None


@dataclass(frozen=True)
class CachePlan:
    """What a cache is to hold.

    Attributes:
        parts: everything in which one cache may differ from another, by name; the key is a hash of it.
        shards: the documents of each shard.
    """

    parts: dict[str, Any]
    shards: list[list[Document]]

    @property
    def keep(self) -> Keep:
        return keep_of(self.parts)

    @property
    def key(self) -> str:
        return key_of(self.parts)

    @property
    def tokens(self) -> int:
        return sum(tokens_in(shard) for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes of the cache on disk, as `stored_bytes`."""
        return stored_bytes(self.shards, self.parts["k"], self.parts["storage_dtype"])


def plan_cache(
    documents: Iterable[Document],
    origin: CacheOrigin,
    keep: Keep,
    *,
    storage_dtype: Literal["float16", "float32"] = "float16",
    shard_tokens: int = 65536,
) -> CachePlan:
    """The plan of a cache about documents: each stands once, in the order of their digests.

    Args:
        storage_dtype: of the log-probabilities. float16 rounds ln t by at most 1 part in 2048: a probability of
            e^-10 by 0.5 %, one of 1/2 by 0.03 %.
        shard_tokens: supervised tokens after which a shard is closed; a run that is killed loses at most one shard.
    """
    if storage_dtype not in CACHE_DTYPES:
        raise ValueError(f"storage_dtype is {storage_dtype!r}; expected one of {', '.join(CACHE_DTYPES)}.")
    shards = cut_into_shards(documents, shard_tokens)
    parts = {
        "rows": hashlib.sha256(b"".join(document.digest for shard in shards for document in shard)).hexdigest(),
        **{name: value for name, value in asdict(origin).items() if value is not None},
        "k": min(keep.k, origin.vocabulary),
        "how": keep.how,
        "temperature": float(keep.temperature),
        "storage_dtype": storage_dtype,
        "shard_tokens": shard_tokens,
        "format": VERSION,
    }
    return CachePlan(parts, shards)


def cut_into_shards(documents: Iterable[Document], shard_tokens: int) -> list[list[Document]]:
    """The documents of each shard: each stands once, in the order of their digests.

    Raises:
        ValueError: there is none.
    """
    unique = {document.digest: document for document in documents}
    if not unique:
        raise ValueError("No row has a supervised token, so there is nothing to ask the teacher about.")
    ordered = [unique[digest] for digest in sorted(unique)]
    asked = np.cumsum([0, *(int(document.asked.sum()) for document in ordered)])[:-1]
    firsts = np.flatnonzero(np.diff(asked // shard_tokens, prepend=-1))
    bounds = [*firsts.tolist(), len(ordered)]
    return [ordered[start:stop] for start, stop in pairwise(bounds)]


def tokens_in(documents: Iterable[Document]) -> int:
    """Supervised tokens in documents."""
    return sum(int(document.asked.sum()) for document in documents)


def bytes_per_token(k: int, storage_dtype: str) -> int:
    """Bytes that a supervised token takes on disk when K tokens are kept."""
    return 14 + k * (4 + CACHE_DTYPES[storage_dtype].itemsize)


def stored_bytes(shards: Sequence[Sequence[Document]], k: int, storage_dtype: str) -> int:
    """Bytes of the tensors of all shards; a shard's header and the files beside it, about a kilobyte, come on top."""
    documents = sum(len(shard) for shard in shards)
    per_token = bytes_per_token(k, storage_dtype)
    return sum(tokens_in(shard) for shard in shards) * per_token + 24 * documents + 8 * len(shards)


def keep_of(parts: Mapping[str, Any]) -> Keep:
    """What the cache of these parts keeps of each distribution."""
    return Keep(parts["k"], parts["how"], parts["temperature"])


def key_of(parts: Mapping[str, Any]) -> str:
    """sha256 over the parts, which names the cache."""
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()


def changed_parts(cached: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The parts in which a cache differs from what is wanted, each in words with both values."""
    return [
        f"{name.replace('_', ' ')}: {_short(cached.get(name))} in the cache, {_short(value)} now"
        for name, value in wanted.items()
        if cached.get(name) != value
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text
