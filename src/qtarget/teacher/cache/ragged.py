"""As many tokens kept as their mass asks for: rows of different lengths, and one document's rows as bytes.

The bytes of a document with T tokens and N kept in all: N as 4 bytes, and behind it, compressed by zstd, column by
column: how many are kept of each token, less one; the label's place among them; the log mass of the rest; the entropy;
the label's log-probability, where it is not that of its place (at a temperature); ids in as many bytes as the
vocabulary needs; log-probabilities, each as the difference of its bits to those before it, modulo their number. A
column of numbers is stored byte after byte of significance, all lowest bytes first.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from qtarget.teacher.cache.contents import ByMass, by_mass_of
from qtarget.teacher.distributions import KeptLogprobs
from qtarget.teacher.documents import Document

_ZSTD = pa.Codec("zstd", compression_level=9)
_HEAD_BYTES = 4


class RaggedRows(NamedTuple):
    """What was kept of T tokens, N in all, one token's after another's and the likeliest first.

    Attributes:
        counts, places: [T], how many are kept, and where among them the label is.
        ids, logprobs: [N].
        log_tail, label_logprobs, entropy: [T], as of `KeptLogprobs`.
    """

    counts: np.ndarray
    places: np.ndarray
    ids: np.ndarray
    logprobs: np.ndarray
    log_tail: np.ndarray
    label_logprobs: np.ndarray
    entropy: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """Where each token's begin, [T]."""
        return np.cumsum(self.counts) - self.counts

    @property
    def targets(self) -> np.ndarray:
        """The labels, [T]."""
        return self.ids[self.starts + self.places]


class PackedColumns(NamedTuple):
    """What decides how columns are stored: the parts of a cache.

    Attributes:
        count, number: dtypes of counts and places, and of the numbers.
        id_bytes: bytes of an id.
        has_label: whether the label's log-probability is stored.
    """

    count: np.dtype
    number: np.dtype
    id_bytes: int
    has_label: bool
    k: int

    @staticmethod
    def of(parts: Mapping[str, Any]) -> "PackedColumns":
        id_bytes = max((int(parts["vocabulary"]) - 1).bit_length() + 7, 8) // 8
        count = np.dtype("u1" if parts["k"] <= 256 else "<u2" if parts["k"] <= 65536 else "<u4")
        return PackedColumns(
            count, np.dtype(parts["storage_dtype"]), id_bytes, parts["temperature"] != 1, int(parts["k"])
        )

    @property
    def token_bytes(self) -> int:
        """Bytes of a token before they are compressed, beside those of what is kept."""
        return 2 * self.count.itemsize + self.number.itemsize * (2 if self.has_label else 1) + 2

    @property
    def kept_bytes(self) -> int:
        """Bytes of one kept token before they are compressed."""
        return self.id_bytes + self.number.itemsize


def cut_by_mass(kept: KeptLogprobs, targets: np.ndarray, by_mass: ByMass) -> RaggedRows:
    """Of each token the likeliest until `missing` mass at most is left, and the label; the others' mass joins the rest.

    Args:
        kept: with as many tokens of each as may be kept.  targets: the labels, [T].
    """
    logprobs_TK, k = kept.logprobs.double(), kept.ids.shape[1]
    covered_TK = logprobs_TK.exp().cumsum(-1)
    wanted_T = ((covered_TK < 1 - by_mass.missing).sum(-1) + 1).clamp(min(by_mass.min_k, k), k)
    is_label_TK = kept.ids == torch.from_numpy(targets)[:, None]
    is_kept_TK = (torch.arange(k) < wanted_T[:, None]) | is_label_TK
    left_out_T = logprobs_TK.masked_fill(is_kept_TK, -torch.inf).logsumexp(-1)
    places_T = is_label_TK.byte().argmax(-1).clamp(max=is_kept_TK.sum(-1) - 1)
    return RaggedRows(
        is_kept_TK.sum(-1).numpy(),
        places_T.numpy(),
        kept.ids[is_kept_TK].numpy(),
        kept.logprobs[is_kept_TK].numpy(),
        torch.logaddexp(kept.log_tail.double(), left_out_T).numpy(),
        kept.label_logprobs.numpy(),
        kept.entropy.numpy(),
    )


def tokens_of(whole: RaggedRows, start: int, stop: int) -> RaggedRows:
    """Some tokens of many."""
    bounds = np.cumsum([0, *whole.counts.tolist()])
    own, kept = slice(start, stop), slice(bounds[start], bounds[stop])
    by_name = {name: getattr(whole, name) for name in RaggedRows._fields}
    return RaggedRows(**{name: each[kept if name in ("ids", "logprobs") else own] for name, each in by_name.items()})


def packed(document: RaggedRows, columns: PackedColumns) -> bytes:
    """One document's rows as bytes; see the head of this file."""
    count, number = columns.count, columns.number
    bits = document.logprobs.astype(number).view(_bits(number))
    parts = [
        _planes((document.counts - 1).astype(count)),
        _planes(document.places.astype(count)),
        _planes(document.log_tail.astype(number)),
        _planes(document.entropy.astype(np.float16)),
        _planes(document.label_logprobs.astype(number)) if columns.has_label else b"",
        _planes(document.ids.astype("<u4"))[: columns.id_bytes * len(document.ids)],
        _planes(np.diff(bits, prepend=bits.dtype.type(0)).astype(bits.dtype)),
    ]
    return len(document.ids).to_bytes(_HEAD_BYTES, "little") + _ZSTD.compress(b"".join(parts), asbytes=True)


def unpacked(content: Any, tokens: int, columns: PackedColumns) -> RaggedRows:
    """The rows in a document's bytes.

    Args:
        content: bytes, or an array of them.  tokens: T.

    Raises:
        ValueError: they are not what was packed.
    """
    number = columns.number
    kept = int.from_bytes(bytes(content[:_HEAD_BYTES]), "little")
    if not tokens <= kept <= tokens * columns.k:
        raise ValueError(f"it holds {kept} kept tokens of {tokens}")
    size = tokens * columns.token_bytes + kept * columns.kept_bytes
    try:
        buffer = np.frombuffer(_ZSTD.decompress(content[_HEAD_BYTES:], size), np.uint8)
    except (OSError, pa.ArrowException) as error:
        raise ValueError("its bytes cannot be unpacked") from error
    reader = _Planes(buffer)
    counts = reader.take(tokens, columns.count).astype(np.int64) + 1
    places = reader.take(tokens, columns.count)
    log_tail, entropy = reader.take(tokens, number), reader.take(tokens, np.dtype(np.float16))
    label = reader.take(tokens, number) if columns.has_label else None
    ids = reader.take(kept, np.dtype("<i4"), columns.id_bytes)
    bits = reader.take(kept, _bits(number))
    if counts.sum() != kept or (places >= counts).any():
        raise ValueError("its counts do not add up")
    logprobs = np.cumsum(bits, dtype=bits.dtype).view(number)
    found = RaggedRows(counts, places, ids, logprobs, log_tail, np.empty(0) if label is None else label, entropy)
    return found if label is not None else found._replace(label_logprobs=logprobs[found.starts + places])


def padded(parts: Sequence[RaggedRows]) -> KeptLogprobs:
    """The tokens of several parts, in order, as wide as the token of which most is kept: an empty slot has the id −1
    and no mass."""
    one = parts[0] if len(parts) == 1 else RaggedRows(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    ids_TK, logprobs_TK = _rows_of(one)
    return KeptLogprobs(
        torch.from_numpy(ids_TK),
        torch.from_numpy(logprobs_TK),
        torch.from_numpy(one.log_tail.astype(np.float32)),
        torch.from_numpy(one.label_logprobs.astype(np.float32)),
        torch.from_numpy(one.entropy),
    )


def _rows_of(one: RaggedRows) -> tuple[np.ndarray, np.ndarray]:
    """Ids and log-probabilities as wide as the widest token."""
    tokens, width = len(one.counts), int(one.counts.max())
    if len(one.ids) == tokens * width:  # every slot is taken
        return one.ids.reshape(tokens, width), one.logprobs.reshape(tokens, width)
    ids_TK, logprobs_TK = np.full((tokens, width), -1, np.int32), np.full((tokens, width), -np.inf, one.logprobs.dtype)
    is_kept_TK = np.arange(width) < one.counts[:, None]
    ids_TK[is_kept_TK], logprobs_TK[is_kept_TK] = one.ids, one.logprobs
    return ids_TK, logprobs_TK


def packed_bytes(kept: KeptLogprobs, documents: Sequence[Document], parts: Mapping[str, Any]) -> float:
    """Bytes of a token of some documents, as they would be packed.

    Args:
        kept: of all of them, with as many tokens as may be kept.  parts: of a plan.
    """
    by_mass = by_mass_of(parts)
    assert by_mass is not None
    whole = cut_by_mass(kept, np.concatenate([document.targets for document in documents]), by_mass)
    offsets = np.cumsum([0, *(int(document.asked.sum()) for document in documents)])
    return len(packed_tensors(whole, offsets, parts)["packed"]) / len(whole.counts)


def packed_tensors(whole: RaggedRows, offsets: np.ndarray, parts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The bytes of all documents of a shard, and where each one's begin and end.

    Args:
        offsets: first token of each document, and their number.
    """
    columns = PackedColumns.of(parts)
    each = [packed(tokens_of(whole, start, stop), columns) for start, stop in pairwise(offsets)]
    content = np.frombuffer(b"".join(each), np.uint8).copy()
    return {
        "packed": torch.from_numpy(content),
        "packed_offsets": torch.from_numpy(np.cumsum([0, *map(len, each)], dtype=np.int64)),
    }


def _bits(number: np.dtype) -> np.dtype:
    return np.dtype(f"<u{number.itemsize}")


def _planes(values: np.ndarray) -> bytes:
    """Numbers byte after byte of significance."""
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1).T.tobytes()


class _Planes:
    """Reads columns one after the other."""

    def __init__(self, buffer: np.ndarray) -> None:
        self.buffer, self.at = buffer, 0

    def take(self, count: int, dtype: np.dtype, stored: int | None = None) -> np.ndarray:
        """The next `count` numbers, of which the lowest `stored` bytes are there."""
        stored = stored or dtype.itemsize
        own, self.at = self.buffer[self.at : self.at + count * stored], self.at + count * stored
        if dtype.itemsize == 1:
            return own
        planes = own.reshape(stored, count)
        values = planes[-1].astype(_bits(dtype))
        for plane in planes[-2::-1]:
            values <<= 8
            values |= plane
        return values.view(dtype)
