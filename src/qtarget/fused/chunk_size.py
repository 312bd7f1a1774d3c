"""How many tokens a chunk may have, so that what a call holds beside its gradients keeps to a number of bytes."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from qtarget.fused.chunks import run_chunks
from qtarget.fused.loss_plan import LossPlan
from qtarget.fused.memory import free_bytes
from qtarget.fused.products import Products
from qtarget.fused.workspace import Workspace
from qtarget.target.evidence import Dense, Head

LIKELY_BUFFERS = 4
"""Numbers per token and vocabulary entry that hardly any method exceeds."""
COUNTED = 5 / 6
"""Share of the bytes allowed that is given to what can be counted; the rest is for the libraries' own scratch."""


def with_fitting_chunks(plan: LossPlan, hidden_TH: Tensor, buffer_bytes: int | None) -> LossPlan:
    """The plan with chunks that take at most `buffer_bytes`, or half of the free memory where that is short.

    Raises:
        ValueError: where not even one token a chunk keeps to `buffer_bytes`.
    """
    if not len(hidden_TH):
        return plan
    limit = _half_of_short_memory(plan, hidden_TH) if buffer_bytes is None else buffer_bytes
    if limit is None:
        return plan
    plan = replace(plan, widens_once=False)
    need = _measured_need(plan, hidden_TH)
    tokens = need.tokens_in(limit)
    if tokens < 1 and buffer_bytes is not None:
        raise ValueError(
            f'buffer_bytes={buffer_bytes} is less than one token of "{plan.method.name}" takes with this vocabulary; '
            f"write buffer_bytes={need.least} or more"
        )
    return replace(plan, chunk_tokens=max(1, min(plan.chunk_tokens, tokens)))


class _Need(NamedTuple):
    """Bytes that can be counted: for each token of a chunk, and once."""

    per_token: int
    fixed: int

    def tokens_in(self, limit: int) -> int:
        """Tokens whose bytes keep to a limit; 0 or less where not even one's do."""
        return (int(COUNTED * limit) - self.fixed) // self.per_token

    @property
    def least(self) -> int:
        """The smallest limit that one token keeps to."""
        return ceil((self.fixed + self.per_token) / COUNTED)


def _half_of_short_memory(plan: LossPlan, hidden_TH: Tensor) -> int | None:
    """Half of the bytes that are free on every rank, where the usual chunk might take more; None where it does not."""
    axis, free = plan.head.axis, free_bytes(hidden_TH.device)
    if free is None:
        return None
    half = axis.least(free, hidden_TH.device) // 2
    wide = torch.float64 if hidden_TH.dtype == torch.float64 else torch.float32
    narrow = [head for head in _heads(plan) if head.weight.dtype != wide]
    numbers = LIKELY_BUFFERS * axis.widest * plan.chunk_tokens
    numbers += sum(head.axis.widest * head.weight.shape[1] for head in narrow)  # they may all be widened
    return half if wide.itemsize * numbers > half else None


def _measured_need(plan: LossPlan, hidden_TH: Tensor) -> _Need:
    """What a chunk takes, by trying one token. The same on every rank of a cut vocabulary."""
    one = replace(plan, tokens=replace(plan.tokens.chunk(slice(0, 1)), group=None), chunk_tokens=1)
    products = Products.of(hidden_TH[:1], plan.head.weight, [True, False, False])
    with torch.no_grad(), torch.autocast(hidden_TH.device.type, enabled=False):
        like = plan.engine.logits_like(products)
        workspace = Workspace(1, len(plan.head.weight), like)
        run_chunks(one, products, hidden_TH[:1], workspace=workspace)
    scratch = products.scratch(_heads(plan), like.dtype)
    numbers = workspace.numbers_per_token(plan.head.axis.widest)
    return _Need(like.element_size() * numbers + scratch.per_token, scratch.fixed)


def _heads(plan: LossPlan) -> list[Head]:
    """The output layers that logits are built from: the student's, and those of sources given as `Dense`."""
    sources = (*plan.tokens.teachers, plan.tokens.reference)
    return [plan.head, *(source.head for source in sources if isinstance(source, Dense))]
