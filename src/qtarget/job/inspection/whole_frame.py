"""Whole distributions of a few tokens at a time, each source's built once however many methods read it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor

import qtarget as qt
from qtarget.job.inspection.row_forward import RowForward
from qtarget.target.evidence import SupervisedTokens
from qtarget.target.pool import FLOOR
from qtarget.target.statistics import Frame, head_logits, term_TV

NUMBERS_AT_ONCE = 2**24
"""Numbers in a block of log-probabilities: 64 MB in single precision, a few of which are alive at once."""


@dataclass(frozen=True)
class WholeFrame(Frame):
    """A frame that keeps what it has built: the distributions of its sources, and the terms of residuals."""

    _sources: dict[str, Tensor] = field(default_factory=dict)
    _terms: dict[qt.Pool, Tensor] = field(default_factory=dict)

    def source_TV(self, source: str) -> Tensor:
        if source not in self._sources:
            self._sources[source] = super().source_TV(source)
        return self._sources[source]

    def keep_source(self, source: str, logp_TV: Tensor) -> None:
        """Know a source's distributions without building them."""
        self._sources[source] = logp_TV

    def term_TV(self, pool: qt.Pool) -> Tensor:
        """π̃ of a pool, or its tangent, [T, V]."""
        if pool not in self._terms:
            self._terms[pool] = term_TV(pool, self)
        return self._terms[pool]


def frames_of(row: RowForward) -> Iterator[WholeFrame]:
    """The learned tokens of a document, in order, a block at a time."""
    size = max(1, NUMBERS_AT_ONCE // row.head.weight.shape[0])
    for start in range(0, len(row.hidden), size):
        part = slice(start, start + size)
        logits = head_logits(row.hidden[part], row.head)
        logp_TV = (logits if logits.dtype.itemsize == 8 else logits.float()).log_softmax(-1).clamp(min=FLOOR)
        frame = WholeFrame(logp_TV, _with_student(row.tokens.chunk(part), logp_TV, row.is_student_reference))
        if row.is_student_reference:
            frame.keep_source("reference", logp_TV)  # to the bit: excess losses are then zero, as at the first step
        yield frame


def _with_student(tokens: SupervisedTokens, logp_TV: Tensor, is_reference: bool) -> SupervisedTokens:
    """The tokens, with the student in the reference's place where it is the reference."""
    return replace(tokens, reference=logp_TV) if is_reference else tokens
