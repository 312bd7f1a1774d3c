"""How every method pulls at every token: trust, scale, KL(Q‖p) and the norm of its gradient s·(p − Q).

The definition is `qtarget.target.loss`; here each distribution is built once for all methods, and the many whose
residual is the student itself need none: with Q = γ·d + (1 − γ)·p the gradient is sγ·(p − d).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

import qtarget as qt
from qtarget.job.inspection.whole_frame import WholeFrame
from qtarget.target.loss import IMPROPER, is_proper, per_token, target_kl
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
    label_T1 = frame.tokens.labels_T[:, None]
    others_T = frame.p_TV.scatter(-1, label_T1, 0.0).square().sum(-1)
    return (others_T + (2 * frame[LOG_NOT_Y]).exp()).sqrt()


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
    p_y = measured[LOGP_Y].exp()
    label_T = trust_T + (1 - trust_T) * p_y
    kl_T = torch.special.xlogy(label_T, label_T) - label_T * measured[LOGP_Y]
    kl_T = kl_T + torch.special.xlog1py((1 - trust_T) * measured[LOG_NOT_Y].exp(), -trust_T.clamp(max=1))
    is_proper = trust_T <= 1 - IMPROPER.get(trust_T.dtype, -1e-6)
    return TokenPull(trust_T, scale_T, kl_T.where(is_proper, torch.nan), scale_T * trust_T.abs() * gap_T)


def _numbers_of(method: qt.Method, frame: WholeFrame) -> list[Tensor]:
    """Trust, scale and the coefficient of each residual, [T] each."""
    return [per_token(value_of(number, frame), frame[LOGP_Y]) for number in method.numbers]


def residual_target(method: qt.Method, frame: WholeFrame) -> Tensor:
    """Q of any method of token scope, [T, V]."""
    trust_T, _, *coefficients = _numbers_of(method, frame)
    q_TV = torch.zeros_like(frame.logp_TV)
    for coefficient_T, (_, pool) in zip(coefficients, method.residual, strict=True):
        q_TV.addcmul_(coefficient_T[:, None], frame.term_TV(pool))
    return q_TV.scatter_add_(-1, frame.tokens.labels_T[:, None], trust_T[:, None])


def residual_pull(method: qt.Method, frame: WholeFrame) -> TokenPull:
    """Of any method of token scope, from whole distributions."""
    trust_T, scale_T, *coefficients = _numbers_of(method, frame)
    q_TV = residual_target(method, frame)
    gradient_T = scale_T.abs() * (frame.p_TV - q_TV).norm(dim=-1)
    if not is_proper(q_TV).any():
        return TokenPull(trust_T, scale_T, torch.full_like(trust_T, torch.nan), gradient_T)
    pools = [term.pool for term in method.residual]
    is_one = len(pools) == 1 and pools[0].tangent is None
    kl_T = _mixture_kl(trust_T, coefficients[0], pools[0], frame) if is_one else target_kl(q_TV, frame.logp_TV)
    return TokenPull(trust_T, scale_T, kl_T, gradient_T)


def _mixture_kl(trust_T: Tensor, rest_T: Tensor, pool: qt.Pool, frame: WholeFrame) -> Tensor:
    """KL(Q‖p) of Q = γ·d + c·π̃, from sums over π̃ that all methods of one pool share; NaN where Q is improper."""
    toward = frame.pool_moments(pool)
    label_T = trust_T + rest_T * toward.label_logp.exp()
    others_T = torch.special.xlogy(rest_T, rest_T) * toward.log_not_label.exp() + rest_T * toward.kl_of_others
    kl_T = others_T + torch.special.xlogy(label_T, label_T) - label_T * frame[LOGP_Y]
    least = IMPROPER.get(trust_T.dtype, -1e-6)
    return kl_T.where((trust_T >= least) & (rest_T >= least), torch.nan)


def weighted(pull: TokenPull, multiplier_T: Tensor | float) -> TokenPull:
    """The pull where the rows weigh their tokens."""
    return pull._replace(scale=pull.scale * multiplier_T, gradient=pull.gradient * multiplier_T)
