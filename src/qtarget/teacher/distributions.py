"""A live model's distributions at the supervised tokens of documents, cut down to what is kept of each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qtarget import Dense, Head
from qtarget.fused.products import Products
from qtarget.models.causal_lm import input_device
from qtarget.target.top_k import largest
from qtarget.target.types import IGNORED
from qtarget.teacher.documents import Document
from qtarget.teacher.live import LiveModel

TEACHER_CHUNK_TOKENS = {"cpu": 256}
"""Tokens whose logits are built at once; 1024 on an accelerator."""
SAME_MODEL = 0.1
"""Nats in the mean by which labels' log-probabilities of one model differ at most, asked twice: rounding in bfloat16 is
below it.
"""
TEACHER_ROWS = {"cpu": 4}
"""Tokens whose distributions are multiplied at once, few enough for the processor's cache; 1024 on an accelerator."""


@dataclass(frozen=True)
class Keep:
    """What is kept of a teacher's distribution at each token.

    Attributes:
        k: tokens kept; 0 keeps the label's log-probability alone.
        how: "top": the K likeliest tokens, the label always among them, and the mass of the rest.
            "sampled": K draws, weighted by how often each token was drawn: unbiased for targets that are linear in
            the teacher (arXiv 2503.16870), and for no other.
        temperature: the kept distribution is t^(1/T), renormalised.
    """

    k: int = 64
    how: Literal["top", "sampled"] = "top"
    temperature: float = 1.0


class KeptLogprobs(NamedTuple):
    """What was kept of T tokens, on the CPU.

    Attributes:
        ids: [T, K] int32, distinct within a token.  logprobs: [T, K] nats, at the temperature.
        log_tail: [T] nats: mass of the tokens not kept, at the temperature; −inf for none.
        label_logprobs, entropy: [T] nats, of the teacher itself (temperature 1).
    """

    ids: Tensor
    logprobs: Tensor
    log_tail: Tensor
    label_logprobs: Tensor
    entropy: Tensor


def kept_logprobs(
    model: LiveModel,
    documents: Sequence[Document],
    keep: Keep,
    batch_tokens: int = 8192,
    on_batch: Callable[[int], None] | None = None,
) -> KeptLogprobs:
    """What is kept of the model's distribution at every supervised token, document after document.

    Args:
        batch_tokens: tokens, padding included, that go through the model at once.
        on_batch: called after each batch with the number of supervised tokens in it.
    """
    of_document: list[KeptLogprobs | None] = [None] * len(documents)
    for batch in _batches(documents, batch_tokens):
        kept = _batch_logprobs(model, [documents[i] for i in batch], keep)
        bounds = np.cumsum([0, *(int(documents[i].asked.sum()) for i in batch)])
        for i, start, stop in zip(batch, bounds, bounds[1:], strict=False):
            of_document[i] = KeptLogprobs(*(value[start:stop] for value in kept))
        if on_batch is not None:
            on_batch(int(bounds[-1]))
    return concatenated([part for part in of_document if part is not None], keep.k)


def concatenated(parts: Sequence[KeptLogprobs], k: int) -> KeptLogprobs:
    """The tokens of several parts, in order. `k` is the width where there is no part."""
    if len(parts) == 1:
        return parts[0]
    if parts:
        return KeptLogprobs(*(torch.cat(column) for column in zip(*parts, strict=True)))
    none = torch.zeros(0)
    return KeptLogprobs(torch.zeros(0, k, dtype=torch.int32), torch.zeros(0, k), none, none, none)


def _batches(documents: Sequence[Document], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of documents of like length, at most `batch_tokens` with their padding, one document at least."""
    batch: list[int] = []
    for index in sorted(range(len(documents)), key=lambda i: -len(documents[i].ids)):
        if batch and len(documents[batch[0]].ids) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.no_grad()
def _batch_logprobs(model: LiveModel, documents: Sequence[Document], keep: Keep) -> KeptLogprobs:
    width, device = max(len(d.ids) for d in documents), input_device(model.model)
    ids = np.zeros((len(documents), width), np.int64)
    labels = np.full_like(ids, IGNORED)
    mask = np.zeros_like(ids)
    for row, document in enumerate(documents):
        ids[row, : len(document.ids)], mask[row, : len(document.ids)] = document.ids, 1
        labels[row, : len(document.ids)][document.asked] = document.targets
    labels_BS = torch.from_numpy(labels).to(device)
    inputs = {"input_ids": torch.from_numpy(ids).to(device)}
    if not mask.all():
        inputs["attention_mask"] = torch.from_numpy(mask).to(device)
    dense = model.evidence(inputs, labels_BS)
    asked = labels_BS[:, 1:] != IGNORED
    draws = _draws(documents, keep.k).to(dense.hidden.device) if keep.how == "sampled" else None
    return logprobs_of_hidden(dense, dense.hidden[:, :-1][asked], labels_BS[:, 1:][asked], keep, draws)


def _draws(documents: Sequence[Document], number: int) -> Tensor:
    """Uniform numbers [T, number] that depend on the document alone, not on what it was batched with."""
    parts = []
    for document in documents:
        generator = torch.Generator().manual_seed(int.from_bytes(document.digest[:8], "little") >> 1)
        parts.append(torch.rand(int(document.asked.sum()), number, generator=generator, dtype=torch.float64))
    return torch.cat(parts)


def logprobs_of_hidden(
    dense: Dense, hidden_TH: Tensor, labels_T: Tensor, keep: Keep, draws_TN: Tensor | None = None
) -> KeptLogprobs:
    """What is kept of the distributions that follow T hidden states; logits are built a chunk of tokens at a time.

    Args:
        dense: gives the head and the vocabulary.
        hidden_TH: the hidden states before each supervised token.  labels_T: those tokens.
        draws_TN: uniform numbers in [0, 1) for sampling, one for each draw; None for `keep.how` "top".
    """
    head = _real_rows(dense)
    products = Products.of(hidden_TH, head.weight, [False] * 3, widens_once=True)
    chunk = TEACHER_CHUNK_TOKENS.get(hidden_TH.device.type, 1024)
    buffers = [products.like.new_empty(min(chunk, len(hidden_TH)), len(head.weight)) for _ in range(2)]
    parts = []
    for start in range(0, len(hidden_TH), chunk):
        rows = slice(start, start + chunk)
        logits_CV, scratch_CV = (buffer[: len(hidden_TH[rows])] for buffer in buffers)
        products.logits_into(logits_CV, hidden_TH[rows], head)
        draws_CN = None if draws_TN is None else draws_TN[rows]
        parts.append(logprobs_of_logits(logits_CV, scratch_CV, labels_T[rows], keep, draws_CN))
    return concatenated([KeptLogprobs(*(value.cpu() for value in part)) for part in parts], keep.k)


def _real_rows(dense: Dense) -> Head:
    """The output layer without the rows that stand for no token."""
    bias = None if dense.head.bias is None else dense.head.bias[: dense.vocab]
    return dense.head._replace(weight=dense.head.weight[: dense.vocab], bias=bias)


def logprobs_of_logits(
    logits_CV: Tensor, scratch_CV: Tensor, labels_C: Tensor, keep: Keep, draws_CN: Tensor | None
) -> KeptLogprobs:
    """What is kept of the distributions of C tokens. Logits and scratch are written over."""
    prob_CV = torch.softmax(logits_CV, -1, out=scratch_CV)
    log_norm_C = logits_CV.amax(-1) - prob_CV.amax(-1).log()
    label_C = logits_CV.gather(1, labels_C[:, None]).squeeze(1) - log_norm_C
    entropy_C = log_norm_C - _dots(prob_CV, logits_CV)
    if keep.temperature != 1:
        prob_CV = torch.softmax(logits_CV.div_(keep.temperature), -1, out=scratch_CV)
        log_norm_C = logits_CV.amax(-1) - prob_CV.amax(-1).log()
    if draws_CN is not None:
        ids_CK, logprobs_CK = _sampled(prob_CV, draws_CN)
        log_tail_C = torch.full_like(label_C, -torch.inf)
    else:
        ids_CK = _with_label(largest(logits_CV, min(keep.k, logits_CV.shape[1])).ids_CK, labels_C)
        logprobs_CK = logits_CV.gather(1, ids_CK) - log_norm_C[:, None]
        log_tail_C = prob_CV.scatter_(1, ids_CK, 0.0).sum(-1).log()
    return KeptLogprobs(ids_CK.int(), logprobs_CK, log_tail_C, label_C, entropy_C)


def _dots(a_CV: Tensor, b_CV: Tensor) -> Tensor:
    """The dot product of each pair of rows, [C]. `torch.linalg.vecdot` would allocate a third [C, V] buffer."""
    rows = TEACHER_ROWS.get(a_CV.device.type, 1024)
    scratch = torch.empty_like(a_CV[:rows])
    pairs = zip(a_CV.split(rows), b_CV.split(rows), strict=True)
    return torch.cat([torch.mul(a, b, out=scratch[: len(a)]).sum(-1) for a, b in pairs])


def _with_label(ids_CK: Tensor, labels_C: Tensor) -> Tensor:
    """Ids in which the label takes the place of the least likely token, where it is not among them."""
    if not ids_CK.shape[1]:
        return ids_CK
    missing_C = ~(ids_CK == labels_C[:, None]).any(-1)
    ids_CK[:, -1] = torch.where(missing_C, labels_C, ids_CK[:, -1])
    return ids_CK


def _sampled(prob_CV: Tensor, draws_CN: Tensor) -> tuple[Tensor, Tensor]:
    """Ids that were drawn and the log of each one's share of the draws; other ids at −inf fill the row up."""
    cumulated_CV = prob_CV.double().cumsum(-1)
    drawn_CN = torch.searchsorted(cumulated_CV, draws_CN.double() * cumulated_CV[:, -1:], right=True)
    drawn_CN = drawn_CN.clamp_(max=prob_CV.shape[1] - 1)
    number = draws_CN.shape[1]
    shares_CV = torch.zeros_like(prob_CV).scatter_add_(1, drawn_CN, torch.full_like(draws_CN, 1 / number).to(prob_CV))
    drawn = largest(shares_CV, min(number, prob_CV.shape[1]))
    return drawn.ids_CK, drawn.values_CK.log()
