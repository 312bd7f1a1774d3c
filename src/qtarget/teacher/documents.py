"""Batches and data sets as documents: stretches of tokens that attend to one another, whatever row they stand in.

Caches and servers are asked about documents, and caches find them by content. So shuffling, packing, padding and the
number of data-loader workers cannot put what they know out of step with a batch.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qtarget.target.types import IGNORED


@dataclass(frozen=True)
class Document:
    """Token ids, and which of them a teacher is asked about: the supervised ones.

    Attributes:
        ids: `[n]` int32.  asked: `[n]` bool; never the first token, which follows nothing.
    """

    ids: np.ndarray
    asked: np.ndarray

    @staticmethod
    def of(ids: Any, labels: Any) -> "Document":
        """From token ids and labels `[n]`, −100 where a token is not supervised."""
        asked = np.asarray(labels) != IGNORED
        asked[:1] = False
        return Document(np.ascontiguousarray(ids, np.int32), asked)

    @cached_property
    def digest(self) -> bytes:
        """A hash of the content, 16 bytes, by which caches find the document."""
        return hashlib.blake2b(self.ids.tobytes() + np.packbits(self.asked).tobytes(), digest_size=16).digest()

    @property
    def targets(self) -> np.ndarray:
        """The tokens asked about, `[T]`."""
        return self.ids[self.asked]


class DocumentPlace(NamedTuple):
    """A document in a batch: its row, and the position at which it begins."""

    row: int
    start: int
    document: Document


def documents_in(batch: Mapping[str, Any]) -> list[DocumentPlace]:
    """The documents of a batch that have a supervised token, in order.

    `attention_mask` says which tokens are padding; `position_ids` that restart at 0 begin a document.
    """
    ids, labels = (_array(batch[name]) for name in ("input_ids", "labels"))
    mask, positions = (_array(batch[name]) if name in batch else None for name in ("attention_mask", "position_ids"))
    if mask is not None and mask.ndim != 2:
        raise ValueError(
            f"attention_mask has {mask.ndim} axes; expected [B, S], as the collators of TRL and transformers make it."
        )
    places = []
    for row in range(len(ids)):
        kept = np.arange(ids.shape[1]) if mask is None else mask[row].nonzero()[0]
        first = kept == kept[:1]
        starts = kept[first if positions is None else first | (positions[row][kept] == 0)]
        for start, stop in pairwise([*starts, (kept[-1] + 1) if len(kept) else 0]):
            places.append(DocumentPlace(row, int(start), Document.of(ids[row, start:stop], labels[row, start:stop])))
    return [place for place in places if place.document.asked.any()]


def documents_of_rows(rows: Iterable[Mapping[str, Any]], in_place: str | None = None) -> Iterator[Document]:
    """The documents of prepared rows: `input_ids`, `labels`, and `seq_lengths` where several are packed into one.

    Args:
        in_place: the column that says what is read in the place of each token, a list of ids for each, where the rows
            have it; None for the tokens themselves.
    """
    for row in rows:
        ids, labels = np.asarray(row["input_ids"], np.int32), np.asarray(row["labels"])
        lengths, read = row.get("seq_lengths"), None if in_place is None else row.get(in_place)
        bounds = np.cumsum([0, *([len(ids)] if lengths is None else lengths)])
        for start, stop in pairwise(bounds):
            own = slice(start, stop)
            document = Document.of(ids[own], labels[own]) if read is None else _read_in_place(read[own], labels[own])
            if document.asked.any():
                yield document


def _read_in_place(read: Sequence[Any], labels: np.ndarray) -> Document:
    """A document of which other tokens are read than the row's, the learned ones excepted."""
    counts = np.array([len(each) for each in read])
    ids = np.concatenate([np.asarray(each, np.int32) for each in read])
    beside = np.full(len(ids), IGNORED)
    beside[np.cumsum(counts)[counts > 0] - 1] = labels[counts > 0]
    return Document.of(ids, beside)


def lay_out(values: Mapping[str, Tensor], places: Sequence[DocumentPlace], shape: torch.Size) -> dict[str, Tensor]:
    """Values of the supervised tokens of all documents, `[T, ...]`, laid out like the batch.

    Args:
        shape: of the batch, `[B, S]`.

    Returns:
        Tensors `[B, S, ...]`: what is known of token t + 1 stands at position t; the other positions are zero.
    """
    width = shape[1]
    before = [p.row * width + p.start + p.document.asked.nonzero()[0] - 1 for p in places]
    where = torch.from_numpy(np.concatenate(before)) if before else torch.zeros(0, dtype=torch.long)
    out = {}
    for name, value in values.items():
        blank = value.new_zeros(shape.numel(), *value.shape[1:])
        out[name] = blank.index_copy_(0, where, value).view(*shape, *value.shape[1:])
    return out


def _array(tensor: Any) -> np.ndarray:
    return tensor.cpu().numpy() if isinstance(tensor, Tensor) else np.asarray(tensor)
