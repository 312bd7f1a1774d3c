"""One chunk of tokens, measured and turned into a gradient in reused buffers: the elementwise half of the fused loss.

Logits, pools and gradient of C tokens live in a few [C, V] buffers that every chunk overwrites. What is common has a
fast twin here; any other statistic or pool is measured by its plain definition (`statistics.Frame`) on the chunk alone.
Where the vocabulary is cut over ranks, the buffers hold this rank's columns, and what reads across asks `axis`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qtarget.fused.pools import DenseTerm, PoolTerm, SparseTerm, TargetShares, UniformTerm
from qtarget.fused.products import Products
from qtarget.target.evidence import Dense, Head, Sparse, SupervisedTokens, stated_moment
from qtarget.target.kept_tokens import sums_to_one
from qtarget.target.pool import FLOOR, Pool, sources_of
from qtarget.target.rule import COLUMNS, STUDENT, Moment, Number, Rule, Statistic, column_of, exponent_reads, value_of
from qtarget.target.statistics import (
    BROUGHT,
    ENTROPY,
    LOGP_Y,
    TOP1,
    Frame,
    cross,
    label_logp,
    negentropy,
    term_TV,
)
from qtarget.target.vocabulary import Axis

FROM_SOFTMAX = {Moment.LABEL_LOGP, Moment.LABEL_IS_TOP, Moment.COLLISION, Moment.LOG_NOT_LABEL}
"""Moments of the student computable from softmax(z) after it was written over z. For any other that is not measured
before, z is kept."""
OF_SOURCES = {Moment.LABEL_LOGP, Moment.LABEL_PROBABILITY, Moment.ENTROPY, Moment.NEGENTROPY}
"""Moments of the reference and of teachers that have a fast twin here, where whole distributions are given."""
DOT_BLOCK = 1024
"""Columns of a chunk that a CPU multiplies and sums at once."""
BY_DEFINITION = 8
"""Blocks of a chunk's shape that measuring by plain definitions takes."""


class Workspace:
    """Buffers by name, allocated once: fresh large blocks cost more than the arithmetic done in them."""

    def __init__(self, chunk: int, vocab: int, like: Tensor) -> None:
        self._shape, self._like = (chunk, vocab), like
        self._buffers: dict[str, Tensor] = {}
        self._part: Tensor | None = None
        self._temporaries = 0

    def count_temporaries(self, blocks: int) -> None:
        """Note that up to `blocks` tensors of [chunk, vocab] are alive at once outside of the workspace."""
        self._temporaries = max(self._temporaries, blocks)

    def numbers_per_token(self, columns: int) -> int:
        """How many numbers were held for each token, had a row of the vocabulary `columns` of them."""
        block = DOT_BLOCK if self._like.device.type == "cpu" else columns
        part = 0 if self._part is None else min(block, columns)  # of `columns`, not of this rank's own: all must agree
        return (len(self._buffers) + self._temporaries) * columns + part

    def part(self, rows: int, columns: int) -> Tensor:
        """A buffer for some columns of a chunk, [rows, columns], which the next call overwrites."""
        if self._part is None or self._part.numel() < rows * columns:
            self._part = self._like.new_empty(rows * columns)
        return self._part[: rows * columns].view(rows, columns)

    def __call__(self, name: str, rows: int) -> Tensor:
        if name not in self._buffers:
            self._buffers[name] = self._like.new_empty(self._shape)
        return self._buffers[name][:rows]


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
        further_sparse = [pool for pool in fast if is_sparse(pool, self.tokens)][1:]
        fast = [pool for pool in fast if pool not in further_sparse]
        slow = [pool for pool in pools if pool not in fast]
        self._measure_ahead(exponent_reads(fast))
        self._measure_before_softmax(wanted)
        for pool in fast:
            self._build(pool, wanted, shared=[p for p in fast if p != pool])
        unread = any(s not in self.measured and not _is_from_softmax(s) for s in wanted)
        self._normalise(keep_logits or bool(slow) or unread)
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
        width = DOT_BLOCK if prob_CV.device.type == "cpu" else vocab
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
            self._build_dense(pool, wanted, shared)

    def _build_uniform(self, pool: Pool) -> None:
        outside_CV, total_CV = self._outside(), self.logits_CV
        if outside_CV is not None:
            total_CV = self.logits_CV.masked_fill(outside_CV, 0.0)
        count_C = self._vocabulary()
        self.terms[pool] = UniformTerm(count_C, outside_CV)
        self.measured[cross(pool)] = self.axis.sum(total_CV.sum(-1)) / count_C
        self.measured[negentropy(pool)] = self.measured[label_logp(pool)] = -count_C.log()

    def _build_dense(self, pool: Pool, wanted: Collection[Statistic], shared: list[Pool]) -> None:
        exponent_CV = self._exponent(pool, shared)
        if (outside_CV := self._outside()) is not None:
            exponent_CV.masked_fill_(outside_CV, FLOOR)
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

    def _exponent(self, pool: Pool, shared: list[Pool]) -> Tensor:
        """Σ exponents · logits, in place of the first source's logits where no other pool reads them."""
        named = sources_of(pool)
        if not named:
            power = column_of(pool.student, self.measured)
            return torch.mul(self.logits_CV, power, out=self._buffer(f"exponent {len(self.terms)}"))
        (first, exponent), *others = named
        source_CV = self._powered_source(first, pool)
        if any(first == name for other in shared for name, _ in sources_of(other)):
            out_CV = torch.mul(
                source_CV, column_of(exponent, self.measured), out=self._buffer(f"exponent {len(self.terms)}")
            )
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
        ((name, exponent),) = sources_of(pool)
        kept = self.tokens.source(name)
        student_CK, rest_C = self.axis.apart(self.student_CV, kept.ids)
        power = value_of(exponent, self.measured) * kept.temperature
        term = SparseTerm.build(power, kept, student_CK, rest_C, self.axis)
        self.terms[pool] = term
        self.measured[label_logp(pool)] = term.label_logp(self.tokens.labels_T, self.measured[LOGP_Y])
        if cross(pool) in wanted or negentropy(pool) in wanted:
            self._measure_student([ENTROPY])
            self.measured[cross(pool)] = term.cross(self.measured[ENTROPY])
            self.measured[negentropy(pool)] = term.negentropy(self.measured[ENTROPY])

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
        gradient_CV = self.student_CV
        keep_C = torch.ones_like(trust_C) if student_share_C is None else 1 - student_share_C
        sparse = [(term, c) for pool, c in parts.items() if isinstance(term := self.terms[pool], SparseTerm)]
        for term, coefficient_C in sparse:  # at most one: see `measure`
            term.replace_(gradient_CV, coefficient_C, keep_C)
        if not sparse and student_share_C is not None:
            gradient_CV.mul_(keep_C[:, None])
        for pool, coefficient_C in parts.items():
            if not isinstance(term := self.terms[pool], SparseTerm):
                term.subtract_(gradient_CV, coefficient_C)
        return self.axis.add_(gradient_CV, self.tokens.labels_T[:, None], -trust_C[:, None])


def is_of_student(statistic: Statistic) -> bool:
    """Whether a statistic is measured on the student itself, also where it stands as a pool."""
    pool = statistic.of if isinstance(statistic.of, Pool) else None
    return statistic.source == STUDENT and (pool is None or pool.is_student)


def _is_from_softmax(statistic: Statistic) -> bool:
    return is_of_student(statistic) and statistic.moment in FROM_SOFTMAX


def is_sparse(pool: Pool, tokens: SupervisedTokens) -> bool:
    """Whether a pool is made of a source of which only K tokens were kept."""
    return any(isinstance(tokens.source(name), Sparse) for name, _ in sources_of(pool))


def is_fast(pool: Pool, tokens: SupervisedTokens) -> bool:
    """Whether a pool is a softmax of sums of logits, or works out on a sparse source's K tokens."""
    if pool.potential is not None or pool.tangent is not None:
        return False
    if not is_sparse(pool, tokens):
        return True
    (name, exponent), *others = sources_of(pool)
    kept = tokens.source(name)
    return not others and kept.tail != "uniform" and sums_to_one(pool.student, exponent * kept.temperature)
