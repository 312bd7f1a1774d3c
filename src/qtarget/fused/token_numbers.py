"""What follows from the statistics of a chunk: trust, scale and coefficients, the loss, Q and the diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from qtarget.fused.engine import ChunkEngine
from qtarget.fused.loss_plan import TEACHER_ENTROPY, LossPlan
from qtarget.fused.pools import TargetShares
from qtarget.fused.torch_engine import TorchChunk
from qtarget.target.evidence import SupervisedTokens
from qtarget.target.loss import check_mass, declared_target, per_token, target_kl
from qtarget.target.rule import Statistic, value_of
from qtarget.target.statistics import ENTROPY, LOGP_Y, SCALE, TOP1, TRUST, cross, label_logp, negentropy
from qtarget.target.types import Method


class TokenNumbers(NamedTuple):
    """Trust γ, scale s, the multiplier that token weights give, and the residual's coefficients c_j; [C] each."""

    trust: Tensor
    scale: Tensor
    multiplier: Tensor | float
    coefficients: tuple[Tensor, ...]

    def part(self, rows: slice) -> TokenNumbers:
        multiplier = self.multiplier[rows] if isinstance(self.multiplier, Tensor) else self.multiplier
        return TokenNumbers(self.trust[rows], self.scale[rows], multiplier, tuple(c[rows] for c in self.coefficients))


def token_numbers(method: Method, measured: Mapping[Statistic, Tensor], tokens: SupervisedTokens) -> TokenNumbers:
    """The method's rules, evaluated on measured statistics.

    Raises:
        ValueError: as `check_mass`, where trust and coefficients of a token do not sum to 1.
    """
    like_T = measured[LOGP_Y]
    trust, scale, *coefficients = (per_token(value_of(n, measured), like_T) for n in method.numbers)
    check_mass(method, trust, coefficients)
    return TokenNumbers(trust, scale, tokens.multiplier(method.weight_is_trust, like_T.dtype), tuple(coefficients))


def token_values(plan: LossPlan, chunk: ChunkEngine, numbers: TokenNumbers) -> Tensor:
    """The paper's loss, or s·CE(Q, p), times the token weight; [C]."""
    rule, logp_y_C = plan.method.value, chunk.measured[LOGP_Y]
    if rule is not None:
        value_C = rule(chunk.measured | {TRUST: numbers.trust, SCALE: numbers.scale})
    else:
        expected_C = numbers.trust * logp_y_C
        for c, term in zip(numbers.coefficients, plan.method.residual, strict=True):
            expected_C = expected_C + c * chunk.measured[cross(term.pool)]
        value_C = -numbers.scale * expected_C
    return value_C * numbers.multiplier


def target_shares(plan: LossPlan, numbers: TokenNumbers) -> tuple[TargetShares, Tensor]:
    """Q, and the factor that p − Q has in the gradient to the logits, [C]."""
    factor_C = numbers.scale * numbers.multiplier
    shares = zip(numbers.coefficients, plan.method.residual, strict=True)
    student, parts = [], {}
    for coefficient_C, (_, pool) in shares:
        if pool.is_student:
            student.append(coefficient_C)
        else:
            parts[pool] = parts[pool] + coefficient_C if pool in parts else coefficient_C
    if not parts:  # Q = γ·onehot + (1−γ)·p, so p − Q = γ·(p − onehot)
        return TargetShares(torch.ones_like(factor_C), None, {}), factor_C * numbers.trust
    return TargetShares(numbers.trust, sum(student[1:], student[0]) if student else None, parts), factor_C


def nll_and_diagnostics(plan: LossPlan, chunk: ChunkEngine, numbers: TokenNumbers) -> list[Tensor]:
    """−log p_y and the diagnostics asked for, [C] each."""
    logp_y_C = chunk.measured[LOGP_Y]
    make: dict[str, Callable[[], Tensor]] = {
        "trust": lambda: numbers.trust,
        "scale": lambda: numbers.scale * numbers.multiplier,
        "p_y": lambda: logp_y_C.exp(),
        "logp_y": lambda: logp_y_C,
        "top1": lambda: chunk.measured[TOP1],
        "entropy": lambda: chunk.measured[ENTROPY],
        "target_kl": lambda: _target_kl(plan, chunk, numbers),
        "teacher_entropy": lambda: chunk.measured[TEACHER_ENTROPY],
    }
    return [-logp_y_C, *(make[name]() for name in plan.diagnostics)]


def _target_kl(plan: LossPlan, chunk: ChunkEngine, numbers: TokenNumbers) -> Tensor:
    """KL(Q‖p) in nats, in closed form for a single residual; NaN where Q is improper."""
    if plan.needs_whole_target:
        assert isinstance(chunk, TorchChunk)  # see `choose_engine`
        frame = chunk.frame()
        return target_kl(declared_target(plan.method, frame).q, frame.logp_TV)
    trust_C, logp_y_C = numbers.trust, chunk.measured[LOGP_Y]
    if (pool := plan.only_pool) is None:
        rest_C, gap_C, pool_logp_y_C = 1 - trust_C, torch.zeros_like(trust_C), logp_y_C
    else:
        (rest_C,) = numbers.coefficients
        gap_C, pool_logp_y_C = (
            chunk.measured[negentropy(pool)] - chunk.measured[cross(pool)],
            chunk.measured[label_logp(pool)],
        )
    pool_y_C = pool_logp_y_C.exp()
    q_y_C = trust_C + rest_C * pool_y_C
    elsewhere_C = _xlogx(rest_C) * (1 - pool_y_C) + rest_C * (gap_C - pool_y_C * (pool_logp_y_C - logp_y_C))
    kl_C = elsewhere_C + _xlogx(q_y_C) - q_y_C * logp_y_C
    return kl_C.masked_fill((rest_C < -1e-6) | (q_y_C < -1e-6), torch.nan)


def _xlogx(share_C: Tensor) -> Tensor:
    """x log x; 0 where rounding left x a little below 0."""
    return torch.xlogy(share_C.clamp(min=0), share_C.clamp(min=0))
