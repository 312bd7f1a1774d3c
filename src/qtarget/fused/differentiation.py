"""Forward and backward of the fused loss, written once: for the eager call and for the operator in a compiled graph.

The gradients of a mean loss are made in the forward pass, chunk by chunk, and backward multiplies them by the upstream
number. A loss per token has an upstream number for each token, so backward runs the chunks a second time with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from qtarget.fused.arguments import Call, Reduction
from qtarget.fused.chunks import run_chunks
from qtarget.fused.products import Products
from qtarget.target.evidence import item_count
from qtarget.target.types import LossOutput

Gradients = list[Tensor | None]
"""Those of hidden states, weight and bias, in this order; None where not made."""


class StepResult(NamedTuple):
    """What one run over all chunks gives.

    Attributes:
        value: the sum of the loss, or that of each token, shaped like labels (reduction="none").
        nll: mean −log p_y of the tokens that count.  num_tokens: their number.  num_supervised: all with a label.
        diagnostics: shaped like labels, NaN at tokens left out.
        gradients: in fp32 or fp64, before any upstream number but the one given; to the hidden states of the tokens
            that were computed, [T, H], which lie at `where` among the N labels.
    """

    value: Tensor
    nll: Tensor
    num_tokens: Tensor
    num_supervised: Tensor
    diagnostics: list[Tensor]
    gradients: Gradients
    where: Tensor

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What a caller gets, one after the other."""
        return (self.value, self.nll, self.num_tokens, self.num_supervised, *self.diagnostics)


class LossStep(NamedTuple):
    """One call with what decides how it is differentiated.

    Attributes:
        wanted: whether hidden, weight and bias get a gradient.
        autocast: the dtype it is on for, None where it is off: backward may run outside of it.
    """

    call: Call
    reduction: Reduction
    wanted: tuple[bool, ...]
    autocast: torch.dtype | None

    @staticmethod
    def of(call: Call, reduction: Reduction) -> LossStep:
        """As gradient mode and autocast are now."""
        device, student = call.hidden.device.type, (call.hidden, call.head.weight, call.head.bias)
        wanted = tuple(torch.is_grad_enabled() and t is not None and t.requires_grad for t in student)
        autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        return LossStep(call, reduction, wanted, autocast)

    def run(self, upstream: Tensor | None = None) -> StepResult:
        """Loss, diagnostics and gradients; `upstream`, like labels, is what each token's gradient is multiplied by."""
        call, device = self.call, self.call.hidden.device.type
        with torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None):
            makes = made_now(self.wanted, self.reduction, upstream)
            plan, hidden_TH = call.plan(any(self.wanted), trains_head=makes[1])
            products = Products.of(hidden_TH, call.head.weight, makes, plan.widens_once)
        tokens = plan.tokens
        upstream_T = None if upstream is None else upstream.reshape(-1)[tokens.where]
        with torch.autocast(device, enabled=False):
            value_T, (nll_T, *measured) = run_chunks(plan, products, hidden_TH, upstream_T)
        value = value_T.sum() if self.reduction == "mean" else tokens.unflatten(value_T, 0.0)
        diagnostics = [tokens.unflatten(values_T) for values_T in measured]
        nll, num_tokens = tokens.mean(nll_T)
        return StepResult(value, nll, num_tokens, tokens.num_supervised, diagnostics, products.gradients, tokens.where)

    def without_student(self) -> LossStep:
        """To be kept for backward, which gets student and output layer from autograd, and makes no diagnostics."""
        empty = self.call.hidden.detach().new_empty(0)
        bare = self.call._replace(hidden=empty, head=self.call.head._replace(weight=empty, bias=None), diagnostics=())
        return self._replace(call=bare)

    def with_student(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> LossStep:
        """What `without_student` kept, complete again."""
        head = self.call.head._replace(weight=weight, bias=bias)
        return self._replace(call=self.call._replace(hidden=hidden, head=head))

    def output(self, outputs: Sequence[Tensor], num_items: int | Tensor | None) -> LossOutput:
        """`StepResult.outputs` as the caller gets them, the sum divided by the number of items."""
        value, nll, num_tokens, num_supervised, *diagnostics = outputs
        if self.reduction == "mean":
            value = value / item_count(num_items, num_supervised, self.call.given.token_group)
        return LossOutput(value, nll, num_tokens, dict(zip(self.call.diagnostics, diagnostics, strict=True)))


def made_now(wanted: Sequence[bool], reduction: str, upstream: Tensor | None) -> list[bool]:
    """Which gradients a run makes: for a loss per token those of the run with upstream numbers only."""
    now = reduction == "mean" or upstream is not None
    return [now and want for want in wanted]


def narrowed(gradients: Gradients, dtypes: Sequence[torch.dtype | None]) -> Gradients:
    """Gradients in the dtypes of what they are of: only after the upstream number, since fp16 would underflow."""
    return [None if g is None else g.to(dtype) for g, dtype in zip(gradients, dtypes, strict=True)]


def scaled_in_place(gradients: Gradients, upstream: Tensor, dtypes: Sequence[torch.dtype | None]) -> Gradients:
    """The same times an upstream number; the gradients are used up."""
    pairs = zip(gradients, dtypes, strict=True)
    return [None if g is None or dtype is None else _times(g, upstream, dtype) for g, dtype in pairs]


def _times(gradient: Tensor, upstream: Tensor, dtype: torch.dtype) -> Tensor:
    if gradient.device.type == "cpu" or dtype == gradient.dtype:
        return gradient.mul_(upstream).to(dtype)
    return torch.mul(gradient, upstream, out=torch.empty_like(gradient, dtype=dtype))  # in one pass over memory


def student_dtypes(*student: Tensor | None) -> list[torch.dtype | None]:
    """The dtypes that gradients of hidden, weight and bias are handed over in."""
    return [None if t is None else t.dtype for t in student]


def spread_out(gradients: Gradients, where: Tensor, shape: torch.Size) -> Gradients:
    """The gradient to hidden states laid out as they are, [..., H]: 0 where a token was left out."""
    to_hidden, *to_head = gradients
    if to_hidden is not None and len(to_hidden) < shape[:-1].numel():
        to_hidden = to_hidden.new_zeros(shape[:-1].numel(), shape[-1]).index_copy_(0, where, to_hidden)
    return [None if to_hidden is None else to_hidden.view(shape), *to_head]
