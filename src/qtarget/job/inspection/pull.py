"""How every method pulls at every token: trust, scale, KL(Q‖p) and the norm of its gradient s·(p − Q).

The definition is `qtarget.target.loss`; here each distribution is built once for all methods, and the many whose
residual is the student itself need none: with Q = γ·d + (1 − γ)·p the gradient is sγ·(p − d).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

import qtarget as qt
from qtarget.job.inspection.whole_frame import WholeFrame, without_reference
from qtarget.target.loss import IMPROPER, per_token
from qtarget.target.rule import Statistic, reads, value_of
from qtarget.target.statistics import LOG_NOT_Y, LOGP_Y


class TokenPull(NamedTuple):
    """A method at T tokens, [T] each. target_kl: nats, NaN where Q is improper. gradient: ‖s(p − Q)‖."""

    trust: Tensor
    scale: Tensor
    target_kl: Tensor
    gradient: Tensor


def is_label_trust(method: qt.Method) -> bool:
    """Whether all mass that the label does not get stays with the student."""
    return all(term.pool.is_student for term in method.residual)


def label_gap(frame: WholeFrame) -> Tensor:
    """‖p − d‖, [T], without the cancellation of 1 − p_y where the student is sure."""
    return torch.hypot(frame.others.norm, frame[LOG_NOT_Y].exp())


def beside_itself(method: qt.Method) -> qt.Method:
    """The method where the reference is the student: a residual of the reference is then one of the student."""
    return replace(method, residual=tuple((term.coefficient, without_reference(term.pool)) for term in method.residual))


def statistics_of(methods: Sequence[qt.Method]) -> tuple[Statistic, ...]:
    """What the numbers of methods read."""
    return tuple(dict.fromkeys(s for method in methods for number in method.numbers for s in reads(number)))


def label_trust_pull(method: qt.Method, measured: Mapping[Statistic, Tensor], gap_T: Tensor) -> TokenPull:
    """Of a method whose residual is the student, from numbers per token alone; of any scope.

    Args:
        measured: `LOGP_Y`, `LOG_NOT_Y` and what the method reads, over all tokens that it looks at together.
        gap_T: `label_gap`.
    """
    trust_T, scale_T = (per_token(value_of(number, measured), gap_T) for number in (method.trust, method.scale))
    sure_T = trust_T.clamp(max=1)  # beyond 1 by rounding alone, or improper
    label_T = sure_T + (1 - sure_T) * measured[LOGP_Y].exp()
    kl_T = torch.special.xlogy(label_T, label_T) - label_T * measured[LOGP_Y]
    kl_T = kl_T + torch.special.xlog1py((1 - sure_T) * measured[LOG_NOT_Y].exp(), -sure_T)
    is_proper = trust_T <= 1 - IMPROPER.get(trust_T.dtype, -1e-6)
    return TokenPull(trust_T, scale_T, kl_T.where(is_proper, torch.nan), scale_T * trust_T.abs() * gap_T)


def _numbers_of(method: qt.Method, frame: WholeFrame) -> list[Tensor]:
    """Trust, scale and the coefficient of each residual, [T] each."""
    return [per_token(value_of(number, frame), frame[LOGP_Y]) for number in method.numbers]


def target_at(method: qt.Method, frame: WholeFrame, ids_TK: Tensor) -> Tensor:
    """Q of a method of token scope at some tokens, [T, K]."""
    trust_T, _, *coefficients = _numbers_of(method, frame)
    q_TK = trust_T[:, None] * (ids_TK == frame.tokens.labels_T[:, None])
    for coefficient_T, (_, pool) in zip(coefficients, method.residual, strict=True):
        q_TK = q_TK + coefficient_T[:, None] * frame.term_TV(pool).gather(-1, ids_TK)
    return q_TK


def residual_pull(method: qt.Method, frame: WholeFrame) -> TokenPull:
    """Of any method of token scope, from whole distributions."""
    trust_T, scale_T, *coefficients = _numbers_of(method, frame)
    gap_TV = _target_gap(method, frame, trust_T, coefficients)
    gradient_T = scale_T.abs() * gap_TV.norm(dim=-1)
    pools = [term.pool for term in method.residual]
    is_one = len(pools) == 1 and pools[0].tangent is None
    kl_T = _mixture_kl(trust_T, coefficients[0], pools[0], frame) if is_one else _kl_of_gap(gap_TV, frame)
    return TokenPull(trust_T, scale_T, kl_T, gradient_T)


def _target_gap(method: qt.Method, frame: WholeFrame, trust_T: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    """Q − p, [T, V]. The student's own terms and p are one multiple of it, none where they cancel."""
    terms = [(c_T, pool) for c_T, (_, pool) in zip(coefficients, method.residual, strict=True)]
    of_student_T = sum((c_T for c_T, pool in terms if pool.is_student), torch.full_like(trust_T, -1.0))
    parts = [(c_T, frame.term_TV(pool)) for c_T, pool in terms if not pool.is_student]
    parts += [(of_student_T, frame.p_TV)] if bool(of_student_T.any()) else []
    (first_T, first_TV), *rest = parts or [(of_student_T, frame.p_TV)]
    gap_TV = first_TV * first_T[:, None]
    for c_T, part_TV in rest:
        gap_TV.addcmul_(part_TV, c_T[:, None])
    return gap_TV.scatter_add_(-1, frame.tokens.labels_T[:, None], trust_T[:, None])


def _kl_of_gap(gap_TV: Tensor, frame: WholeFrame) -> Tensor:
    """KL(Q‖p), [T], of Q − p, which is changed; NaN where Q is improper."""
    q_TV = gap_TV.add_(frame.p_TV)
    proper_T = q_TV.amin(-1) >= IMPROPER.get(q_TV.dtype, -1e-6)
    kl_T = torch.full_like(frame[LOGP_Y], torch.nan)
    if not bool(proper_T.any()):
        return kl_T
    some = slice(None) if bool(proper_T.all()) else proper_T
    q_SV = q_TV[some].clamp_(min=torch.finfo(q_TV.dtype).tiny)
    ratio_SV = q_SV.log().sub_(frame.logp_TV[some])
    if not frame.is_whole:
        ratio_SV.masked_fill_(~frame.support_TV[some], 0.0)
    kl_T[some] = ratio_SV.mul_(q_SV).sum(-1)
    return kl_T


def _mixture_kl(trust_T: Tensor, rest_T: Tensor, pool: qt.Pool, frame: WholeFrame) -> Tensor:
    """KL(Q‖p) of Q = γ·d + c·π̃, from sums over π̃ that all methods of one pool share; NaN where Q is improper."""
    toward, least = frame.pool_moments(pool), IMPROPER.get(trust_T.dtype, -1e-6)
    is_proper = (trust_T >= least) & (rest_T >= least)
    rest_T = rest_T.clamp(min=0)  # below 0 by rounding alone, or improper
    label_T = trust_T.clamp(min=0) + rest_T * toward.label_logp.exp()
    others_T = torch.special.xlogy(rest_T, rest_T) * toward.log_not_label.exp() + rest_T * toward.kl_of_others
    kl_T = others_T + torch.special.xlogy(label_T, label_T) - label_T * frame[LOGP_Y]
    return kl_T.where(is_proper, torch.nan)


def weighted(pull: TokenPull, multiplier_T: Tensor | float) -> TokenPull:
    """The pull where the rows weigh their tokens."""
    return pull._replace(scale=pull.scale * multiplier_T, gradient=pull.gradient * multiplier_T)
