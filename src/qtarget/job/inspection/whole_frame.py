"""Whole distributions of a few tokens at a time, each source's built once however many methods read it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor

import qtarget as qt
from qtarget.job.inspection.row_forward import RowForward
from qtarget.target.evidence import SupervisedTokens
from qtarget.target.pool import FLOOR
from qtarget.target.statistics import Frame, dense_logits, head_logits, pool_logp, term_TV

LOGITS_AT_ONCE = 2**24
"""Numbers in a block of logits, which the output layer makes together: 64 MB in single precision."""
FRAME_NUMBERS = {"cpu": 2**20}
"""Numbers in a frame, some tens of which are alive at once: on a processor few enough for its cache."""


class PoolMoments(NamedTuple):
    """Sums over a pool π̃, [T] each: log π̃_y, log Σ_{k≠y} π̃_k, and Σ_{k≠y} π̃_k log(π̃_k/p_k); nats."""

    label_logp: Tensor
    log_not_label: Tensor
    kl_of_others: Tensor


@dataclass(frozen=True)
class WholeFrame(Frame):
    """A frame that keeps what it has built: the distributions of its sources, and the terms of residuals."""

    _sources: dict[str, Tensor] = field(default_factory=dict)
    _pools: dict[qt.Pool, Tensor] = field(default_factory=dict)
    _terms: dict[qt.Pool, Tensor] = field(default_factory=dict)
    _moments: dict[qt.Pool, PoolMoments] = field(default_factory=dict)

    @cached_property
    def p_TV(self) -> Tensor:
        """The student's probabilities."""
        return self.logp_TV.exp()

    def source_TV(self, source: str) -> Tensor:
        if source not in self._sources:
            self._sources[source] = super().source_TV(source)
        return self._sources[source]

    def keep_source(self, source: str, logp_TV: Tensor) -> None:
        """Know a source's distributions without building them."""
        self._sources[source] = logp_TV

    def pool_logp_TV(self, pool: qt.Pool) -> Tensor:
        """log π̃ of a pool, [T, V]."""
        if pool not in self._pools:
            self._pools[pool] = pool_logp(pool, self)
        return self._pools[pool]

    def term_TV(self, pool: qt.Pool) -> Tensor:
        """π̃ of a pool, or its tangent, [T, V]."""
        if pool not in self._terms:
            self._terms[pool] = self.pool_logp_TV(pool).exp() if pool.tangent is None else term_TV(pool, self)
        return self._terms[pool]

    def pool_moments(self, pool: qt.Pool) -> PoolMoments:
        """What KL(Q‖p) needs of a pool."""
        if pool not in self._moments:
            self._moments[pool] = self._measure(pool)
        return self._moments[pool]

    def _measure(self, pool: qt.Pool) -> PoolMoments:
        logq_TV, label_T1 = self.pool_logp_TV(pool), self.tokens.labels_T[:, None]
        gap_TV = (logq_TV - self.logp_TV).scatter_(-1, label_T1, 0.0)
        not_label_T = self.term_TV(pool).scatter(-1, label_T1, 0.0).sum(-1)
        return PoolMoments(self.pick(logq_TV), not_label_T.log(), gap_TV.mul_(self.term_TV(pool)).sum(-1))


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
    logp_TV = wide.log_softmax(-1).clamp(min=FLOOR)
    frame = WholeFrame(logp_TV, _with_student(tokens, logp_TV, is_student_reference))
    if is_student_reference:
        frame.keep_source("reference", logp_TV)  # to the bit: excess losses are then zero, as at the first step
    return frame


def _with_logits(tokens: SupervisedTokens) -> SupervisedTokens:
    """The tokens with the logits of dense sources, which their output layers make together too."""
    teachers = tuple(_logits(each) for each in tokens.teachers)
    return replace(tokens, teachers=teachers, reference=_logits(tokens.reference))


def _logits(evidence: Any) -> Any:
    return dense_logits(evidence) if isinstance(evidence, qt.Dense) else evidence


def _with_student(tokens: SupervisedTokens, logp_TV: Tensor, is_reference: bool) -> SupervisedTokens:
    """The tokens, with the student in the reference's place where it is the reference."""
    return replace(tokens, reference=logp_TV) if is_reference else tokens
