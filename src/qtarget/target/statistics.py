"""The statistics that rules may read: a number per supervised token each, without gradients.

A `Statistic` stands at the end of this file as one expression: its definition over whole distributions, what it reads,
and which `Moment` it is, where both engines of the fused loss have a fast twin of it. The fused loss measures anything
else by its definition, chunk by chunk. Tests hold the twins to the definitions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qtarget.target.evidence import stated_moment
from qtarget.target.frame import Frame, entries_TV, pool_logp, potential, term_TV
from qtarget.target.pool import FLOOR, Pool, rounding
from qtarget.target.rule import OF_METHOD, Moment, Statistic

# ---- definitions, from a frame and the statistic's argument


def _log_not_label(frame: Frame, logq_TV: Tensor) -> Tensor:
    rest_TV = logq_TV.scatter(-1, frame.tokens.labels_T[:, None], -torch.inf)
    return rest_TV.logsumexp(-1).clamp(min=FLOOR)


MOMENTS: dict[Moment, Callable[[Frame, Tensor], Tensor]] = {
    Moment.LABEL_LOGP: lambda frame, logq_TV: frame.pick(logq_TV),
    Moment.LABEL_PROBABILITY: lambda frame, logq_TV: frame.pick(logq_TV).exp(),
    Moment.LOG_NOT_LABEL: _log_not_label,
    Moment.LABEL_IS_TOP: lambda frame, logq_TV: (frame.pick(logq_TV) >= logq_TV.amax(-1)).to(logq_TV.dtype),
    Moment.ENTROPY: lambda _, logq_TV: -(logq_TV.exp() * logq_TV).sum(-1),
    Moment.NEGENTROPY: lambda _, logq_TV: (logq_TV.exp() * logq_TV).sum(-1),
    Moment.CROSS: lambda frame, logq_TV: (logq_TV.exp() * frame.logp_TV).sum(-1),
    Moment.COLLISION: lambda _, logq_TV: (2 * logq_TV).exp().sum(-1),
}
"""What each moment is, from a frame and a distribution's log-probabilities, [T, V]. Those of the student alone, and of
slopes, stand below."""


def _label_logp(frame: Frame, pool: Pool) -> Tensor:
    return MOMENTS[Moment.LABEL_LOGP](frame, pool_logp(pool, frame))


def _teacher_logp_y(frame: Frame, index: int) -> Tensor:
    return frame.label_logp(f"teacher {index}")


def _teacher_entropy(frame: Frame, index: int) -> Tensor:
    return _entropy_of_source(frame, f"teacher {index}")


def _entropy_of_source(frame: Frame, source: str) -> Tensor:
    stated_T = stated_moment(frame.evidence(source), Moment.ENTROPY, frame.logp_TV.dtype)
    return MOMENTS[Moment.ENTROPY](frame, frame.source_TV(source)) if stated_T is None else stated_T


def _cross(frame: Frame, pool: Pool) -> Tensor:
    return (term_TV(pool, frame) * frame.logp_TV).sum(-1)


def _negentropy(frame: Frame, pool: Pool) -> Tensor:
    return MOMENTS[Moment.NEGENTROPY](frame, pool_logp(pool, frame))


def _agreement(frame: Frame, index: int) -> Tensor:
    return torch.minimum(frame.logp_TV, frame.teacher_TV(index)).exp().sum(-1)


def _teacher_p_y(frame: Frame, index: int) -> Tensor:
    return _teacher_logp_y(frame, index).exp()


def _top_k_entropy(frame: Frame, k: int) -> Tensor:
    top = frame.logp_TV.topk(min(k, frame.logp_TV.shape[-1]), -1).values.log_softmax(-1).clamp(min=FLOOR)
    return -(top.exp() * top).sum(-1)


def _top_k_mass(frame: Frame, k: int) -> Tensor:
    return frame.logp_TV.topk(min(k, frame.logp_TV.shape[-1]), -1).values.exp().sum(-1)


def _slope_cost(frame: Frame, pool: Pool) -> Tensor:
    assert pool.slope is not None
    return entries_TV(pool.slope, frame).cost.sum(-1)


def _mean_slope(frame: Frame, pool: Pool) -> Tensor:
    assert pool.slope is not None
    return entries_TV(pool.slope, frame).pull.sum(-1)


def _head_share(frame: Frame, mass: float) -> Tensor:
    logt_TV = pool_logp(Pool(teachers=(1.0,)), frame)
    t_TV, order_TV = logt_TV.exp().sort(dim=-1, stable=True)  # the least likely first: small sums stay exact
    gap_TV = (t_TV - frame.logp_TV.exp().gather(-1, order_TV)).abs()
    below_TV = torch.nn.functional.pad(t_TV[:, :-1].cumsum(-1), (1, 0))
    is_head_TV = below_TV >= 1 - mass
    is_head_TV[:, -1] = True
    total_T = gap_TV.sum(-1)
    return torch.where(total_T > rounding(total_T.dtype), (gap_TV * is_head_TV).sum(-1) / total_T, 0.5)


def _reference_mass_below(frame: Frame, _: None) -> Tensor:
    logr_TV = frame.reference_TV
    is_above_TV, r_TV = logr_TV > frame.pick(logr_TV)[:, None], logr_TV.exp()
    above_T, below_T = ((r_TV * each_TV).sum(-1) for each_TV in (is_above_TV, ~is_above_TV))
    return torch.where(above_T < below_T, 1 - above_T, below_T)  # the smaller sum is the more exact


def _potential_mass(frame: Frame, pool: Pool) -> Tensor:
    bare = Pool(pool.student, pool.reference, pool.teachers)
    return (pool_logp(bare, frame).exp() * potential(pool, frame).exp()).sum(-1)


def _of_method(frame: Frame, _: None) -> Tensor:
    raise AssertionError("trust and scale are measured by no definition: the loss puts them in")


# ---- the statistics


def _of_student(name: str, moment: Moment) -> Statistic:
    return Statistic(name, definition=lambda frame, _: MOMENTS[moment](frame, frame.logp_TV), moment=moment)


LOGP_Y = _of_student("logp_y", Moment.LABEL_LOGP)
"""log p_y: the student's log-probability of the label; nats."""

LOG_NOT_Y = _of_student("log_not_y", Moment.LOG_NOT_LABEL)
"""log(1 − p_y), exact where p_y is nearly 1; nats."""

TOP1 = _of_student("top1", Moment.LABEL_IS_TOP)
"""1 where the label is the student's likeliest token, else 0."""

ENTROPY = _of_student("entropy", Moment.ENTROPY)
"""The student's entropy; nats."""

COLLISION = _of_student("collision", Moment.COLLISION)
"""Σ p²: the chance that two draws from the student agree."""

VOCABULARY = Statistic(
    "vocabulary",
    definition=lambda frame, _: frame.support_TV.sum(-1).to(frame.logp_TV.dtype),
    moment=Moment.SUPPORT,
)
"""How many tokens the student can produce."""

REFERENCE_LOGP_Y = Statistic(
    "reference_logp_y",
    definition=lambda frame, _: frame.label_logp("reference"),
    source="reference",
    label_only=True,
    moment=Moment.LABEL_LOGP,
)
"""log r_y: the reference's log-probability of the label; nats."""

REFERENCE_ENTROPY = Statistic(
    "reference_entropy",
    definition=lambda frame, _: _entropy_of_source(frame, "reference"),
    source="reference",
    moment=Moment.ENTROPY,
)
"""The reference's entropy; nats."""

REFERENCE_MASS_BELOW = Statistic("reference_mass_below", definition=_reference_mass_below, source="reference")
"""Mass that the reference gives to tokens no likelier than the label, the label included."""

TOKEN_WEIGHT = Statistic(
    "token_weight",
    definition=lambda frame, _: frame.column("token_weight"),
    source="token_weight",
)
"""The data's weight of the token."""

SEQUENCE_IDS = Statistic(
    "sequence_ids", definition=lambda frame, _: frame.column("sequence_ids"), source="sequence_ids"
)
"""Which sequence the token belongs to; whole numbers."""

PROGRESS = Statistic("progress", definition=lambda frame, _: frame.column("progress"), source="progress")
"""How much of the run is done, the same for every token of an optimizer step; 0 to 1."""

POSITION = Statistic("position", definition=lambda frame, _: frame.column("position"), source="position")
"""Where the token stands in its completion, from 0 at the first to 1 at the last."""

BROUGHT = (TOKEN_WEIGHT, SEQUENCE_IDS, PROGRESS, POSITION)
"""The statistics that a call brings: none is measured."""

TRUST = Statistic("trust", definition=_of_method, source=OF_METHOD)
"""γ, for `Method.value` alone."""

SCALE = Statistic("scale", definition=_of_method, source=OF_METHOD)
"""s, for `Method.value` alone."""


def top_k_entropy(k: int) -> Statistic:
    """Entropy of the student's k most likely tokens, renormalised; nats."""
    return Statistic("top_k_entropy", k, _top_k_entropy, moment=Moment.TOP_ENTROPY)


def top_k_mass(k: int) -> Statistic:
    """Mass of the student's k likeliest tokens."""
    return Statistic("top_k_mass", k, _top_k_mass, moment=Moment.TOP_MASS)


def teacher_logp_y(index: int = 0) -> Statistic:
    """log t_y: a teacher's log-probability of the label; nats."""
    return Statistic("teacher_logp_y", index, _teacher_logp_y, f"teacher {index}", True, Moment.LABEL_LOGP)


def teacher_entropy(index: int = 0) -> Statistic:
    """A teacher's entropy; nats."""
    return Statistic("teacher_entropy", index, _teacher_entropy, f"teacher {index}", moment=Moment.ENTROPY)


def teacher_p_y(index: int = 0) -> Statistic:
    """t_y: a teacher's probability of the label."""
    return Statistic("teacher_p_y", index, _teacher_p_y, f"teacher {index}", True, Moment.LABEL_PROBABILITY)


def agreement(index: int = 0) -> Statistic:
    """Σ_k min(p_k, t_k): the mass that the student and a teacher share, 0 to 1; 1 − their total variation."""
    return Statistic("agreement", index, _agreement, f"teacher {index}")


def cross(pool: Pool) -> Statistic:
    """E_π̃[log p]; nats."""
    return Statistic("cross", pool, _cross, moment=Moment.CROSS)


def negentropy(pool: Pool) -> Statistic:
    """E_π̃[log π̃]; nats."""
    return Statistic("negentropy", pool, _negentropy, moment=Moment.NEGENTROPY)


def label_logp(pool: Pool) -> Statistic:
    """log π̃_y; nats."""
    return Statistic("label_logp", pool, _label_logp, moment=Moment.LABEL_LOGP)


def slope_cost(pool: Pool) -> Statistic:
    """The divergence of a pool's slope; nats."""
    return Statistic("slope_cost", pool, _slope_cost, moment=Moment.COST)


def mean_slope(pool: Pool) -> Statistic:
    """E_p[h] of a pool's slope."""
    return Statistic("mean_slope", pool, _mean_slope, moment=Moment.MEAN_SLOPE)


def head_share(mass: float) -> Statistic:
    """Of ``Σ |t − p|``, the share at the first teacher's likeliest tokens: those whose sum is at most `mass`, and the
    first of all. One half where t and p differ by rounding alone.
    """
    return Statistic("head_share", mass, _head_share, "teacher 0", whole_only=True)


def potential_mass(pool: Pool) -> Statistic:
    """E[e^φ] under the pool without its potential φ."""
    return Statistic("potential_mass", pool, _potential_mass)


def names() -> list[str]:
    """The statistics of this module as they are written: constants, and functions of a pool, a teacher or a count."""
    functions = [
        n
        for n, f in globals().items()
        if n[0] != "_" and getattr(f, "__annotations__", {}).get("return") == "Statistic"
    ]
    return [*(n for n, value in globals().items() if isinstance(value, Statistic)), *functions]
