"""The loss from hidden states and the output layer, never building the logits: equals `target/loss.py` up to rounding.

Tokens go through in chunks. Of each chunk the logits are built in a reused buffer, turned into p − Q in place, and
multiplied into both gradients at once, so a step costs three matrix products (two with a frozen head, one without
gradients) and one chunk of memory. Gradients are therefore made in the forward pass; backward only applies the upstream
number to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

from qtarget.fused.arguments import Call, Reduction, check_reduction
from qtarget.fused.custom_op import traceable, traced
from qtarget.fused.differentiation import Gradients, LossStep, narrowed, scaled_in_place, spread_out, student_dtypes
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
    progress: float | Tensor | None = None,
    position: Tensor | None = None,
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
        chunk_tokens: tokens a chunk; by default 128 on a CPU; elsewhere 2·H, from 1024 to 4096, or 1024 where the
            output layer gets no gradient; fewer where memory is short. Results do not depend on it.
        buffer_bytes: in its place, what the call may take beside the gradients in fp32, whatever the number of tokens:
            logits, casts and the products' scratch. Not counted are numbers of a token and copies of its hidden states
            where others are masked; backward also narrows the gradients to the inputs' dtype.
        reduction: "none" leaves `loss` per token, shaped like labels (0 where ignored), for an upstream gradient of
            each: a fourth matrix product, as gradients are then made in backward, any number of times.
        diagnostics: among trust, scale, p_y, logp_y (nats), top1 (1 where the label is the likeliest token), entropy,
            target_kl, teacher_entropy (of the first teacher); () is fastest.
        token_group: ranks that hold other tokens of the same batch, each its own (none, too), as under sequence or
            context parallelism. Methods that look beyond a token then look at all of them, sequence_ids being those
            of the whole batch, and num_items defaults to the count of all: loss and gradients sum to the whole over
            the ranks. nll and diagnostics are of the rank's own tokens. Every rank must call.

    Other arguments are as in `q_target_loss`. An output layer cut over ranks is
    `Head(..., shard=qt.Shard.of(weight, group))`.

    Tokens that are ignored, or of weight 0 in training, are dropped before any matrix product. Arithmetic and gradient
    sums are in fp32 (fp64 for fp64 inputs) until the upstream gradient has been applied. Inside `torch.compile` the
    call is one operator of the graph (`custom_op.py`); each method compiles anew.

    Raises:
        ValueError: as `q_target_loss`, for whole logits as evidence, an unknown diagnostic, chunk_tokens below 1, or
            buffer_bytes below what one token takes.
        RuntimeError: a second backward through the same loss.
    """
    check_reduction(reduction, num_items)
    given = CallInputs(teacher, reference, token_weight, sequence_ids, token_group, progress, position)
    call = Call(hidden, head, labels, method, given, ignore_index, chunk_tokens, buffer_bytes, diagnostics)
    step = LossStep.of(call, reduction)
    outputs = traced(step) if torch.compiler.is_compiling() and traceable(call) else _eager(step)
    return step.output(outputs, num_items)


@torch.compiler.disable()
def _eager(step: LossStep) -> Sequence[Tensor]:
    hidden, head = step.call.hidden, step.call.head
    return _LinearQTarget.apply(hidden, head.weight, head.bias, step)


class _LinearQTarget(torch.autograd.Function):
    """`LossStep` outside of a graph: gradients wait in `ctx.made` for one backward, which may overwrite them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, step: LossStep) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        result = step.run()
        ctx.dtypes = student_dtypes(hidden, weight, bias)
        ctx.made, ctx.where, ctx.shape, ctx.step = result.gradients, result.where, hidden.shape, None
        if step.reduction == "none":
            ctx.step = step.without_student()
            ctx.save_for_backward(hidden, weight, bias)
        ctx.mark_non_differentiable(*result.outputs[1:])
        return result.outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return None, None, None, None
        gradients = _scaled(ctx, upstream) if ctx.step is None else narrowed(_made_again(ctx, upstream), ctx.dtypes)
        return (*spread_out(gradients, ctx.where, ctx.shape), None)


def _scaled(ctx: Any, upstream: Tensor) -> Gradients:
    """The gradients of the forward pass times the upstream number. They lie in their own memory, and are had once."""
    if ctx.made is None:
        raise RuntimeError(
            "a second backward through linear_q_target_loss: its gradients are made in the forward pass and used "
            "up by the first backward; call the loss again, or use q_target_loss for retain_graph=True"
        )
    made, ctx.made = ctx.made, None
    return scaled_in_place(made, upstream, ctx.dtypes)


def _made_again(ctx: Any, upstream: Tensor) -> Gradients:
    step = ctx.step.with_student(*ctx.saved_tensors)._replace(wanted=ctx.needs_input_grad[:3])
    return step.run(upstream).gradients
