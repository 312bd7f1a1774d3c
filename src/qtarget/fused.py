"""The loss from hidden states and the output layer, never building the logits: the proven twin of `loss.py`.

Tokens go through in chunks. Of each chunk the logits are built in a reused buffer, turned into p − Q in place, and
multiplied into both gradients at once, so a step costs three matrix products (two with a frozen head, one without
gradients) and one chunk of memory. Gradients are therefore made in the forward pass; backward only applies the upstream
number to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qtarget.evidence import Evidence, Given, Head, Supervised
from qtarget.hyperparameters import suggestion
from qtarget.loss import check_mass, declared_target, spread, target_kl
from qtarget.matmul import Products
from qtarget.memory import free_bytes
from qtarget.rows import TOP1, Rows, Workspace
from qtarget.statistics import ENTROPY, LOGP_Y, SCALE, TRUST, cross, label_logp, negentropy
from qtarget.supervise import resolve, supervise
from qtarget.types import LossOutput, Method, Pool, Statistic, evaluate, reads

DIAGNOSTICS = ("trust", "scale", "p_y", "top1", "entropy", "target_kl", "teacher_entropy")
TEACHER_ENTROPY = Statistic("teacher_entropy", 0)
CHUNK_TOKENS = {"cpu": 256}
"""Tokens a chunk: on a CPU the logits of 256 stay in cache; an accelerator needs 1024 to keep its multipliers fed."""
LIKELY_BUFFERS = 4
"""Numbers per token and vocabulary entry that hardly any method exceeds."""


@torch.compiler.disable
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
    num_items: int | Tensor | None = None,
    ignore_index: int = -100,
    chunk_tokens: int | None = None,
    buffer_bytes: int | None = None,
    reduction: Literal["mean", "none"] = "mean",
    diagnostics: Sequence[str] = ("trust", "scale"),
) -> LossOutput:
    """The loss of a method from hidden states, in the memory of one chunk of logits.

    Args:
        hidden: [..., H], aligned with labels.  head: the output layer; no gradient work is done for it when frozen.
        teacher, reference: `Dense`, `Sparse` or `LabelOnly` (whole logits only in `q_target_loss`).
        chunk_tokens: tokens a chunk; by default 256 on a CPU and 1024 elsewhere, fewer where memory is short. Results
            do not depend on it.
        buffer_bytes: in its place, what the buffers of a chunk may take.
        reduction: "none" leaves `loss` per token, shaped like labels (0 where ignored), for an upstream gradient of
            each: a fourth matrix product, as gradients are then made in backward, any number of times.
        diagnostics: among trust, scale, p_y, top1 (1 where the label is the likeliest token), entropy, target_kl,
            teacher_entropy (of the first teacher); () is fastest.
        Others as in `q_target_loss`.

    Tokens that are ignored, or of weight 0 in training, are dropped before any matrix product. Arithmetic and gradient
    sums are in fp32 (fp64 for fp64 inputs) until the upstream gradient has been applied.

    Raises:
        ValueError: as `q_target_loss`, for whole logits as evidence, an unknown diagnostic, or chunk_tokens below 1.
        RuntimeError: a second backward through the same loss.
    """
    _check_hidden(hidden, head, labels)
    _check_chunk(chunk_tokens, buffer_bytes)
    _check_reduction(reduction, num_items)
    _check_diagnostics(diagnostics, method)
    _check_evidence(teacher=teacher, reference=reference)
    given = Given(teacher, reference, token_weight, sequence_ids)
    method = resolve(method, given)
    with_gradients = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (hidden, head.weight, head.bias)
    )
    tokens = supervise(labels, method, head.weight.shape[0], given, ignore_index, with_gradients)
    hidden_TH = hidden.reshape(-1, hidden.shape[-1]).index_select(0, tokens.where)
    plan = _Plan(method, tokens, head, chunk_tokens or CHUNK_TOKENS.get(hidden.device.type, 1024), tuple(diagnostics))
    if chunk_tokens is None:
        plan = replace(plan, chunk_tokens=_fitting(plan, hidden_TH, buffer_bytes))
    function = _LinearQTarget if reduction == "mean" else _PerToken
    value, *measured = function.apply(hidden_TH, head.weight, head.bias, plan, with_gradients)
    nll, num_tokens = tokens.mean(measured[0])
    return LossOutput(
        loss=value / tokens.denominator(num_items) if reduction == "mean" else tokens.unflatten(value, 0.0),
        nll=nll,
        num_tokens=num_tokens,
        diagnostics={name: tokens.unflatten(v) for name, v in zip(diagnostics, measured[1:], strict=True)},
    )


class _Numbers(NamedTuple):
    """Trust, scale, token weight and the residual's coefficients of some tokens, [C] each."""

    trust: Tensor
    scale: Tensor
    multiplier: Tensor | float
    coefficients: tuple[Tensor, ...]

    def part(self, rows: slice) -> _Numbers:
        multiplier = self.multiplier[rows] if isinstance(self.multiplier, Tensor) else self.multiplier
        return _Numbers(self.trust[rows], self.scale[rows], multiplier, tuple(c[rows] for c in self.coefficients))


@dataclass(frozen=True)
class _Plan:
    """What one call computes, decided before any chunk."""

    method: Method
    tokens: Supervised
    head: Head
    chunk_tokens: int
    diagnostics: tuple[str, ...]

    @property
    def first(self) -> tuple[Statistic, ...]:
        """What trust, scale and coefficients read."""
        return tuple(s for n in self.method.numbers for s in reads(n))

    @property
    def second(self) -> tuple[Statistic, ...]:
        """What the value and the diagnostics read, besides trust and scale."""
        own = (cross(t.pool) for t in self.method.residual) if self.method.value is None else reads(self.method.value)
        wanted = [s for s in own if s not in (TRUST, SCALE)]
        if "entropy" in self.diagnostics:
            wanted.append(ENTROPY)
        if "teacher_entropy" in self.diagnostics:
            wanted.append(TEACHER_ENTROPY)
        if "target_kl" in self.diagnostics and (pool := self.only_pool) is not None:
            wanted += [cross(pool), negentropy(pool), label_logp(pool)]
        return tuple(wanted)

    @property
    def only_pool(self) -> Pool | None:
        """The single residual, where KL(Q‖p) has a closed form in that pool's statistics."""
        residual = self.method.residual
        single = len(residual) == 1 and not residual[0].pool.is_student and residual[0].pool.tangent is None
        return residual[0].pool if single else None

    @property
    def needs_whole_target(self) -> bool:
        """Whether KL(Q‖p) has no closed form and Q is built for it, chunk by chunk."""
        closed = self.only_pool is not None or all(t.pool.is_student for t in self.method.residual)
        return "target_kl" in self.diagnostics and not closed

    def chunks(self) -> Iterator[slice]:
        """Even chunks of at most `chunk_tokens`."""
        total = len(self.tokens.where)
        number = -(-total // self.chunk_tokens)
        bounds = [total * i // number for i in range(number + 1)] if number else [0]
        return (slice(a, b) for a, b in pairwise(bounds))


class _LinearQTarget(torch.autograd.Function):
    """Sum of the loss, and [−log p_y, *diagnostics] per token; gradients are made here, in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden_TH: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan, with_gradients: bool):
        ctx.set_materialize_grads(False)
        products = Products.of(hidden_TH, weight, [with_gradients and need for need in ctx.needs_input_grad[:3]])
        with torch.autocast(hidden_TH.device.type, enabled=False):
            value_T, measured = _run(plan, products, hidden_TH, plan.head._replace(weight=weight, bias=bias))
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
    def forward(ctx: Any, hidden_TH: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan, with_gradients: bool):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden_TH, weight, bias)
        ctx.plan = plan
        products = Products.of(hidden_TH, weight, [False] * 3)
        with torch.autocast(hidden_TH.device.type, enabled=False):
            value_T, measured = _run(plan, products, hidden_TH, plan.head._replace(weight=weight, bias=bias))
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
            _run(plan, products, hidden_TH, plan.head._replace(weight=weight, bias=bias), upstream_T)
        gradients = zip(products.gradients, inputs, strict=True)
        return (*(None if g is None else g.to(x.dtype) for g, x in gradients), None, None)


def _run(
    plan: _Plan,
    products: Products,
    hidden_TH: Tensor,
    head: Head,
    upstream_T: Tensor | None = None,
    workspace: Workspace | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Every chunk in turn: measure, value, diagnose, and add its gradients, each token's times its upstream number."""
    workspace = workspace or Workspace(min(plan.chunk_tokens, max(len(hidden_TH), 1)), len(head.weight), products.like)
    start = partial(_start, plan, products, hidden_TH, head, workspace)
    across = None if plan.method.scope == "token" else _numbers_across(plan, start)
    keep_logits = (products.wanted and head.softcap is not None) or plan.needs_whole_target
    done: list[list[Tensor]] = []
    for part in plan.chunks():
        rows = start(part)
        wanted = plan.second if across else (*plan.first, *plan.second)
        rows.measure(plan.method.pools, dict.fromkeys(wanted), keep_logits)
        numbers = _numbers(plan.method, rows.measured, rows.tokens) if across is None else across.part(part)
        done.append([_value(plan, rows, numbers), *_measured(plan, rows, numbers)])
        if products.wanted:
            gradient_CV, factor_C = _gradient(plan, rows, numbers)
            factor_C = factor_C if upstream_T is None else factor_C * upstream_T[part]
            products.add(part, hidden_TH[part], head, gradient_CV, factor_C, rows.logits_CV)
    joined = [torch.cat(column) for column in zip(*done, strict=True)]
    joined = joined or [products.like.new_zeros(0)] * (2 + len(plan.diagnostics))
    return joined[0], joined[1:]


def _fitting(plan: _Plan, hidden_TH: Tensor, buffer_bytes: int | None) -> int:
    """Tokens a chunk, so that its buffers take at most `buffer_bytes`, or half of what memory is free."""
    if not len(hidden_TH):
        return plan.chunk_tokens
    per_number = 8 if hidden_TH.dtype == torch.float64 else 4
    row = per_number * len(plan.head.weight)
    if buffer_bytes is None:
        free = free_bytes(hidden_TH.device)
        if free is None or LIKELY_BUFFERS * row * plan.chunk_tokens <= free / 2:
            return plan.chunk_tokens
        buffer_bytes = free // 2
    return max(1, min(plan.chunk_tokens, int(buffer_bytes) // (row * _buffers(plan, hidden_TH))))


def _buffers(plan: _Plan, hidden_TH: Tensor) -> int:
    """How many numbers per token and vocabulary entry a chunk holds at once, found by trying one token."""
    one = replace(plan, tokens=plan.tokens.chunk(slice(0, 1)), chunk_tokens=1)
    weight, bias = plan.head.weight.detach(), None if plan.head.bias is None else plan.head.bias.detach()
    products = Products.of(hidden_TH[:1], weight, [True, False, False])
    workspace = Workspace(1, len(weight), products.like)
    _run(one, products, hidden_TH[:1].detach(), plan.head._replace(weight=weight, bias=bias), workspace=workspace)
    return workspace.number


def _start(plan: _Plan, products: Products, hidden_TH: Tensor, head: Head, workspace: Workspace, part: slice) -> Rows:
    """One chunk's logits, in the buffer that all chunks share."""
    logits_CV = workspace("logits", part.stop - part.start)
    products.logits_into(logits_CV, hidden_TH[part], head)
    return Rows(logits_CV, plan.tokens.chunk(part), workspace, products.logits_into, head.bias is not None)


def _numbers_across(plan: _Plan, start: Callable[[slice], Rows]) -> _Numbers | None:
    """For rules that look beyond a token: measure every token first, then evaluate once."""
    chunks = []
    for part in plan.chunks():
        rows = start(part)
        rows.measure([s.of for s in plan.first if isinstance(s.of, Pool)], plan.first, keep_logits=False)
        chunks.append(rows.measured)
    if not chunks:
        return None
    joined = {s: torch.cat([measured[s] for measured in chunks]) for s in (*plan.first, LOGP_Y)}
    return _numbers(plan.method, joined, plan.tokens)


def _numbers(method: Method, measured: Mapping[Statistic, Tensor], tokens: Supervised) -> _Numbers:
    like_T = measured[LOGP_Y]
    trust, scale, *coefficients = (spread(evaluate(n, measured), like_T) for n in method.numbers)
    check_mass(method, trust, coefficients)
    return _Numbers(trust, scale, tokens.multiplier(method, like_T.dtype), tuple(coefficients))


def _value(plan: _Plan, rows: Rows, numbers: _Numbers) -> Tensor:
    """The paper's loss, or s·CE(Q, p), times the token weight; [C]."""
    rule, logp_y_C = plan.method.value, rows.measured[LOGP_Y]
    if rule is not None:
        value_C = rule(rows.measured | {TRUST: numbers.trust, SCALE: numbers.scale})
    else:
        expected_C = numbers.trust * logp_y_C
        for c, term in zip(numbers.coefficients, plan.method.residual, strict=True):
            expected_C = expected_C + c * rows.measured[cross(term.pool)]
        value_C = -numbers.scale * expected_C
    return value_C * numbers.multiplier


def _gradient(plan: _Plan, rows: Rows, numbers: _Numbers) -> tuple[Tensor, Tensor]:
    """(p − Q up to a factor per token, that factor); their product is the logit gradient."""
    factor_C = numbers.scale * numbers.multiplier
    shares = zip(numbers.coefficients, plan.method.residual, strict=True)
    student, parts = [], {}
    for coefficient_C, (_, pool) in shares:
        if pool.is_student:
            student.append(coefficient_C)
        else:
            parts[pool] = parts[pool] + coefficient_C if pool in parts else coefficient_C
    if not parts:  # Q = γ·onehot + (1−γ)·p, so p − Q = γ·(p − onehot)
        return rows.gradient_(torch.ones_like(factor_C), None, {}), factor_C * numbers.trust
    return rows.gradient_(numbers.trust, sum(student[1:], student[0]) if student else None, parts), factor_C


def _measured(plan: _Plan, rows: Rows, numbers: _Numbers) -> list[Tensor]:
    """−log p_y and the diagnostics asked for, [C] each."""
    logp_y_C = rows.measured[LOGP_Y]
    make: dict[str, Callable[[], Tensor]] = {
        "trust": lambda: numbers.trust,
        "scale": lambda: numbers.scale * numbers.multiplier,
        "p_y": lambda: logp_y_C.exp(),
        "top1": lambda: rows.measured[TOP1],
        "entropy": lambda: rows.measured[ENTROPY],
        "target_kl": lambda: _target_kl(plan, rows, numbers),
        "teacher_entropy": lambda: rows.measured[TEACHER_ENTROPY],
    }
    return [-logp_y_C, *(make[name]() for name in plan.diagnostics)]


def _target_kl(plan: _Plan, rows: Rows, numbers: _Numbers) -> Tensor:
    """KL(Q‖p) in nats, in closed form for a single residual; NaN where Q is improper."""
    if plan.needs_whole_target:
        frame = rows.frame()
        return target_kl(declared_target(plan.method, frame).q, frame.logp_TV)
    trust_C, logp_y_C = numbers.trust, rows.measured[LOGP_Y]
    if (pool := plan.only_pool) is None:
        rest_C, gap_C, own_y_C = 1 - trust_C, torch.zeros_like(trust_C), logp_y_C
    else:
        (rest_C,) = numbers.coefficients
        gap_C, own_y_C = (
            rows.measured[negentropy(pool)] - rows.measured[cross(pool)],
            rows.measured[label_logp(pool)],
        )
    own_C = own_y_C.exp()
    q_y_C = trust_C + rest_C * own_C
    elsewhere_C = _xlogx(rest_C) * (1 - own_C) + rest_C * (gap_C - own_C * (own_y_C - logp_y_C))
    kl_C = elsewhere_C + _xlogx(q_y_C) - q_y_C * logp_y_C
    return kl_C.masked_fill((rest_C < -1e-6) | (q_y_C < -1e-6), torch.nan)


def _xlogx(share_C: Tensor) -> Tensor:
    """x log x; 0 where rounding left x a little below 0."""
    return torch.xlogy(share_C.clamp(min=0), share_C.clamp(min=0))


def _check_hidden(hidden: Tensor, head: Head, labels: Tensor) -> None:
    if hidden.shape[:-1] != labels.shape:
        raise ValueError(
            f"hidden has shape {list(hidden.shape)}, labels {list(labels.shape)}; "
            f"hidden must be {[*labels.shape, 'H']}: shift both before the call, as in hidden[:, :-1], labels[:, 1:]"
        )
    if head.weight.dim() != 2 or head.weight.shape[1] != hidden.shape[-1]:
        raise ValueError(
            f"head.weight has shape {list(head.weight.shape)}; it must be [V, {hidden.shape[-1]}] to match hidden, as "
            f"model.get_output_embeddings().weight is"
        )


def _check_chunk(chunk_tokens: int | None, buffer_bytes: int | None) -> None:
    if chunk_tokens is not None and not (isinstance(chunk_tokens, int) and chunk_tokens > 0):
        raise ValueError(f"chunk_tokens={chunk_tokens!r} must be a whole number >= 1, or None for the default")
    if chunk_tokens is not None and buffer_bytes is not None:
        raise ValueError("chunk_tokens and buffer_bytes both say how large a chunk is; give one of them")
    if buffer_bytes is not None and not buffer_bytes > 0:
        raise ValueError(f"buffer_bytes={buffer_bytes!r} must be a number of bytes > 0, as in buffer_bytes=80 * 2**20")


def _check_reduction(reduction: str, num_items: int | Tensor | None) -> None:
    if reduction not in ("mean", "none"):
        raise ValueError(f'reduction="{reduction}" is neither "mean" nor "none"')
    if reduction == "none" and num_items is not None:
        raise ValueError('reduction="none" divides by nothing; leave num_items out and divide where you sum')


def _check_evidence(**sources: Evidence | tuple[Evidence, ...] | None) -> None:
    for name, source in sources.items():
        if any(isinstance(s, Tensor) for s in (source if isinstance(source, tuple) else (source,))):
            raise ValueError(
                f"{name} is a tensor of logits, which the fused loss never builds; pass {name}=qt.Dense(hidden, head), "
                f"or call q_target_loss with the student's logits"
            )


def _check_diagnostics(diagnostics: Sequence[str], method: Method) -> None:
    if isinstance(diagnostics, str):
        raise ValueError(f'diagnostics="{diagnostics}" is one word; write diagnostics=("{diagnostics}",)')
    for name in diagnostics:
        if name not in DIAGNOSTICS:
            raise ValueError(f'no diagnostic "{name}"; {suggestion(name, DIAGNOSTICS)}')
    if "teacher_entropy" in diagnostics and "teacher" not in method.needs - method.label_only:
        raise ValueError(f'"{method.name}" has no teacher distribution; leave "teacher_entropy" out of diagnostics')
