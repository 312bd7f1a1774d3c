"""One chunk of tokens, measured and turned into a gradient in reused buffers: the elementwise half of the fused loss.

Logits, pools and gradient of C tokens live in a few [C, V] buffers that every chunk overwrites. What is common has a
fast twin here; any other statistic or pool is measured by its plain definition (`frame.Frame`) on the chunk alone.
Where the vocabulary is cut over ranks, the buffers hold this rank's columns, and what reads across asks `axis`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from qtarget.fused.fast_twins import OF_SOURCES, is_fast, is_from_softmax, is_of_student, is_sparse
from qtarget.fused.pools import (
    DenseTerm,
    KeptTerm,
    PoolTerm,
    SlopeTerm,
    SparseSlopeTerm,
    SparseTerm,
    TargetShares,
    UniformTerm,
    replace_kept_,
)
from qtarget.fused.products import Products
from qtarget.fused.workspace import Workspace
from qtarget.target.evidence import Dense, Head, SupervisedTokens, stated_moment
from qtarget.target.frame import Frame, term_TV
from qtarget.target.pool import FLOOR, Pool, sources_of
from qtarget.target.rule import COLUMNS, STUDENT, Moment, Number, Rule, Statistic, column_of, exponent_reads, value_of
from qtarget.target.statistics import (
    BROUGHT,
    ENTROPY,
    LOG_NOT_Y,
    LOGP_Y,
    TOP1,
    cross,
    label_logp,
    mean_slope,
    negentropy,
    slope_cost,
)
from qtarget.target.vocabulary import Axis

BY_DEFINITION = 8
"""Blocks of a chunk's shape that measuring by plain definitions takes."""
OF_SLOPE = 8
"""Parts of a block's shape that a slope takes for its entries."""


class ComparedLogits(NamedTuple):
    """What a slope compares the student with: logits and probabilities, [C, V], and the logits' log Σ e^z, [C]."""

    logits_CV: Tensor
    prob_CV: Tensor
    log_norm_C: Tensor


@dataclass
class TorchChunk:
    """C tokens: their logits, and what has been measured of them."""

    logits_CV: Tensor
    tokens: SupervisedTokens
    workspace: Workspace
    logits_into: Callable[[Tensor, Tensor, Head], None]
    may_mask: bool
    axis: Axis
    measured: dict[Statistic, Tensor] = field(default_factory=dict)
    terms: dict[Pool, PoolTerm] = field(default_factory=dict)
    _compared: dict[Pool, ComparedLogits] = field(default_factory=dict)
    _loaded: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def logits_like(products: Products) -> Tensor:
        return products.like

    @staticmethod
    def start(
        products: Products, hidden_CH: Tensor, head: Head, tokens: SupervisedTokens, workspace: Workspace
    ) -> TorchChunk:
        logits_CV = workspace("logits", len(hidden_CH))
        products.logits_into(logits_CV, hidden_CH, head)
        return TorchChunk(logits_CV, tokens, workspace, products.logits_into, head.bias is not None, head.axis)

    def measure(self, pools: Collection[Pool], wanted: Collection[Statistic], keep_logits: bool) -> None:
        """Build the pools and the student, and measure; the student overwrites the logits unless they are kept."""
        fast = [pool for pool in pools if is_fast(pool, self.tokens)]
        of_kept = [sources_of(pool.read)[0][0] for pool in fast if is_sparse(pool, self.tokens)]
        fast = [p for p in fast if not is_sparse(p, self.tokens) or sources_of(p.read)[0][0] == of_kept[0]]
        slow = [pool for pool in pools if pool not in fast]
        self._measure_ahead(exponent_reads(fast))
        self._measure_before_softmax(wanted)
        for pool in fast:
            self._build(pool, wanted, shared=[p for p in fast if p != pool])
        unread = any(s not in self.measured and not is_from_softmax(s) for s in wanted)
        self._normalise(keep_logits or bool(slow) or unread or bool(self._compared))
        for pool in fast:
            self._finish(pool, wanted)
        self._measure_student(wanted)
        self._measure_by_definition(slow, wanted)

    def _measure_ahead(self, wanted: Collection[Statistic]) -> None:
        """What exponents read, before any pool is built; the logits stay."""
        self._measure_before_softmax(wanted)
        if any(statistic not in self.measured for statistic in wanted):
            self._normalise(keep_logits=True)
            self._measure_student(wanted)
            self._measure_by_definition([], wanted)

    def _normalise(self, keep_logits: bool) -> None:
        out = self._buffer("student") if keep_logits else self.logits_CV
        self.student_CV, peak = self.axis.measured_softmax(self.logits_CV, self.tokens.labels_T, out)
        self.log_norm_C = peak.log_norm_C
        self.measured[LOGP_Y] = peak.label_logp_C
        self.measured[TOP1] = (peak.label_C >= peak.top_C).to(peak.label_C.dtype)

    def _buffer(self, name: str) -> Tensor:
        return self.workspace(name, len(self.logits_CV))

    def _dot(self, prob_CV: Tensor, values_CV: Tensor) -> Tensor:
        """Σ prob·values, block by block: the product of the whole rows would be one more buffer."""
        rows, vocab = prob_CV.shape
        width = self.workspace.width(vocab)
        parts = []
        for start in range(0, vocab, width):
            prob, values = prob_CV[:, start : start + width], values_CV[:, start : start + width]
            parts.append(torch.mul(prob, values, out=self.workspace.part(rows, prob.shape[1])).sum(-1))
        return self.axis.sum(parts[0] if len(parts) == 1 else torch.stack(parts).sum(0))

    # ---- sources and pools, while the logits are there

    def source(self, name: str) -> Tensor:
        """A dense source's logits over the student's vocabulary, in a buffer of its own."""
        if name not in self._loaded:
            evidence = self.tokens.source(name)
            assert isinstance(evidence, Dense)
            out_CV, tokens = self._buffer(name), min(self.axis.total, evidence.vocab or evidence.head.axis.total)
            shared = min(max(tokens - self.axis.start, 0), out_CV.shape[1])
            self._source_into(out_CV[:, :shared], evidence)
            out_CV[:, shared:].fill_(FLOOR)
            self._loaded[name] = out_CV
        return self._loaded[name]

    def _source_into(self, out_CV: Tensor, source: Dense) -> None:
        """The columns of a source's logits that begin where this rank's do."""
        head, first = source.head, self.axis.start
        if head.shard is not None and head.shard.bounds[:-1] != self.axis.bounds[:-1]:  # cut otherwise: gathered
            self.workspace.count_temporaries(3 * self._ranks_wide)
            part_CV = out_CV.new_empty(len(out_CV), len(head.weight))
            self.logits_into(part_CV, source.hidden, head)
            out_CV.copy_(head.shard.whole(part_CV)[:, first : first + out_CV.shape[1]])
            return
        rows = slice(first - head.axis.start, first - head.axis.start + out_CV.shape[1])
        bias = None if head.bias is None else head.bias[rows]
        self.logits_into(out_CV, source.hidden, head._replace(weight=head.weight[rows], bias=bias))

    def _build(self, pool: Pool, wanted: Collection[Statistic], shared: list[Pool]) -> None:
        if pool.is_uniform:
            self._build_uniform(pool)
        elif not is_sparse(pool, self.tokens):
            build = self._build_dense if pool.slope is None else self._build_compared
            build(pool, wanted, shared)

    def _build_uniform(self, pool: Pool) -> None:
        outside_CV, total_CV = self._outside(), self.logits_CV
        if outside_CV is not None:
            total_CV = self.logits_CV.masked_fill(outside_CV, 0.0)
        count_C = self._vocabulary()
        self.terms[pool] = UniformTerm(count_C, outside_CV)
        self.measured[cross(pool)] = self.axis.sum(total_CV.sum(-1)) / count_C
        self.measured[negentropy(pool)] = self.measured[label_logp(pool)] = -count_C.log()

    def _build_compared(self, pool: Pool, wanted: Collection[Statistic], shared: list[Pool]) -> None:
        logits_CV = self._masked_exponent(pool.read, shared)
        out_CV = self._buffer(f"compared {len(self._compared)}")
        prob_CV, peak = self.axis.measured_softmax(logits_CV, self.tokens.labels_T, out_CV)
        self._compared[pool] = ComparedLogits(logits_CV, prob_CV, peak.log_norm_C)

    def _build_dense(self, pool: Pool, wanted: Collection[Statistic], shared: list[Pool]) -> None:
        exponent_CV = self._masked_exponent(pool, shared)
        with_negentropy = negentropy(pool) in wanted
        out = self._buffer(f"pool {len(self.terms)}") if with_negentropy else exponent_CV
        if with_negentropy or label_logp(pool) in wanted:
            prob_CV, peak = self.axis.measured_softmax(exponent_CV, self.tokens.labels_T, out)
            self.measured[label_logp(pool)] = peak.label_logp_C
            if with_negentropy:
                self.measured[negentropy(pool)] = self._dot(prob_CV, exponent_CV) - peak.log_norm_C
        else:
            prob_CV = self.axis.softmax(exponent_CV, out)
        if cross(pool) in wanted:
            self.measured[cross(pool)] = self._dot(prob_CV, self.logits_CV)
        self.terms[pool] = DenseTerm(prob_CV)

    def _masked_exponent(self, pool: Pool, shared: list[Pool]) -> Tensor:
        exponent_CV = self._exponent(pool, shared)
        outside_CV = self._outside()
        return exponent_CV if outside_CV is None else exponent_CV.masked_fill_(outside_CV, FLOOR)

    def _exponent(self, pool: Pool, shared: list[Pool]) -> Tensor:
        """Σ exponents · logits, in place of the first source's logits where no other pool reads them."""
        named, place = sources_of(pool), f"exponent {len(self.terms) + len(self._compared)}"
        if not named:
            return torch.mul(self.logits_CV, column_of(pool.student, self.measured), out=self._buffer(place))
        (first, exponent), *others = named
        source_CV = self._powered_source(first, pool)
        if any(first == name for other in shared for name, _ in sources_of(other.read)):
            out_CV = torch.mul(source_CV, column_of(exponent, self.measured), out=self._buffer(place))
        else:
            out_CV = source_CV if exponent == 1 else source_CV.mul_(column_of(exponent, self.measured))
            del self._loaded[first]
        for name, power in others:
            self._add_power(out_CV, self._powered_source(name, pool), power)
        return self._add_power(out_CV, self.logits_CV, pool.student) if pool.student else out_CV

    def _powered_source(self, name: str, pool: Pool) -> Tensor:
        """A source's logits, finite where an exponent may be 0 or less: such a power of −inf is no number."""
        source_CV = self.source(name)
        is_positive = all(not isinstance(each, Rule) and each >= 0 for each in pool.exponents)
        return source_CV if is_positive else source_CV.clamp_(min=FLOOR)

    def _add_power(self, out_CV: Tensor, logits_CV: Tensor, power: Number) -> Tensor:
        value = column_of(power, self.measured)
        return out_CV.addcmul_(logits_CV, value) if isinstance(value, Tensor) else out_CV.add_(logits_CV, alpha=value)

    def _finish(self, pool: Pool, wanted: Collection[Statistic]) -> None:
        """What needs the student's normaliser: expected log p, and the sparse pools."""
        if pool in self.terms:
            if cross(pool) in self.measured:
                self.measured[cross(pool)] = self.measured[cross(pool)] - self.log_norm_C
            return
        if pool in self._compared:
            self._finish_slope(pool)
            return
        ((name, exponent),) = sources_of(pool.read)
        kept = self.tokens.source(name)
        student_CK, rest_C = self.axis.apart(self.student_CV, kept.ids)
        power = value_of(exponent, self.measured) * kept.temperature
        term = SparseTerm.build(power, kept, student_CK, rest_C, self.axis)
        if pool.slope is not None:
            self.terms[pool] = tangent = SparseSlopeTerm.build(pool.slope, term)
            self.measured |= {slope_cost(pool): tangent.divergence_C, mean_slope(pool): tangent.mean_C}
            return
        self.terms[pool] = term
        self.measured[label_logp(pool)] = term.label_logp(self.tokens.labels_T, self.measured[LOGP_Y])
        if cross(pool) in wanted or negentropy(pool) in wanted:
            self._measure_student([ENTROPY])
            self.measured[cross(pool)] = term.cross(self.measured[ENTROPY])
            self.measured[negentropy(pool)] = term.negentropy(self.measured[ENTROPY])

    def _finish_slope(self, pool: Pool) -> None:
        """A slope's p·h in place of the logits that it compared with, and its sums, block by block."""
        assert pool.slope is not None
        logits_CV, prob_CV, log_norm_C = self._compared[pool]
        apart_C1 = (self.log_norm_C - log_norm_C)[:, None]
        cost_C, mean_C = torch.zeros_like(log_norm_C), torch.zeros_like(log_norm_C)
        for rows, part in self._blocks():
            log_ratio = (logits_CV[rows, part] - self.logits_CV[rows, part]).add_(apart_C1[rows])
            cost, pull = pool.slope(self.student_CV[rows, part], prob_CV[rows, part], log_ratio)
            cost_C[rows] += cost.sum(-1)
            mean_C[rows] += pull.sum(-1)
            logits_CV[rows, part] = pull
        self.workspace.count_parts(OF_SLOPE)
        self.measured[slope_cost(pool)] = self.axis.sum(cost_C)
        self.measured[mean_slope(pool)] = mean_C = self.axis.sum(mean_C)
        self.terms[pool] = SlopeTerm(logits_CV, mean_C)

    def _blocks(self) -> list[tuple[slice, slice]]:
        """Rows and columns that are taken at once: as many numbers as the workspace's width of all rows, in rows as
        long as can be.
        """
        rows, columns = self.logits_CV.shape
        width = self.workspace.width(columns)
        if width == columns or not rows:
            return [(slice(None), slice(None))]
        tall = max(1, rows * width // columns)
        wide = min(columns, rows * width // min(tall, rows))
        tops, starts = range(0, rows, tall), range(0, columns, wide)
        return [(slice(top, top + tall), slice(start, start + wide)) for top in tops for start in starts]

    # ---- statistics

    def _outside(self) -> Tensor | None:
        """Tokens the student cannot produce, [C, V]; None where its output layer cannot rule any out."""
        if not self.may_mask:
            return None
        self.workspace.count_temporaries(2)  # the mask, and what `_build_uniform` sums up
        return self.logits_CV <= FLOOR / 2

    def _vocabulary(self) -> Tensor:
        count_C = self.logits_CV.new_full(self.logits_CV.shape[:1], self.axis.total)
        outside_CV = self._outside()
        return count_C if outside_CV is None else count_C - self.axis.sum(outside_CV.sum(-1))

    def _measure_before_softmax(self, wanted: Collection[Statistic]) -> None:
        """Columns, moments of the sources, and what is read off the student's logits before they are overwritten."""
        for statistic in wanted:
            if statistic in self.measured:
                continue
            if statistic in BROUGHT:
                column_C = self.tokens.column(statistic.source, self.logits_CV.dtype)
                assert column_C is not None
                self.measured[statistic] = column_C
            elif statistic.source not in (STUDENT, *COLUMNS):
                self._measure_source(statistic)
            elif statistic.moment is Moment.SUPPORT:
                self.measured[statistic] = self._vocabulary()
            elif statistic.moment is Moment.TOP_ENTROPY:
                top = self.axis.largest(self.logits_CV, min(statistic.of, self.axis.total))
                top = top.log_softmax(-1).clamp(min=FLOOR)
                self.measured[statistic] = -(top.exp() * top).sum(-1)

    def _measure_source(self, statistic: Statistic) -> None:
        evidence = self.tokens.source(statistic.source)
        stated_C = stated_moment(evidence, statistic.moment, self.logits_CV.dtype)
        if stated_C is not None:
            self.measured[statistic] = stated_C
        elif isinstance(evidence, Dense) and statistic.moment in OF_SOURCES:
            source_CV = self.source(statistic.source)
            prob_CV, peak = self.axis.measured_softmax(source_CV, self.tokens.labels_T, self._buffer("source"))
            if statistic.moment is Moment.LABEL_LOGP:
                self.measured[statistic] = peak.label_logp_C
            elif statistic.moment is Moment.LABEL_PROBABILITY:
                self.measured[statistic] = peak.label_logp_C.exp()
            else:
                negentropy_C = self._dot(prob_CV, source_CV) - peak.log_norm_C
                self.measured[statistic] = -negentropy_C if statistic.moment is Moment.ENTROPY else negentropy_C

    def _measure_student(self, wanted: Collection[Statistic]) -> None:
        for statistic in wanted:
            if statistic not in self.measured and is_of_student(statistic):
                if statistic.moment is Moment.TOP_MASS:
                    largest_CK = self.axis.largest(self.student_CV, min(statistic.of, self.axis.total))
                    self.measured[statistic] = largest_CK.sum(-1)
                    continue
                value_C = self._student_moment(statistic.moment)
                if value_C is not None:
                    self.measured[statistic] = value_C

    def _student_moment(self, moment: Moment | None) -> Tensor | None:
        """A moment of the student itself, [C]; None for one that has no fast twin here."""
        if moment is Moment.LABEL_LOGP:
            return self.measured[LOGP_Y]
        if moment is Moment.LABEL_PROBABILITY:
            return self.measured[LOGP_Y].exp()
        if moment is Moment.LABEL_IS_TOP:
            return self.measured[TOP1]
        if moment is Moment.ENTROPY:
            if ENTROPY not in self.measured:
                self.measured[ENTROPY] = self.log_norm_C - self._dot(self.student_CV, self.logits_CV)
            return self.measured[ENTROPY]
        if moment in (Moment.NEGENTROPY, Moment.CROSS):
            entropy_C = self._student_moment(Moment.ENTROPY)
            assert entropy_C is not None
            return -entropy_C
        if moment is Moment.COLLISION:
            return self.axis.sum(torch.linalg.vector_norm(self.student_CV, dim=-1).square())
        if moment is Moment.LOG_NOT_LABEL:  # from the others' sum: exact where p_y is nearly 1
            _, others_C = self.axis.apart(self.student_CV, self.tokens.labels_T[:, None])
            return others_C.log().clamp(min=FLOOR)
        return None

    def _measure_by_definition(self, slow: Collection[Pool], wanted: Collection[Statistic]) -> None:
        left = [s for s in wanted if s not in self.measured]
        if not slow and not left:
            return
        frame = self.frame()
        for pool in slow:
            self.terms[pool] = DenseTerm(self.axis.cut(term_TV(pool, frame)))
        for statistic in left:
            self.measured[statistic] = frame[statistic]

    @property
    def _ranks_wide(self) -> int:
        """How many of this rank's blocks a whole row of the vocabulary takes."""
        return -(-self.axis.total // self.axis.widest)

    def frame(self) -> Frame:
        """The chunk as the plain definitions see it, of the whole vocabulary; needs the logits kept."""
        assert self.student_CV is not self.logits_CV
        self.workspace.count_temporaries(BY_DEFINITION * self._ranks_wide)
        return Frame(self.axis.whole(self.logits_CV - self.log_norm_C[:, None]).clamp_(min=FLOOR), self.tokens)

    # ---- the gradient

    def add_gradients(
        self,
        products: Products,
        part: slice,
        hidden_CH: Tensor,
        head: Head,
        q: TargetShares,
        factor_C: Tensor,
    ) -> None:
        products.add(part, hidden_CH, head, self.gradient_(*q), factor_C, self.logits_CV)

    def gradient_(self, trust_C: Tensor, student_share_C: Tensor | None, parts: Mapping[Pool, Tensor]) -> Tensor:
        """p − Q in place of the student, [C, V]: Q = trust·onehot + student_share·p + Σ coefficient·pool."""
        if (
            not parts and student_share_C is None and LOG_NOT_Y in self.measured
        ):  # p − onehot, exact where p_y is nearly 1
            others_C = self.measured[LOG_NOT_Y].exp()
            return self.axis.put_(self.student_CV, self.tokens.labels_T[:, None], -others_C[:, None])
        gradient_CV, terms = self.student_CV, [(self.terms[pool], c) for pool, c in parts.items()]
        keep_C = None if student_share_C is None else 1 - student_share_C
        for term, coefficient_C in terms:
            if isinstance(term, SlopeTerm):
                keep_C = (1 if keep_C is None else keep_C) + coefficient_C * term.mean_C
        kept = [(term, c) for term, c in terms if isinstance(term, KeptTerm)]  # of one source: see `measure`
        if kept:
            replace_kept_(gradient_CV, kept, torch.ones_like(trust_C) if keep_C is None else keep_C)
        elif keep_C is not None:
            gradient_CV.mul_(keep_C[:, None])
        for term, coefficient_C in terms:
            if not isinstance(term, KeptTerm):
                term.subtract_(gradient_CV, coefficient_C)
        return self.axis.add_(gradient_CV, self.tokens.labels_T[:, None], -trust_C[:, None])
