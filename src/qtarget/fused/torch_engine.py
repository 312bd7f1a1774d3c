"""One chunk of tokens, measured and turned into a gradient in reused buffers: the elementwise half of the fused loss.

Logits, pools and gradient of C tokens live in a few [C, V] buffers that every chunk overwrites. What is common has a
fast twin here; any other statistic or pool is measured by its plain definition (`statistics.Frame`) on the chunk alone.
Where the vocabulary is cut over ranks, the buffers hold this rank's columns, and what reads across asks `axis`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qtarget.fused.pools import DenseTerm, PoolTerm, SparseTerm, UniformTerm
from qtarget.target.evidence import Dense, Head, LabelOnly, Sparse, SupervisedTokens
from qtarget.target.statistics import ENTROPY, LOGP_Y, Frame, term_TV
from qtarget.target.types import FLOOR, Pool, Statistic, sources_of
from qtarget.target.vocabulary import Axis

TOP1 = Statistic("top1")
IN_PLACE = {"logp_y", "top1", "collision", "log_not_y"}
"""Statistics measured once the student has overwritten its logits; whatever else is left by then needs them kept."""
OF_SOURCE = ("reference_logp_y", "teacher_logp_y", "teacher_entropy")
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
        self.beside = 0
        """Further blocks of this shape that are alive at once, by a rough count."""

    @property
    def number(self) -> int:
        return len(self._buffers) + self.beside

    def part(self, rows: int, columns: int) -> Tensor:
        """Room for some columns of a chunk, [rows, columns], the same one each time."""
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

    def measure(self, pools: Collection[Pool], wanted: Collection[Statistic], keep_logits: bool) -> None:
        """Build the pools and the student, and measure; the student overwrites the logits unless they are kept."""
        fast = [pool for pool in pools if is_fast(pool, self.tokens)]
        further_sparse = [pool for pool in fast if is_sparse(pool, self.tokens)][1:]
        fast = [pool for pool in fast if pool not in further_sparse]
        slow = [pool for pool in pools if pool not in fast]
        self._measure_logits(wanted)
        for pool in fast:
            self._build(pool, wanted, shared=[p for p in fast if p != pool])
        unread = any(s not in self.measured and s.name not in IN_PLACE for s in wanted)
        self._normalise(keep_logits or bool(slow) or unread)
        for pool in fast:
            self._finish(pool, wanted)
        self._measure_student(wanted)
        self._measure_by_definition(slow, wanted)

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
            evidence = evidence_of(name, self.tokens)
            assert isinstance(evidence, Dense)
            out_CV, tokens = self._buffer(name), min(self.axis.total, evidence.vocab or evidence.head.axis.total)
            shared = min(max(tokens - self.axis.start, 0), out_CV.shape[1])
            self._source_into(out_CV[:, :shared], evidence)
            out_CV[:, shared:] = FLOOR
            self._loaded[name] = out_CV
        return self._loaded[name]

    def _source_into(self, out_CV: Tensor, source: Dense) -> None:
        """The columns of a source's logits that begin where this rank's do."""
        head, first = source.head, self.axis.start
        if head.shard is not None and head.shard.bounds[:-1] != self.axis.bounds[:-1]:  # cut otherwise: gathered
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
        self.measured[Statistic("cross", pool)] = self.axis.sum(total_CV.sum(-1)) / count_C
        for name in ("negentropy", "label_logp"):
            self.measured[Statistic(name, pool)] = -count_C.log()

    def _build_dense(self, pool: Pool, wanted: Collection[Statistic], shared: list[Pool]) -> None:
        own, label, cross = (Statistic(name, pool) for name in ("negentropy", "label_logp", "cross"))
        exponent_CV = self._exponent(pool, shared)
        if (outside_CV := self._outside()) is not None:
            exponent_CV.masked_fill_(outside_CV, FLOOR)
        out = self._buffer(f"pool {len(self.terms)}") if own in wanted else exponent_CV
        if own in wanted or label in wanted:
            prob_CV, peak = self.axis.measured_softmax(exponent_CV, self.tokens.labels_T, out)
            self.measured[label] = peak.label_logp_C
            if own in wanted:
                self.measured[own] = self._dot(prob_CV, exponent_CV) - peak.log_norm_C
        else:
            prob_CV = self.axis.softmax(exponent_CV, out)
        if cross in wanted:
            self.measured[cross] = self._dot(prob_CV, self.logits_CV)
        self.terms[pool] = DenseTerm(prob_CV)

    def _exponent(self, pool: Pool, shared: list[Pool]) -> Tensor:
        """Σ exponents · logits, in place of the first source's logits where no other pool reads them."""
        named = sources_of(pool)
        if not named:
            return torch.mul(self.logits_CV, pool.student, out=self._buffer(f"exponent {len(self.terms)}"))
        first, exponent = named[0]
        source_CV = self.source(first)
        if any(first == name for other in shared for name, _ in sources_of(other)):
            out_CV = torch.mul(source_CV, exponent, out=self._buffer(f"exponent {len(self.terms)}"))
        else:
            out_CV = source_CV if exponent == 1 else source_CV.mul_(exponent)
            del self._loaded[first]
        for name, power in named[1:]:
            out_CV.add_(self.source(name), alpha=power)
        return out_CV.add_(self.logits_CV, alpha=pool.student) if pool.student else out_CV

    def _finish(self, pool: Pool, wanted: Collection[Statistic]) -> None:
        """What needs the student's normaliser: expected log p, and the sparse pools."""
        own, label, cross = (Statistic(name, pool) for name in ("negentropy", "label_logp", "cross"))
        if pool in self.terms:
            if cross in self.measured:
                self.measured[cross] = self.measured[cross] - self.log_norm_C
            return
        ((name, exponent),) = sources_of(pool)
        kept = evidence_of(name, self.tokens)
        student_CK, rest_C = self.axis.apart(self.student_CV, kept.ids)
        term = SparseTerm.build(pool, exponent * kept.temperature, kept, student_CK, rest_C, self.axis)
        self.terms[pool] = term
        self.measured[label] = term.label_logp(self.tokens.labels_T, self.measured[LOGP_Y])
        if cross in wanted or own in wanted:
            self._measure_student([ENTROPY])
            self.measured[cross] = term.cross(self.measured[ENTROPY])
            self.measured[own] = term.negentropy(self.measured[ENTROPY])

    # ---- statistics

    def _outside(self) -> Tensor | None:
        """Tokens the student cannot produce, [C, V]; None where its output layer cannot rule any out."""
        return self.logits_CV <= FLOOR / 2 if self.may_mask else None

    def _vocabulary(self) -> Tensor:
        count_C = self.logits_CV.new_full(self.logits_CV.shape[:1], self.axis.total)
        outside_CV = self._outside()
        return count_C if outside_CV is None else count_C - self.axis.sum(outside_CV.sum(-1))

    def _measure_logits(self, wanted: Collection[Statistic]) -> None:
        """What is read before the logits are overwritten."""
        for statistic in wanted:
            if statistic.name == "top_k_entropy":
                top = self.axis.largest(self.logits_CV, min(statistic.of, self.axis.total))
                top = top.log_softmax(-1).clamp(min=FLOOR)
                self.measured[statistic] = -(top.exp() * top).sum(-1)
            elif statistic.name == "vocabulary":
                self.measured[statistic] = self._vocabulary()
            elif statistic.name == "token_weight":
                self.measured[statistic] = _given(self.tokens.token_weight_T).to(self.logits_CV.dtype)
            elif statistic.name == "sequence_ids":
                self.measured[statistic] = _given(self.tokens.sequence_ids_T)
            elif statistic.name in OF_SOURCE:
                self._measure_source(statistic)

    def _measure_source(self, statistic: Statistic) -> None:
        name = source_read(statistic)
        evidence = evidence_of(name, self.tokens)
        if isinstance(evidence, LabelOnly):
            self.measured[statistic] = evidence.logprobs.to(self.logits_CV.dtype).clamp(min=FLOOR)
        if isinstance(evidence, Sparse) and statistic.name == "teacher_entropy" and evidence.entropy is not None:
            self.measured[statistic] = evidence.entropy.to(self.logits_CV.dtype)
        if not isinstance(evidence, Dense):
            return
        source_CV = self.source(name)
        prob_CV, peak = self.axis.measured_softmax(source_CV, self.tokens.labels_T, self._buffer("source"))
        if statistic.name == "teacher_entropy":
            self.measured[statistic] = peak.log_norm_C - self._dot(prob_CV, source_CV)
        else:
            self.measured[statistic] = peak.label_logp_C

    def _measure_student(self, wanted: Collection[Statistic]) -> None:
        for statistic in wanted:
            if statistic in self.measured:
                continue
            if statistic.name == "entropy":
                self.measured[statistic] = self.log_norm_C - self._dot(self.student_CV, self.logits_CV)
            elif statistic.name == "collision":
                self.measured[statistic] = self.axis.sum(torch.linalg.vector_norm(self.student_CV, dim=-1).square())
            elif statistic.name == "log_not_y":  # from the others' sum: exact where p_y is nearly 1
                _, others_C = self.axis.apart(self.student_CV, self.tokens.labels_T[:, None])
                self.measured[statistic] = others_C.log().clamp(min=FLOOR)
            elif isinstance(statistic.of, Pool) and statistic.of.is_student:
                self._measure_student([ENTROPY])
                of_label = statistic.name == "label_logp"
                self.measured[statistic] = self.measured[LOGP_Y] if of_label else -self.measured[ENTROPY]

    def _measure_by_definition(self, slow: Collection[Pool], wanted: Collection[Statistic]) -> None:
        left = [s for s in wanted if s not in self.measured]
        if not slow and not left:
            return
        frame = self.frame()
        for pool in slow:
            self.terms[pool] = DenseTerm(self.axis.cut(term_TV(pool, frame)))
        for statistic in left:
            self.measured[statistic] = frame[statistic]

    def frame(self) -> Frame:
        """The chunk as the plain definitions see it, of the whole vocabulary; needs the logits kept."""
        assert self.student_CV is not self.logits_CV
        self.workspace.beside = BY_DEFINITION * -(-self.axis.total // self.axis.widest)
        return Frame(self.axis.whole(self.logits_CV - self.log_norm_C[:, None]).clamp_(min=FLOOR), self.tokens)

    # ---- the gradient

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


def _given(values: Tensor | None) -> Tensor:
    assert values is not None
    return values


def evidence_of(name: str, tokens: SupervisedTokens) -> Any:
    """What a source brought: "reference", or "teacher" and its number."""
    return tokens.reference if name == "reference" else tokens.teachers[int(name.split()[1])]


def source_read(statistic: Statistic) -> str:
    """The source that a statistic among `OF_SOURCE` reads."""
    return "reference" if statistic.name == "reference_logp_y" else f"teacher {statistic.of}"


def is_sparse(pool: Pool, tokens: SupervisedTokens) -> bool:
    return any(isinstance(evidence_of(name, tokens), Sparse) for name, _ in sources_of(pool))


def is_fast(pool: Pool, tokens: SupervisedTokens) -> bool:
    """Whether a pool is a softmax of sums of logits, or works out on a sparse source's K tokens."""
    if pool.potential is not None or pool.tangent is not None:
        return False
    if not is_sparse(pool, tokens):
        return True
    (name, exponent), *others = sources_of(pool)
    kept = evidence_of(name, tokens)
    return not others and kept.tail != "uniform" and abs(pool.student + exponent * kept.temperature - 1) < 1e-9
