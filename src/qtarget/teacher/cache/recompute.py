"""Some rows of a cache computed again with a model that is loaded here: whether the cache says what the model does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qtarget.models.causal_lm import input_device
from qtarget.models.identity import tokenizer_identity
from qtarget.models.loading import tokenizer_of
from qtarget.target.source_logits import dense_logits
from qtarget.target.vocabulary import filled_slots
from qtarget.teacher.cache.reader import Cache, open_cache
from qtarget.teacher.cache.some_rows import read_some_rows
from qtarget.teacher.cache.verify import ROUNDING
from qtarget.teacher.distributions import SAME_MODEL, KeptLogprobs
from qtarget.teacher.documents import Document
from qtarget.teacher.live import LiveModel, load_live_model
from qtarget.teacher.source_name import SourceKind, SourceName


class WorstPlace(NamedTuple):
    """Where two log-probabilities are furthest apart.

    Attributes:
        row, place: of the token of text, from 1.  token: whose log-probability it is.
        cached, recomputed: nats.
    """

    row: int
    place: int
    token: int
    cached: float
    recomputed: float


@dataclass(frozen=True)
class Recomputation:
    """A cache beside a model.

    Attributes:
        model: its directory or hub name.  rows, tokens: compared.
        largest: difference of a log-probability, in nats, and `worst`, where it is.
        rounding: how much of that storing the numbers may have made, in nats.
        probability: the largest difference of a probability.
        label_mean: the mean difference of the labels' log-probabilities, in nats.
    """

    model: str
    rows: int
    tokens: int
    largest: float
    worst: WorstPlace
    rounding: float
    probability: float
    label_mean: float

    @property
    def is_same(self) -> bool:
        """Whether the cache may be of this model."""
        return self.label_mean <= SAME_MODEL


class _Pairs(NamedTuple):
    """What is compared of a row: tokens, and their log-probabilities in the cache and recomputed, [T, ...]."""

    document: Document
    tokens: Tensor
    cached: Tensor
    again: Tensor


def recompute(folder: str | Path, model: str, rows: int, dtype: str = "auto") -> Recomputation:
    """Compute the first rows of a cache again with transformers, and compare.

    Args:
        model: directory or hub name.  dtype: to load it in; "auto" for its checkpoint's.

    Raises:
        ValueError: no finished cache, one without rows, the address of a server, or a model with other tokens.
    """
    if SourceName.parse(model).kind is SourceKind.SERVER:
        raise ValueError(
            f"{model} is the address of a server, and rows are computed again with a model that is loaded here; name "
            "its directory or hub name."
        )
    cache = open_cache(folder)
    documents = read_some_rows(Path(folder), rows)
    parts, tokenizer = cache.manifest.parts, tokenizer_of(model)
    if tokenizer is not None and tokenizer_identity(tokenizer) != parts["tokenizer"]:
        raise ValueError(f"{model} has another tokenizer than the rows of {folder}, so it cannot be what was cached.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded: Any = load_live_model(model, "teacher", device=device, dtype=dtype)
    rows_of_head = loaded.get_output_embeddings().weight.shape[0]
    if rows_of_head < parts["vocabulary"]:
        raise ValueError(
            f"{model} has an output layer of {rows_of_head} rows, and {folder} is over {parts['vocabulary']} tokens, "
            "so it cannot be what was cached."
        )
    live = LiveModel(loaded, parts["vocabulary"])
    kept = [cache.answer([document]) for document in documents]
    again = [_logprobs(live, document) for document in documents]
    return _compared(model, cache, documents, kept, again)


@torch.no_grad()
def _logprobs(live: LiveModel, document: Document) -> Tensor:
    """The model's log-probabilities [T, V] before each asked token."""
    ids = torch.from_numpy(document.ids).long()[None].to(input_device(live.model))
    dense = live.evidence({"input_ids": ids})
    before = torch.from_numpy(document.asked.nonzero()[0] - 1).to(dense.hidden.device)
    logits = dense_logits(type(dense)(dense.hidden[0, before], dense.head, dense.vocab))
    return logits[:, : dense.vocab].double().log_softmax(-1).cpu()


def _compared(
    model: str, cache: Cache, documents: Sequence[Document], kept: Sequence[KeptLogprobs], again: Sequence[Tensor]
) -> Recomputation:
    labels, pairs = [], []
    for document, stored, logprobs in zip(documents, kept, again, strict=True):
        target = torch.from_numpy(document.targets).long()[:, None]
        labels.append(_Pairs(document, target, stored.label_logprobs[:, None].double(), logprobs.gather(1, target)))
        pairs += [labels[-1], *_kept_pairs(cache, document, stored, logprobs)]
    largest, worst = max(_furthest(documents, pairs), key=lambda found: found[0])
    return Recomputation(
        model=model,
        rows=len(documents),
        tokens=sum(len(document.targets) for document in documents),
        largest=largest,
        worst=worst,
        rounding=abs(worst.cached) * ROUNDING[cache.manifest.parts["storage_dtype"]],
        probability=max(float((pair.cached.exp() - pair.again.exp()).abs().max()) for pair in pairs),
        label_mean=float(torch.cat([(pair.cached - pair.again).abs().flatten() for pair in labels]).mean()),
    )


def _kept_pairs(cache: Cache, document: Document, stored: KeptLogprobs, logprobs: Tensor) -> Iterator[_Pairs]:
    """The kept tokens beside the model's, at the cache's temperature; nothing for draws and where none is kept."""
    if cache.keep.how == "top" and stored.ids.shape[1]:
        tempered = (logprobs / cache.keep.temperature).log_softmax(-1)
        ids, is_empty = filled_slots(stored.ids.long())
        logprobs = torch.where(is_empty, stored.logprobs[:, :1], stored.logprobs)
        yield _Pairs(document, ids, logprobs.double(), tempered.gather(1, ids))


def _furthest(documents: Sequence[Document], pairs: Sequence[_Pairs]) -> Iterator[tuple[float, WorstPlace]]:
    rows = {id(document): row for row, document in enumerate(documents, 1)}
    for pair in pairs:
        apart = torch.nan_to_num((pair.cached - pair.again).abs(), nan=0.0)  # −inf is equal to itself
        at, column = divmod(int(apart.argmax()), apart.shape[1])
        place = int(pair.document.asked.nonzero()[0][at]) + 1
        numbers = float(pair.cached[at, column]), float(pair.again[at, column])
        yield (
            float(apart[at, column]),
            WorstPlace(rows[id(pair.document)], place, int(pair.tokens[at, column]), *numbers),
        )
