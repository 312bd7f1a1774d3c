"""The frame: all that is known of T tokens, as whole distributions. Statistics are measured and pools built in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qtarget.target.evidence import Evidence, LabelOnly, SupervisedTokens, stated_moment
from qtarget.target.pool import FLOOR, Entries, Pool, Slope
from qtarget.target.rule import Moment, Statistic, column_of
from qtarget.target.source_logits import log_distribution, temperature_of


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
    return pool.potential(frame.logp_TV, frame.pick(frame.logp_TV)[:, None], is_label_TV)


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
