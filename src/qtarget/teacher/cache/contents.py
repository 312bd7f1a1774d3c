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

FIXED, RAGGED = 1, 2
"""Formats: as many tokens kept everywhere, in tensors; as many as their mass asks for, packed by `ragged`."""
MOST_KEPT = 256
"""Tokens kept by their mass at the most, where nothing else is asked for."""
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
class ByMass:
    """How many tokens are kept of a distribution: the likeliest, until their mass is 1 − `missing` or more.

    Attributes:
        missing: ε, in (0, 1).
        min_k, max_k: at least and at most so many, the default being no more than the vocabulary has. The label is kept
            besides, where it is not among them and less than `max_k` are.

    Raises:
        ValueError: numbers that make no sense.
    """

    missing: float
    min_k: int = 1
    max_k: int = MOST_KEPT

    def __post_init__(self) -> None:
        if not 0 < self.missing < 1:
            raise ValueError(
                f"the mass that may be missing is {self.missing:g}; expected a number between 0 and 1, as in "
                "`cache_missing_mass: 0.01`."
            )
        if not 1 <= self.min_k <= self.max_k:
            raise ValueError(
                f"{self.min_k} tokens at least and {self.max_k} at most are to be kept; expected 1 ≤ `cache_min_k` ≤ "
                "`cache_max_k`."
            )


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
    def by_mass(self) -> ByMass | None:
        return by_mass_of(self.parts)

    @property
    def vocabulary(self) -> int:
        return self.parts["vocabulary"]

    @property
    def key(self) -> str:
        return key_of(self.parts)

    @property
    def tokens(self) -> int:
        return sum(tokens_in(shard) for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes of the cache on disk, as `stored_bytes`; at the most, where they depend on what the teacher says."""
        most = self.by_mass and packed_bytes_at_most(self.parts["k"], self.parts["storage_dtype"], self.vocabulary)
        return stored_bytes(self.shards, self.parts["k"], self.parts["storage_dtype"], most)


def plan_cache(
    documents: Iterable[Document],
    origin: CacheOrigin,
    keep: Keep,
    *,
    storage_dtype: Literal["float16", "float32"] = "float16",
    shard_tokens: int = 65536,
    by_mass: ByMass | None = None,
) -> CachePlan:
    """The plan of a cache about documents: each stands once, in the order of their digests.

    Args:
        storage_dtype: of the log-probabilities. float16 rounds ln t by at most 1 part in 2048: a probability of
            e^-10 by 0.5 %, one of 1/2 by 0.03 %.
        shard_tokens: supervised tokens after which a shard is closed; a run that is killed loses at most one shard.
        by_mass: keep as many tokens as their mass asks for, instead of `keep.k`; None for these. Where the label alone
            is kept it changes nothing.

    Raises:
        ValueError: there is no document, or `by_mass` does not fit what is kept.
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
        "format": FIXED,
    }
    if by_mass is not None and keep.k:
        parts |= _parts_by_mass(by_mass, keep, origin.vocabulary)
    return CachePlan(parts, shards)


def _parts_by_mass(by_mass: ByMass, keep: Keep, vocabulary: int) -> dict[str, Any]:
    """What is other in the parts. One token of the vocabulary is always left out, whose mass is then that of the rest:
    so a cache of this format says for itself that it may hold less than everything."""
    check_by_mass(by_mass, keep.how, vocabulary)
    most = min(by_mass.max_k, vocabulary - 1)
    return {"k": most, "min_k": min(by_mass.min_k, most), "missing_mass": by_mass.missing, "format": RAGGED}


def check_by_mass(by_mass: ByMass, how: str, vocabulary: int) -> None:
    """Refuse draws, which have no likeliest, and more tokens than there are."""
    if how == "sampled":
        raise ValueError(
            "draws of the teacher are kept as they fall, so their mass says nothing; write `cache_sampled: true` or "
            "`cache_missing_mass`, not both."
        )
    if by_mass.max_k > vocabulary and by_mass.max_k != MOST_KEPT:
        raise ValueError(
            f"`cache_max_k: {by_mass.max_k}` is more than the {vocabulary:,} tokens of the vocabulary; write at most "
            f"`cache_max_k: {vocabulary}`."
        )


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


def packed_bytes_at_most(k: int, storage_dtype: str, vocabulary: int) -> int:
    """Bytes that a token takes at the most where K tokens at most are kept by their mass: as if nothing could be
    compressed."""
    id_bytes, number = (vocabulary - 1).bit_length() + 7, CACHE_DTYPES[storage_dtype].itemsize
    return 2 * (1 if k <= 256 else 4) + 2 + 2 * number + k * (id_bytes // 8 + number)


def stored_bytes(
    shards: Sequence[Sequence[Document]], k: int, storage_dtype: str, per_token: float | None = None
) -> int:
    """Bytes of the tensors of all shards; a shard's header and the files beside it, about a kilobyte, come on top.

    Args:
        per_token: bytes of a token where tokens are kept by their mass; None for `bytes_per_token`.
    """
    documents = sum(len(shard) for shard in shards)
    tokens = sum(tokens_in(shard) for shard in shards)
    if per_token is not None:
        return round(tokens * per_token) + 52 * documents + 16 * len(shards)
    return tokens * bytes_per_token(k, storage_dtype) + 24 * documents + 8 * len(shards)


def keep_of(parts: Mapping[str, Any]) -> Keep:
    """What the cache of these parts keeps of each distribution."""
    return Keep(parts["k"], parts["how"], parts["temperature"])


def by_mass_of(parts: Mapping[str, Any]) -> ByMass | None:
    """The rule by which the cache of these parts keeps tokens; None where it keeps as many everywhere."""
    if parts["format"] != RAGGED:
        return None
    return ByMass(parts["missing_mass"], parts["min_k"], parts["k"])


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
