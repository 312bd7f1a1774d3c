"""The statistics that rules may read: a number per supervised token each, without gradients.

A `Statistic` stands at the end of this file as one expression: its definition over whole distributions, what it reads,
and which `Moment` it is, where both engines of the fused loss have a fast twin of it. The fused loss measures anything
else by its definition, chunk by chunk. Tests hold the twins to the definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qtarget.target.evidence import Dense, Evidence, Head, LabelOnly, Sparse, SupervisedTokens, stated_moment
from qtarget.target.pool import FLOOR, Entries, Pool, Slope, rounding
from qtarget.target.rule import OF_METHOD, Moment, Statistic, column_of
from qtarget.target.vocabulary import filled_slots


class StatisticError(ValueError):
    """A statistic's definition is not what the statistic says of it."""


@dataclass(frozen=True)
class Frame(Mapping[Statistic, Tensor]):
    """Everything known about T tokens, as whole distributions; statistics are measured when first asked for.

    Attributes:
        logp_TV: the student's log-probabilities, nats; `FLOOR` stands for log 0.
        tokens: labels, and what teachers and reference say.
        measured: the statistics so far, [T] each.
    """

    logp_TV: Tensor
    tokens: SupervisedTokens
    measured: dict[Statistic, Tensor] = field(default_factory=dict)
    _measuring: list[Statistic] = field(default_factory=list)

    def __getitem__(self, statistic: Statistic) -> Tensor:
        if statistic not in self.measured:
            if statistic in self._measuring:
                way = " -> ".join(str(each) for each in [*self._measuring, statistic])
                raise StatisticError(f"a statistic is defined by itself: {way}; define it by others or distributions")
            assert statistic.definition is not None
            self._measuring.append(statistic)
            try:
                self.measured[statistic] = statistic.definition(self, statistic.of)
            finally:
                self._measuring.pop()
        return self.measured[statistic]

    def __iter__(self) -> Iterator[Statistic]:
        return iter(self.measured)

    def __len__(self) -> int:
        return len(self.measured)

    @property
    def support_TV(self) -> Tensor:
        """Tokens that the student can produce; no pool puts mass elsewhere."""
        return self.logp_TV > FLOOR / 2

    @property
    def reference_TV(self) -> Tensor:
        """The reference's log-probabilities, [T, V]."""
        return self.source_TV("reference")

    def teacher_TV(self, index: int) -> Tensor:
        """A teacher's log-probabilities, [T, V]."""
        return self.source_TV(f"teacher {index}")

    def source_TV(self, source: str) -> Tensor:
        """Log-probabilities of "reference" or "teacher i", [T, V]."""
        evidence = self.evidence(source)
        if isinstance(evidence, LabelOnly):
            raise StatisticError(
                f"a statistic with label_only=True reads the whole distribution of the {source}; take "
                f'frame.label_logp("{source}"), or leave label_only out'
            )
        return log_distribution(evidence, self.logp_TV)

    def evidence(self, source: str) -> Evidence:
        """What "reference" or "teacher i" brought."""
        evidence = self.tokens.source(source)
        if evidence is None:
            raise self._undeclared(source)
        return evidence

    def column(self, name: str) -> Tensor:
        """What the call gives each token by a name of `types.COLUMNS`, [T]."""
        values_T = self.tokens.column(name, self.logp_TV.dtype)
        if values_T is None:
            raise self._undeclared(name)
        return values_T

    def label_logp(self, source: str) -> Tensor:
        """A source's log-probability of the label, [T]; all that a `LabelOnly` source has, and nothing else is read."""
        stated_T = stated_moment(self.evidence(source), Moment.LABEL_LOGP, self.logp_TV.dtype)
        return self.pick(self.source_TV(source)) if stated_T is None else stated_T

    def _undeclared(self, source: str) -> StatisticError:
        names = " -> ".join(str(each) for each in self._measuring) or "mine"
        return StatisticError(
            f'the statistic "{names}" reads the {source}, and does not say so; a statistic says what it reads, so that '
            f'a call without it is refused: Statistic("mine", definition=..., source="{source}")'
        )

    def pick(self, values_TV: Tensor) -> Tensor:
        """The label's column, [T]."""
        return values_TV.gather(-1, self.tokens.labels_T[:, None]).squeeze(-1)


def log_distribution(evidence: Evidence, logp_TV: Tensor) -> Tensor:
    """A source's log-probabilities over the student's vocabulary, [T, V]; tokens it lacks get no mass."""
    if isinstance(evidence, Sparse):
        return _spread_out(evidence, logp_TV)
    assert not isinstance(evidence, LabelOnly)
    logits = dense_logits(evidence).to(logp_TV.dtype) if isinstance(evidence, Dense) else evidence
    missing = logp_TV.shape[-1] - logits.shape[-1]
    if missing < 0:
        raise ValueError(
            f"evidence covers {logits.shape[-1]} tokens, the student's vocabulary has {logp_TV.shape[-1]}; "
            f"pass logits[..., :{logp_TV.shape[-1]}] if the further columns are padding"
        )
    logits = logits.to(logp_TV.dtype)
    if missing:
        logits = torch.nn.functional.pad(logits, (0, missing), value=-torch.inf)
    return logits.log_softmax(-1).clamp(min=FLOOR)


def dense_logits(source: Dense) -> Tensor:
    """A dense source's logits, [T, V], in the wider of its two dtypes."""
    dtype = torch.promote_types(source.hidden.dtype, source.head.weight.dtype)
    bias = None if source.head.bias is None else source.head.bias.to(dtype)
    head = source.head._replace(weight=source.head.weight.to(dtype), bias=bias)
    return head.axis.whole(head_logits(source.hidden.to(dtype), head))[..., : source.vocab]


def head_logits(hidden: Tensor, head: Head) -> Tensor:
    """The logits an output layer gives, [..., V]."""
    logits = torch.nn.functional.linear(hidden, head.weight, head.bias)
    logits = logits if head.scale is None else logits * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def _spread_out(evidence: Sparse, logp_TV: Tensor) -> Tensor:
    """The K kept tokens as they are, and the tail over the others in its shape."""
    shape_TV = (
        logp_TV if evidence.tail == "student" else torch.zeros_like(logp_TV).masked_fill(logp_TV <= FLOOR / 2, FLOOR)
    )
    at_TK, is_empty_TK = filled_slots(evidence.ids)
    logprobs_TK = torch.where(is_empty_TK, evidence.logprobs[:, :1], evidence.logprobs)
    log_rest = shape_TV.scatter(-1, at_TK, -torch.inf).logsumexp(-1).clamp(min=FLOOR)
    tail_TV = (shape_TV + (evidence.log_tail.to(logp_TV.dtype) - log_rest)[:, None]).clamp(min=FLOOR)
    return tail_TV.scatter(-1, at_TK, logprobs_TK.to(logp_TV.dtype).clamp(min=FLOOR))


def temperature_of(evidence: Evidence | None) -> float:
    """The temperature that a source's distribution was kept at: t to the power a is that one to a·T."""
    return evidence.temperature if isinstance(evidence, Sparse) else 1.0


def pool_logp(pool: Pool, frame: Frame) -> Tensor:
    """log π̃ of a log-linear pool, [T, V] (its tangent, if any, set aside)."""
    exponent_TV = log_linear(pool, frame).masked_fill(~frame.support_TV, FLOOR)
    return exponent_TV.log_softmax(-1).clamp(min=FLOOR)


def log_linear(pool: Pool, frame: Frame) -> Tensor:
    """Σ exponents · log sources + φ, unnormalised, [T, V]."""
    out = torch.zeros_like(frame.logp_TV)
    if pool.student:
        out = out + column_of(pool.student, frame) * frame.logp_TV
    if pool.reference:
        power = column_of(pool.reference, frame) * temperature_of(frame.tokens.reference)
        out = out + power * frame.reference_TV
    for index, exponent in enumerate(pool.teachers):
        if exponent:
            power = column_of(exponent, frame) * temperature_of(frame.tokens.teachers[index])
            out = out + power * frame.teacher_TV(index)
    return out if pool.potential is None else out + potential(pool, frame)


def potential(pool: Pool, frame: Frame) -> Tensor:
    """φ of a pool, [T, V]."""
    assert pool.potential is not None
    is_label_TV = torch.zeros_like(frame.logp_TV, dtype=torch.bool).scatter(-1, frame.tokens.labels_T[:, None], True)
    return pool.potential(frame.logp_TV, frame[LOGP_Y][:, None], is_label_TV)


def term_TV(pool: Pool, frame: Frame) -> Tensor:
    """π̃, or its tangent: π̃∘(ℓ − E_π̃ ℓ), or p∘(h − E_p h) of a slope; [T, V]."""
    if isinstance(pool.tangent, Slope):
        pull_TV = entries_TV(pool.tangent, frame).pull
        return pull_TV - frame.logp_TV.exp() * pull_TV.sum(-1, keepdim=True)
    prob_TV = pool_logp(pool, frame).exp()
    if pool.tangent is None:
        return prob_TV
    slope_TV = log_linear(pool.tangent, frame)
    return prob_TV * (slope_TV - (prob_TV * slope_TV).sum(-1, keepdim=True))


def entries_TV(slope: Slope, frame: Frame) -> Entries:
    """Cost and pull of a slope at every token, [T, V] each."""
    logt_TV = pool_logp(slope.toward, frame)
    log_ratio_TV = (logt_TV - frame.logp_TV).masked_fill(~frame.support_TV, 0.0)
    return slope(frame.logp_TV.exp(), logt_TV.exp(), log_ratio_TV)


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
