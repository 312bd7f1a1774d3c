"""The loss from hidden states and the output layer, never building the logits: the proven twin of `loss.py`.

Tokens go through in chunks. Of each chunk the logits are built in a reused buffer, turned into p − Q in place, and
multiplied into both gradients at once, so a step costs three matrix products (two with a frozen head, one without
gradients) and one chunk of memory. Gradients are therefore made in the forward pass; backward only applies the upstream
number to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

from qtarget.fused.arguments import Call, Reduction, check_reduction
from qtarget.fused.chunks import LossPlan, run_chunks
from qtarget.fused.custom_op import traceable, traced
from qtarget.fused.products import Products
from qtarget.target.evidence import CallInputs, Evidence, Head
from qtarget.target.types import LossOutput, Method


def linear_q_target_loss(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    method: Method,
    *,
    teacher: Evidence | tuple[Evidence, ...] | None = None,
    reference: Evidence | None = None,
    token_weight: Tensor | None = None,
    sequence_ids: Tensor | None = None,
    token_group: ProcessGroup | None = None,
    num_items: int | Tensor | None = None,
    ignore_index: int = -100,
    chunk_tokens: int | None = None,
    buffer_bytes: int | None = None,
    reduction: Reduction = "mean",
    diagnostics: Sequence[str] = ("trust", "scale"),
) -> LossOutput:
    """The loss of a method from hidden states, in the memory of one chunk of logits.

    Args:
        hidden: [..., H], aligned with labels.  head: the output layer; no gradient work is done for it when frozen.
        teacher, reference: `Dense`, `Sparse` or `LabelOnly` (whole logits only in `q_target_loss`).
        chunk_tokens: tokens a chunk; by default 128 on a CPU and 1024 elsewhere, fewer where memory is short. Results
            do not depend on it.
        buffer_bytes: in its place, what the call may take beside the gradients, whatever the number of tokens.
        reduction: "none" leaves `loss` per token, shaped like labels (0 where ignored), for an upstream gradient of
            each: a fourth matrix product, as gradients are then made in backward, any number of times.
        diagnostics: among trust, scale, p_y, top1 (1 where the label is the likeliest token), entropy, target_kl,
            teacher_entropy (of the first teacher); () is fastest.
        token_group: ranks that hold other tokens of the same batch, each its own (none, too), as under sequence or
            context parallelism. Methods that look beyond a token then look at all of them, sequence_ids being those
            of the whole batch, and num_items defaults to the count of all: loss and gradients sum to the whole over
            the ranks. nll and diagnostics are of the rank's own tokens. Every rank must call.
        Others as in `q_target_loss`. An output layer cut over ranks is `Head(..., shard=qt.Shard.of(weight, group))`.

    Tokens that are ignored, or of weight 0 in training, are dropped before any matrix product. Arithmetic and gradient
    sums are in fp32 (fp64 for fp64 inputs) until the upstream gradient has been applied. Inside `torch.compile` the
    call is one operator of the graph (`op.py`); each method compiles anew.

    Raises:
        ValueError: as `q_target_loss`, for whole logits as evidence, an unknown diagnostic, or chunk_tokens below 1.
        RuntimeError: a second backward through the same loss.
    """
    check_reduction(reduction, num_items)
    given = CallInputs(teacher, reference, token_weight, sequence_ids, token_group)
    call = Call(hidden, head, labels, method, given, ignore_index, chunk_tokens, buffer_bytes, diagnostics)
    compiling = torch.compiler.is_compiling() and traceable(call)
    return (traced if compiling else _eager)(call, num_items, reduction)


@torch.compiler.disable()
def _eager(call: Call, num_items: int | Tensor | None, reduction: Reduction) -> LossOutput:
    hidden, head = call.hidden, call.head
    with_gradients = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (hidden, head.weight, head.bias)
    )
    plan, hidden_TH = call.plan(with_gradients)
    tokens = plan.tokens
    function = _LinearQTarget if reduction == "mean" else _PerToken
    value, *measured = function.apply(hidden_TH, head.weight, head.bias, plan, with_gradients)
    nll, num_tokens = tokens.mean(measured[0])
    diagnostics = {name: tokens.unflatten(v) for name, v in zip(call.diagnostics, measured[1:], strict=True)}
    loss = value / tokens.denominator(num_items) if reduction == "mean" else tokens.unflatten(value, 0.0)
    return LossOutput(loss, nll, num_tokens, diagnostics)


class _LinearQTarget(torch.autograd.Function):
    """Sum of the loss, and [−log p_y, *diagnostics] per token; gradients are made here, in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden_TH: Tensor, weight: Tensor, bias: Tensor | None, plan: LossPlan, with_gradients: bool):
        ctx.set_materialize_grads(False)
        products = Products.of(hidden_TH, weight, [with_gradients and need for need in ctx.needs_input_grad[:3]])
        with torch.autocast(hidden_TH.device.type, enabled=False):
            value_T, measured = run_chunks(plan, products, hidden_TH, plan.head._replace(weight=weight, bias=bias))
        ctx.gradients = products.gradients
        ctx.dtypes = (hidden_TH.dtype, weight.dtype, None if bias is None else bias.dtype)
        total = value_T.sum()
        ctx.mark_non_differentiable(*measured)
        return (total, *measured)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor | None, *_: Any):
        if ctx.gradients is None:
            raise RuntimeError(
                "a second backward through linear_q_target_loss: its gradients are made in the forward pass and used "
                "up by the first backward; call the loss again, or use q_target_loss for retain_graph=True"
            )
        gradients, ctx.gradients = ctx.gradients, None
        if upstream is None:
            return None, None, None, None, None
        scaled = (None if g is None else g.mul_(upstream).to(t) for g, t in zip(gradients, ctx.dtypes, strict=True))
        return (*scaled, None, None)


class _PerToken(torch.autograd.Function):
    """The loss of each token, [T], and [−log p_y, *diagnostics]; chunks are computed again in backward."""

    @staticmethod
    def forward(ctx: Any, hidden_TH: Tensor, weight: Tensor, bias: Tensor | None, plan: LossPlan, with_gradients: bool):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden_TH, weight, bias)
        ctx.plan = plan
        products = Products.of(hidden_TH, weight, [False] * 3)
        with torch.autocast(hidden_TH.device.type, enabled=False):
            value_T, measured = run_chunks(plan, products, hidden_TH, plan.head._replace(weight=weight, bias=bias))
        ctx.mark_non_differentiable(*measured)
        return (value_T, *measured)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_T: Tensor | None, *_: Any):
        if upstream_T is None:
            return None, None, None, None, None
        inputs = ctx.saved_tensors
        hidden_TH, weight, bias = inputs
        products = Products.of(hidden_TH, weight, list(ctx.needs_input_grad[:3]))
        plan = replace(ctx.plan, diagnostics=())
        with torch.autocast(hidden_TH.device.type, enabled=False):
            run_chunks(plan, products, hidden_TH, plan.head._replace(weight=weight, bias=bias), upstream_T)
        gradients = zip(products.gradients, inputs, strict=True)
        return (*(None if g is None else g.to(x.dtype) for g, x in gradients), None, None)
