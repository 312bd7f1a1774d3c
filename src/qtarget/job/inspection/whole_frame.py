"""Whole distributions of a few tokens at a time: each is built once, however many methods read it.

What the statistics' own definitions would build again for each method is taken from what stands here. The tests hold
both to the same numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

import qtarget as qt
from qtarget.job.inspection.row_forward import RowForward
from qtarget.target.evidence import SupervisedTokens, stated_moment
from qtarget.target.frame import Frame, log_linear, pool_logp
from qtarget.target.pool import FLOOR, rounding, sources_of
from qtarget.target.rule import STUDENT, Moment, Statistic, column_of
from qtarget.target.source_logits import dense_logits, head_logits, temperature_of
from qtarget.target.statistics import COLLISION, ENTROPY, LOG_NOT_Y, REFERENCE_MASS_BELOW, head_share, teacher_entropy
from qtarget.target.top_k import Largest, largest

LOGITS_AT_ONCE = 2**24
"""Numbers in a block of logits, which the output layer makes together: 64 MB in single precision."""
FRAME_NUMBERS = {"cpu": 2**20}
"""Numbers in a frame, some tens of which are alive at once: on a processor few enough for its cache."""
REFERENCE = "reference"
RANKED = 32
"""Of every source, so many of the likeliest tokens are found at once."""
HEAD_RANKED = (256, 4096)
"""Of a teacher, so many of the likeliest tokens are looked at for the head of its mass, before all are sorted."""
Made = TypeVar("Made")


class PoolMoments(NamedTuple):
    """Sums over a pool π̃, [T] each: log π̃_y, log Σ_{k≠y} π̃_k, and Σ_{k≠y} π̃_k log(π̃_k/p_k); nats."""

    label_logp: Tensor
    log_not_label: Tensor
    kl_of_others: Tensor


class OtherTokens(NamedTuple):
    """Sums over all tokens but the label, [T] each: Σ p_k and (Σ p_k²)^½."""

    mass: Tensor
    norm: Tensor


@dataclass(frozen=True)
class WholeFrame(Frame):
    """A frame that keeps what it has built: the distributions of its sources, and the terms of residuals.

    Attributes:
        is_student_reference: the reference is the student itself, and pools of it are pools of the student.
    """

    is_student_reference: bool = False
    _kept: dict[tuple[str, Any], Any] = field(default_factory=dict)

    def __getitem__(self, statistic: Statistic) -> Tensor:
        if statistic not in self.measured:
            found_T = self._measured_here(statistic)
            if found_T is not None:
                self.measured[statistic] = found_T
        return super().__getitem__(statistic)

    def _measured_here(self, statistic: Statistic) -> Tensor | None:
        """A statistic from what is kept; None where its definition is as quick."""
        if statistic.moment is Moment.MEAN_SLOPE:
            return self.slope_sum_T(statistic.of)
        if statistic.moment in (Moment.TOP_ENTROPY, Moment.TOP_MASS) and statistic.of <= RANKED:
            top = self.ranked(STUDENT).values_CK[:, : statistic.of]
            return top.exp().sum(-1) if statistic.moment is Moment.TOP_MASS else entropy_of(top.log_softmax(-1))
        if statistic.name == head_share(0.5).name and statistic.source == "teacher 0":
            return self._head_share_T(float(statistic.of))
        here: dict[Statistic, Callable[[], Tensor | None]] = {
            ENTROPY: lambda: self.entropy_T(STUDENT),
            teacher_entropy(0): lambda: self._stated_entropy_T("teacher 0"),
            COLLISION: lambda: self.others.norm.square() + self.pick(self.p_TV).square(),
            LOG_NOT_Y: self._log_not_label_T,
            REFERENCE_MASS_BELOW: lambda: self._mass_below_T(REFERENCE),
        }
        return here[statistic]() if statistic in here else None

    def kept(self, kind: str, of: Any, make: Callable[[], Made]) -> Made:
        """What is known by this name, made when it is first asked for."""
        if (kind, of) not in self._kept:
            self._kept[kind, of] = make()
        return self._kept[kind, of]

    # ---- sources

    @cached_property
    def p_TV(self) -> Tensor:
        """The student's probabilities."""
        return self.logp_TV.exp()

    @cached_property
    def is_whole(self) -> bool:
        """Whether the student can produce every token."""
        return bool(self.logp_TV.amin() > FLOOR / 2)

    def source_TV(self, source: str) -> Tensor:
        if self._is_student(source):
            return self.logp_TV
        return self.kept("logp", source, lambda: super(WholeFrame, self).source_TV(source))

    def source_p_TV(self, source: str) -> Tensor:
        """Probabilities of "student", "reference" or "teacher i", [T, V]."""
        if self._is_student(source):
            return self.p_TV
        return self.kept("p", source, lambda: self.source_TV(source).exp())

    def _is_student(self, source: str) -> bool:
        return source == STUDENT or (source == REFERENCE and self.is_student_reference)

    def ranked(self, source: str) -> Largest:
        """A source's `RANKED` likeliest tokens."""
        logp_TV = self.source_TV(source)
        return self.kept("ranked", source, lambda: largest(logp_TV, min(RANKED, logp_TV.shape[1])))

    def entropy_T(self, source: str) -> Tensor:
        """A source's entropy, [T] nats."""
        return self.kept("entropy", source, lambda: -(self.source_p_TV(source) * self.source_TV(source)).sum(-1))

    def _stated_entropy_T(self, source: str) -> Tensor | None:
        """None where the source states it, as one of a few kept tokens may."""
        is_stated = stated_moment(self.evidence(source), Moment.ENTROPY, self.logp_TV.dtype) is not None
        return None if is_stated else self.entropy_T(source)

    def rank_T(self, source: str) -> Tensor:
        """The label's place among a source's tokens, 1 for the likeliest; [T]."""
        logp_TV, above_TV = self.source_TV(source), torch.empty_like(self.logp_TV)
        torch.gt(logp_TV, self.pick(logp_TV)[:, None], out=above_TV)  # as numbers: sums of booleans are slow
        return above_TV.sum(-1).long() + 1

    @cached_property
    def others(self) -> OtherTokens:
        """What the student gives the tokens that are not the label."""
        others_TV = self.p_TV.scatter(-1, self.tokens.labels_T[:, None], 0.0)
        return OtherTokens(others_TV.sum(-1), others_TV.norm(dim=-1))

    def _log_not_label_T(self) -> Tensor | None:
        """log(1 − p_y); None where the others' mass is below the smallest number, and its logarithm is not."""
        return None if bool((self.others.mass <= 0).any()) else self.others.mass.log()

    def _mass_below_T(self, source: str) -> Tensor:
        logp_TV, below_TV = self.source_TV(source), torch.empty_like(self.logp_TV)
        torch.le(logp_TV, self.pick(logp_TV)[:, None], out=below_TV)
        return below_TV.mul_(self.source_p_TV(source)).sum(-1)

    def _head_share_T(self, mass: float) -> Tensor | None:
        """`head_share`, from the likeliest tokens alone; None where those do not hold the head of every token."""
        t_TV = self.term_TV(qt.Pool(teachers=(1.0,)))
        for count in HEAD_RANKED:
            if count < t_TV.shape[1]:
                top = largest(t_TV, count)
                rest_T = t_TV.scatter(-1, top.ids_CK, 0.0).sum(-1)  # small sums stay exact, as in the definition
                beyond_TK = rest_T[:, None] + pad(top.values_CK[:, 1:].flip(-1).cumsum(-1).flip(-1), (0, 1))
                is_head_TK = beyond_TK >= 1 - mass
                if not bool(is_head_TK[:, -1].any()):
                    break
        else:
            return None
        is_head_TK[:, 0] = True
        gap_TV = (t_TV - self.p_TV).abs_()
        total_T, head_T = gap_TV.sum(-1), (gap_TV.gather(-1, top.ids_CK) * is_head_TK).sum(-1)
        return torch.where(total_T > rounding(total_T.dtype), head_T / total_T, 0.5)

    # ---- pools

    def seen(self, pool: qt.Pool) -> qt.Pool:
        """The pool, where the reference is the student one of the student."""
        return without_reference(pool) if self.is_student_reference else pool

    def term_TV(self, pool: qt.Pool) -> Tensor:
        """π̃ of a pool, or its tangent, [T, V]."""
        pool = self.seen(pool)
        if pool.tangent is not None:
            return self.kept("tangent", pool, lambda: self._tangent_TV(pool))
        source = self._source_of(pool)
        return self.source_p_TV(source) if source else self.kept("p", pool, lambda: self.pool_logp_TV(pool).exp())

    def pool_logp_TV(self, pool: qt.Pool) -> Tensor:
        """log π̃ of a pool, [T, V] (its tangent, if any, set aside)."""
        pool = self.seen(pool)
        source = self._source_of(pool)
        return self.source_TV(source) if source else self.kept("logp", pool, lambda: self._pool_logp_TV(pool))

    def _source_of(self, pool: qt.Pool) -> str | None:
        """The source that a pool is; None of one that is computed."""
        if pool.potential is not None:
            return None
        named = [(STUDENT, pool.student), (REFERENCE, pool.reference)]
        named += [(f"teacher {i}", exponent) for i, exponent in enumerate(pool.teachers)]
        alone = [name for name, exponent in named if exponent]
        if len(alone) != 1 or dict(named)[alone[0]] != 1.0:
            return None
        is_as_kept = alone[0] == STUDENT or temperature_of(self.tokens.source(alone[0])) == 1.0
        return alone[0] if is_as_kept and (alone[0] == STUDENT or self.is_whole) else None

    def _pool_logp_TV(self, pool: qt.Pool) -> Tensor:
        if not self.is_whole or pool.potential is not None:
            return pool_logp(pool, self)
        return self._log_linear_TV(pool).log_softmax(-1).clamp_(min=FLOOR)

    def _log_linear_TV(self, pool: qt.Pool) -> Tensor:
        """Σ exponents · log sources, with as few passes as there are sources; [T, V]."""
        powers = [(column_of(pool.student, self), self.logp_TV)] if pool.student else []
        for source, exponent in sources_of(pool):
            temperature = temperature_of(self.tokens.source(source))
            powers.append((column_of(exponent, self) * temperature, self.source_TV(source)))
        out_TV = torch.zeros_like(self.logp_TV) if not powers else powers[0][1] * powers[0][0]
        for power, logp_TV in powers[1:]:
            if isinstance(power, Tensor):
                out_TV.addcmul_(logp_TV, power.to(logp_TV))
            else:
                out_TV.add_(logp_TV, alpha=power)
        return out_TV

    def slope_sum_T(self, pool: qt.Pool) -> Tensor:
        """Sum of a tangent's entries before it is made to sum to zero, [T]: of a slope, E_p[h]."""
        return self._pulls(self.seen(pool))[1]

    def _pulls(self, pool: qt.Pool) -> tuple[Tensor, Tensor]:
        """π̃∘ℓ or p∘h of a tangent, [T, V], and its sum."""
        return self.kept("pulls", pool, lambda: self._make_pulls(pool))

    def _make_pulls(self, pool: qt.Pool) -> tuple[Tensor, Tensor]:
        if pool.slope is not None:
            toward = pool.slope.toward
            pull_TV = pool.slope(self.p_TV, self.term_TV(toward), self._log_ratio_TV(toward)).pull
        else:
            assert isinstance(pool.tangent, qt.Pool)
            along = self.logp_TV if pool.tangent.is_student else log_linear(pool.tangent, self)
            pull_TV = self.term_TV(replace(pool, tangent=None)) * along
        return pull_TV, pull_TV.sum(-1)

    def _log_ratio_TV(self, toward: qt.Pool) -> Tensor:
        """log t − log p of a pool t, [T, V]."""

        def ratio_TV() -> Tensor:
            gap_TV = self.pool_logp_TV(toward) - self.logp_TV
            return gap_TV if self.is_whole else gap_TV.masked_fill_(~self.support_TV, 0.0)

        return self.kept("ratio", self.seen(toward), ratio_TV)

    def _tangent_TV(self, pool: qt.Pool) -> Tensor:
        pull_TV, sum_T = self._pulls(pool)
        base_TV = self.p_TV if pool.slope is not None else self.term_TV(replace(pool, tangent=None))
        return torch.addcmul(pull_TV, base_TV, sum_T[:, None], value=-1)

    def pool_moments(self, pool: qt.Pool) -> PoolMoments:
        """What KL(Q‖p) needs of a pool."""
        return self.kept("moments", self.seen(pool), lambda: self._measure(pool))

    def _measure(self, pool: qt.Pool) -> PoolMoments:
        logq_TV, label_T1 = self.pool_logp_TV(pool), self.tokens.labels_T[:, None]
        others_TV = self.term_TV(pool).scatter(-1, label_T1, 0.0)
        not_label_T = others_TV.sum(-1)
        return PoolMoments(self.pick(logq_TV), not_label_T.log(), others_TV.mul_(logq_TV - self.logp_TV).sum(-1))


def entropy_of(logp_TK: Tensor) -> Tensor:
    """Of distributions over a few tokens, [T] nats."""
    logp_TK = logp_TK.clamp(min=FLOOR)
    return -(logp_TK.exp() * logp_TK).sum(-1)


def without_reference(pool: qt.Pool) -> qt.Pool:
    """The pool where the reference is the student: their exponents are one."""
    tangent = pool.tangent
    if isinstance(tangent, qt.Pool):
        tangent = without_reference(tangent)
    elif tangent is not None:
        tangent = replace(tangent, toward=without_reference(tangent.toward))
    exponent = pool.student + pool.reference if pool.reference else pool.student
    return qt.Pool(exponent, 0.0, pool.teachers, pool.potential, tangent)


def frames_of(row: RowForward) -> Iterator[WholeFrame]:
    """The learned tokens of a document, in order, a few at a time."""
    vocabulary = row.head.weight.shape[0]
    size = max(1, LOGITS_AT_ONCE // vocabulary)
    few = max(1, FRAME_NUMBERS.get(row.hidden.device.type, LOGITS_AT_ONCE) // vocabulary)
    for start in range(0, len(row.hidden), size):
        part = slice(start, start + size)
        logits = head_logits(row.hidden[part], row.head)
        tokens = _with_logits(row.tokens.chunk(part))
        for first in range(0, len(logits), few):
            inside = slice(first, first + few)
            yield _frame(logits[inside], tokens.chunk(inside), row.is_student_reference)


def _frame(logits_TV: Tensor, tokens: SupervisedTokens, is_student_reference: bool) -> WholeFrame:
    wide = logits_TV if logits_TV.dtype.itemsize == 8 else logits_TV.float()
    logp_TV = wide.log_softmax(-1).clamp_(min=FLOOR)
    # to the bit the student: excess losses are then zero, as at the first step
    return WholeFrame(
        logp_TV, _with_student(tokens, logp_TV, is_student_reference), is_student_reference=is_student_reference
    )


def _with_logits(tokens: SupervisedTokens) -> SupervisedTokens:
    """The tokens with the logits of dense sources, which their output layers make together too."""
    teachers = tuple(_logits(each) for each in tokens.teachers)
    return replace(tokens, teachers=teachers, reference=_logits(tokens.reference))


def _logits(evidence: Any) -> Any:
    return dense_logits(evidence) if isinstance(evidence, qt.Dense) else evidence


def _with_student(tokens: SupervisedTokens, logp_TV: Tensor, is_reference: bool) -> SupervisedTokens:
    """The tokens, with the student in the reference's place where it is the reference."""
    return replace(tokens, reference=logp_TV) if is_reference else tokens
