"""The fused loss, chunk by chunk: measure the tokens of a chunk, value and diagnose them, and add their gradients.

The logits of a chunk are built in a reused buffer and turned into p − Q in place (`rows.py`), which is multiplied into
the gradients (`matmul.py`). What is computed is a `Plan`, decided before any chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qtarget.fused.products import Products
from qtarget.fused.torch_engine import TorchChunk, Workspace
from qtarget.target.evidence import Head, SupervisedTokens
from qtarget.target.loss import check_mass, declared_target, per_token, target_kl
from qtarget.target.ranks import gather_tokens
from qtarget.target.statistics import (
    ENTROPY,
    LOGP_Y,
    SCALE,
    TOP1,
    TRUST,
    cross,
    label_logp,
    negentropy,
    teacher_entropy,
)
from qtarget.target.types import Method, Pool, Statistic, reads, value_of

TEACHER_ENTROPY = teacher_entropy(0)


@dataclass(frozen=True)
class LossPlan:
    """What one call computes, decided before any chunk."""

    method: Method
    tokens: SupervisedTokens
    head: Head
    chunk_tokens: int
    diagnostics: tuple[str, ...]
    widens_once: bool = True

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


def run_chunks(
    plan: LossPlan,
    products: Products,
    hidden_TH: Tensor,
    head: Head,
    upstream_T: Tensor | None = None,
    workspace: Workspace | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Every chunk in turn: measure, value, diagnose, and add its gradients, each token's times its upstream number."""
    if workspace is None:
        chunk = min(plan.chunk_tokens, max(len(hidden_TH), 1))
        workspace = Workspace(chunk, len(head.weight), logit_buffer_like(plan, products))
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
            target, factor_C = _target(plan, numbers)
            factor_C = factor_C if upstream_T is None else factor_C * upstream_T[part]
            if isinstance(rows, TorchChunk):
                products.add(part, hidden_TH[part], head, rows.gradient_(*target), factor_C, rows.logits_CV)
            else:
                products.add_finished(part, hidden_TH[part], head.weight, rows.gradient_(*target, factor_C))
    if (to_hidden := products.gradients[0]) is not None:
        head.axis.sum(to_hidden)
    columns = [torch.cat(column) for column in zip(*done, strict=True)]
    columns = columns or [products.like.new_zeros(0) for _ in range(2 + len(plan.diagnostics))]
    return columns[0], columns[1:]


class Numbers(NamedTuple):
    """Trust, scale, token weight and the residual's coefficients of some tokens, [C] each."""

    trust: Tensor
    scale: Tensor
    multiplier: Tensor | float
    coefficients: tuple[Tensor, ...]

    def part(self, rows: slice) -> Numbers:
        multiplier = self.multiplier[rows] if isinstance(self.multiplier, Tensor) else self.multiplier
        return Numbers(self.trust[rows], self.scale[rows], multiplier, tuple(c[rows] for c in self.coefficients))


def _start(plan: LossPlan, products: Products, hidden_TH: Tensor, head: Head, workspace: Workspace, part: slice) -> Any:
    """One chunk's logits, in the buffer that all chunks share: `Rows`, or `KernelRows`, which are used alike."""
    logits_CV, kernels = workspace("logits", part.stop - part.start), _kernels(plan, products)
    inside = head if kernels is None else head._replace(scale=None, softcap=None)
    products.logits_into(logits_CV, hidden_TH[part], inside)
    may_mask = head.bias is not None
    rows = TorchChunk(logits_CV, plan.tokens.chunk(part), workspace, products.logits_into, may_mask, head.axis)
    return rows if kernels is None else kernels.TritonChunk(rows, head)


def has_kernels(like: Tensor) -> bool:
    """Whether the Triton kernels run on a tensor's device: on CUDA, with triton, which comes with torch there."""
    return like.device.type == "cuda" and find_spec("triton") is not None


def _kernels(plan: LossPlan, products: Products) -> Any:
    """The kernels' module where they run and cover all that the plan asks for."""
    if not has_kernels(products.like) or products.like.dtype == torch.float64 or plan.needs_whole_target:
        return None
    from qtarget.fused.triton import triton_engine as rows

    return rows if rows.covers(plan.method.pools, (*plan.first, *plan.second), plan.tokens, plan.head) else None


def logit_buffer_like(plan: LossPlan, products: Products) -> Tensor:
    """The kernels read logits as the matrix product gives them; torch works on wide ones."""
    return products.like if _kernels(plan, products) is None else products.like.to(products.operand)


def _numbers_across(plan: LossPlan, start: Callable[[slice], TorchChunk]) -> Numbers | None:
    """For rules that look beyond a token: measure every token first, then evaluate once."""
    chunks = []
    for part in list(plan.chunks()) or [slice(0, 0)]:
        rows = start(part)
        rows.measure([s.of for s in plan.first if isinstance(s.of, Pool)], plan.first, keep_logits=False)
        chunks.append(rows.measured)
    own = {s: torch.cat([measured[s] for measured in chunks]) for s in (*plan.first, LOGP_Y)}
    every, mine = (own, slice(None)) if plan.tokens.group is None else gather_tokens(own, plan.tokens.group)
    if not len(every[LOGP_Y]):
        return None
    numbers = _numbers(plan.method, every, plan.tokens)
    return numbers.part(mine)._replace(multiplier=numbers.multiplier)


def _numbers(method: Method, measured: Mapping[Statistic, Tensor], tokens: SupervisedTokens) -> Numbers:
    like_T = measured[LOGP_Y]
    trust, scale, *coefficients = (per_token(value_of(n, measured), like_T) for n in method.numbers)
    check_mass(method, trust, coefficients)
    return Numbers(trust, scale, tokens.multiplier(method, like_T.dtype), tuple(coefficients))


def _value(plan: LossPlan, rows: TorchChunk, numbers: Numbers) -> Tensor:
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


def _target(plan: LossPlan, numbers: Numbers) -> tuple[tuple[Tensor, Tensor | None, dict[Pool, Tensor]], Tensor]:
    """Q as `Rows.gradient_` takes it, and the factor that p − Q has in the logit gradient, [C]."""
    factor_C = numbers.scale * numbers.multiplier
    shares = zip(numbers.coefficients, plan.method.residual, strict=True)
    student, parts = [], {}
    for coefficient_C, (_, pool) in shares:
        if pool.is_student:
            student.append(coefficient_C)
        else:
            parts[pool] = parts[pool] + coefficient_C if pool in parts else coefficient_C
    if not parts:  # Q = γ·onehot + (1−γ)·p, so p − Q = γ·(p − onehot)
        return (torch.ones_like(factor_C), None, {}), factor_C * numbers.trust
    return (numbers.trust, sum(student[1:], student[0]) if student else None, parts), factor_C


def _measured(plan: LossPlan, rows: TorchChunk, numbers: Numbers) -> list[Tensor]:
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


def _target_kl(plan: LossPlan, rows: TorchChunk, numbers: Numbers) -> Tensor:
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
