"""One chunk of tokens on the Triton kernels: what `TorchChunk` is on torch operations.

Every pool and every whole source is one log-linear form of the logits, so a method is a short list of forms. The first
pass sums them up; trust, scale and coefficients are made of the sums by any rule; the second pass writes the gradient.
Logits stay in the type of the matrix product: one buffer for the student, one for each whole source.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qtarget.fused.fast_twins import is_fast, is_sparse
from qtarget.fused.pools import KeptTerm, SparseSlopeTerm, SparseTerm, TargetShares
from qtarget.fused.products import Products
from qtarget.fused.torch_engine import TorchChunk
from qtarget.fused.triton.kernels import (
    MAX_FORMS,
    MAX_SOURCES,
    STUDENT_FORM,
    UNIFORM_FORM,
    ComparedForms,
    Form,
    LogitChunk,
    Pull,
    Sums,
    TangentPull,
    compare,
    gradient_,
    measure_forms,
)
from qtarget.fused.triton.slope_twins import twin_of
from qtarget.fused.workspace import Workspace
from qtarget.target.evidence import Dense, Head, SupervisedTokens, stated_moment
from qtarget.target.pool import FLOOR, Pool, sources_of
from qtarget.target.rule import COLUMNS, OF_METHOD, STUDENT, Moment, Rule, Statistic, exponent_reads, value_of
from qtarget.target.statistics import BROUGHT, LOGP_Y, TOP1, cross, label_logp, mean_slope, negentropy, slope_cost
from qtarget.target.vocabulary import filled_slots

OF_SUMS: dict[Moment, Callable[[Sums, Sums], Tensor]] = {
    Moment.LABEL_LOGP: lambda sums, _: sums.label_logp,
    Moment.LABEL_PROBABILITY: lambda sums, _: sums.label_logp.exp(),
    Moment.LOG_NOT_LABEL: lambda sums, _: sums.log_not_label,
    Moment.LABEL_IS_TOP: lambda sums, _: (sums.label >= sums.top).float(),
    Moment.ENTROPY: lambda sums, _: -sums.negentropy,
    Moment.NEGENTROPY: lambda sums, _: sums.negentropy,
    Moment.CROSS: lambda sums, student: sums.cross_with(student),
    Moment.COLLISION: lambda sums, _: sums.collision,
}
"""Each moment from the sums of its form and of the student's."""
OF_SLOPES = {Moment.COST, Moment.MEAN_SLOPE}
"""Moments of a slope, whether it compares with a whole source or with K kept tokens."""
OF_POOLS = {Moment.LABEL_LOGP, Moment.NEGENTROPY, Moment.CROSS}
"""Moments of a pool that a sparse source's K tokens give too."""
PRODUCTS = {Moment.ENTROPY, Moment.NEGENTROPY, Moment.CROSS, Moment.COLLISION}
"""Moments for which the first pass sums more than masses."""


def covers(pools: Collection[Pool], wanted: Collection[Statistic], tokens: SupervisedTokens, head: Head) -> bool:
    """Whether the kernels measure all of these; if not, the call is for `TorchChunk`."""
    return uncovered(pools, wanted, tokens, head) is None


def uncovered(
    pools: Collection[Pool], wanted: Collection[Statistic], tokens: SupervisedTokens, head: Head
) -> str | None:
    """What the kernels do not know of these, in words; None where they measure all.

    They know pools without potential, one slope at most and of the closed set, one sparse source at most and then no
    other, and statistics of the student, of whole sources and of those pools. The vocabulary is whole on this device.
    """
    sparse = [pool for pool in pools if is_sparse(pool, tokens)]
    if slow := next((pool for pool in pools if not is_fast(pool, tokens)), None):
        return _slow_part(slow)
    if sparse and not _of_one_source(sparse, pools):
        return "a call that reads kept tokens beside another source"
    slopes = [pool.slope for pool in pools if pool.slope is not None and pool not in sparse]
    if own := next((slope for slope in slopes if twin_of(slope) is None), None):
        return f'the slope "{own.name}"'
    if len(slopes) > 1:
        return f"a call with {len(slopes)} slopes"
    sources = _whole_sources(pools, wanted, tokens)
    if len(sources) > MAX_SOURCES or 2 + len(pools) + len(sources) > MAX_FORMS:
        return f"a call that reads {len(sources)} whole sources"
    if any(each.shard is not None for each in (head, *(tokens.source(name).head for name in sources))):
        return "an output layer that is cut over ranks"
    unknown = next((statistic for statistic in wanted if not _is_known(statistic, tokens, head)), None)
    return None if unknown is None else f'the statistic "{unknown.name}"'


def _slow_part(pool: Pool) -> str:
    """What keeps a pool from being a softmax of sums of logits."""
    if any(part.potential is not None for part in pool.parts):
        return "a pool with a potential"
    return "a tangent along a pool" if isinstance(pool.tangent, Pool) else "this use of kept tokens"


def _of_one_source(sparse: Collection[Pool], pools: Collection[Pool]) -> bool:
    return len(sparse) == len(pools) and len({name for pool in pools for name, _ in sources_of(pool.read)}) == 1


def _whole_sources(pools: Collection[Pool], wanted: Collection[Statistic], tokens: SupervisedTokens) -> list[str]:
    """The sources whose logits are read, in the order of their exponents in a form."""
    names = [name for pool in pools for name, _ in sources_of(pool.read)]
    names += [s.source for s in wanted if _is_of_source(s) and _stated(s, tokens) is None]
    return [name for name in dict.fromkeys(names) if isinstance(tokens.source(name), Dense)]


def _is_known(statistic: Statistic, tokens: SupervisedTokens, head: Head) -> bool:
    """Whether the kernels, or the caller, give a statistic."""
    if statistic in BROUGHT:
        return True
    if _is_of_source(statistic):
        is_dense = isinstance(tokens.source(statistic.source), Dense)
        return _stated(statistic, tokens) is not None or (is_dense and statistic.moment in OF_SUMS)
    if statistic.source != STUDENT:
        return False
    if isinstance(statistic.of, Pool) and not statistic.of.is_student:
        return statistic.moment in (OF_POOLS if statistic.of.slope is None else OF_SLOPES)
    if statistic.moment in (Moment.TOP_ENTROPY, Moment.TOP_MASS):
        return head.scale is None or head.scale > 0
    return statistic.moment is Moment.SUPPORT or statistic.moment in OF_SUMS


def _is_of_source(statistic: Statistic) -> bool:
    """Whether a statistic is measured on the reference or a teacher."""
    return statistic.source not in (STUDENT, OF_METHOD, *COLUMNS)


def _stated(statistic: Statistic, tokens: SupervisedTokens) -> Tensor | None:
    """A statistic that was brought, not measured; None for others."""
    if statistic in BROUGHT:
        return tokens.column(statistic.source, torch.float32)
    evidence = tokens.source(statistic.source) if _is_of_source(statistic) else None
    return None if evidence is None else stated_moment(evidence, statistic.moment, torch.float32)


@dataclass
class TritonChunk:
    """C tokens, as `TorchChunk` has them. The logits are those before the head's scale and softcap."""

    plain: TorchChunk
    head: Head
    measured: dict[Statistic, Tensor] = field(default_factory=dict)
    _sources: list[str] = field(default_factory=list)
    _sums: dict[Form, Sums] = field(default_factory=dict)
    _comparisons: dict[Pool, ComparedForms] = field(default_factory=dict)
    _kept: dict[Pool, KeptTerm] = field(default_factory=dict)
    _exponents: dict[Rule, Tensor] = field(default_factory=dict)

    @staticmethod
    def logits_like(products: Products) -> Tensor:
        """The kernels read logits in the type of the matrix product."""
        return products.like.to(products.operand)

    @staticmethod
    def start(
        products: Products, hidden_CH: Tensor, head: Head, tokens: SupervisedTokens, workspace: Workspace
    ) -> TritonChunk:
        plain = TorchChunk.start(products, hidden_CH, head._replace(scale=None, softcap=None), tokens, workspace)
        return TritonChunk(plain, head)

    @property
    def tokens(self) -> SupervisedTokens:
        return self.plain.tokens

    @property
    def logits_CV(self) -> Tensor:
        return self.plain.logits_CV

    def measure(self, pools: Collection[Pool], wanted: Collection[Statistic], keep_logits: bool) -> None:
        """Sum up every form in one pass, and read the statistics from the sums; the logits are always kept. A pass
        before that gives what exponents read."""
        ahead = exponent_reads(pools)
        self._sources = _whole_sources(pools, (*ahead, *wanted), self.tokens)
        if all(statistic in BROUGHT for statistic in ahead):
            self.measured.update({statistic: self._read(statistic) for statistic in ahead})
        else:
            self._measure([], ahead)
        rules = [rule for pool in pools for rule in pool.exponents if isinstance(rule, Rule)]
        like_C = self.logits_CV.new_empty(len(self.logits_CV), dtype=torch.float32)
        self._exponents = {rule: rule(self.measured).expand_as(like_C) for rule in rules}
        self._measure(pools, wanted)

    def _measure(self, pools: Collection[Pool], wanted: Collection[Statistic]) -> None:
        whole = [pool for pool in pools if not is_sparse(pool, self.tokens)]
        reads = [self._form(pool.read) for pool in whole]
        forms = [STUDENT_FORM, *reads, *(f for s in wanted if (f := self._form_of(s)) is not None)]
        products = any(s.moment in PRODUCTS for s in wanted)
        self._sums = measure_forms(self._chunk, tuple(dict.fromkeys(forms)), products)
        student = self._sums[STUDENT_FORM]
        self.measured[LOGP_Y] = student.label_logp
        self.measured[TOP1] = (student.label >= student.top).float()
        for pool in pools:
            if pool not in whole:
                self._build_kept(pool, products)
            elif pool.slope is not None:
                self._compare(pool, student)
        for statistic in wanted:
            if statistic not in self.measured:
                self.measured[statistic] = self._read(statistic)

    @property
    def _chunk(self) -> LogitChunk:
        sources = tuple(self.plain.source(name) for name in self._sources)
        scale = 1.0 if self.head.scale is None else float(self.head.scale)
        return LogitChunk(self.logits_CV, sources, self.tokens.labels_T, scale, self.head.softcap, self._exponents)

    def _compare(self, pool: Pool, student: Sums) -> None:
        assert pool.slope is not None
        kind, form = twin_of(pool.slope), self._form(pool.read)
        assert kind is not None
        share = pool.slope.constants[0] if pool.slope.constants else 0.0
        self._comparisons[pool] = comparison = ComparedForms(kind, share, form, student, self._sums[form])
        self.measured[slope_cost(pool)], self.measured[mean_slope(pool)] = compare(self._chunk, comparison)

    def _form(self, pool: Pool) -> Form:
        exponents = dict(sources_of(pool))
        powers = [exponents.get(name, 0.0) for name in self._sources]
        while powers and not powers[-1]:
            powers.pop()
        return Form(pool.student, tuple(powers))

    def _form_of(self, statistic: Statistic) -> Form | None:
        """The form whose sums give a statistic; None for what is not summed up."""
        if statistic.moment is Moment.SUPPORT:
            return UNIFORM_FORM
        if statistic.source == STUDENT and statistic.moment in OF_SUMS:
            pool = statistic.of if isinstance(statistic.of, Pool) else None
            if pool is not None and not pool.is_student:
                return None if is_sparse(pool, self.tokens) else self._form(pool)
            return STUDENT_FORM
        if statistic.source not in self._sources:
            return None
        powers = (0.0,) * self._sources.index(statistic.source) + (1.0,)
        return Form(0.0, powers, masked=not self.plain.may_mask)  # with nothing ruled out, the same as the pool's

    # ---- statistics

    def _read(self, statistic: Statistic) -> Tensor:
        stated_C = _stated(statistic, self.tokens)
        if stated_C is not None:
            return stated_C
        if statistic.moment is Moment.TOP_ENTROPY:
            logp_CK = self._top_k(statistic.of).log_softmax(-1).clamp(min=FLOOR)
            return -(logp_CK.exp() * logp_CK).sum(-1)
        if statistic.moment is Moment.TOP_MASS:
            return (self._top_k(statistic.of) - self._sums[STUDENT_FORM].log_norm[:, None]).exp().sum(-1)
        form = self._form_of(statistic)
        assert form is not None
        assert statistic.moment is not None
        if statistic.moment is Moment.SUPPORT:
            return self._sums[form].total
        return OF_SUMS[statistic.moment](self._sums[form], self._sums[STUDENT_FORM])

    def _top_k(self, k: int) -> Tensor:
        """The student's k largest logits, [C, K]."""
        return self._finished(self.logits_CV.topk(min(k, self.logits_CV.shape[1]), -1).values)[0]

    def _finished(self, raw_CK: Tensor) -> tuple[Tensor, Tensor | float]:
        """Scale and softcap applied to a few logits, and their slope, as the kernels do to all."""
        scale = 1.0 if self.head.scale is None else self.head.scale
        logits_CK, cap = raw_CK.float() * scale, self.head.softcap
        if cap is None:
            return logits_CK, scale
        near_CK = torch.tanh(logits_CK / cap)
        return cap * near_CK, scale * (1 - near_CK.square())

    # ---- a sparse source

    def _build_kept(self, pool: Pool, products: bool) -> None:
        ((name, exponent),) = sources_of(pool.read)
        kept = self.tokens.source(name)
        student_CK, rest_C = self._apart(kept.ids)
        power = value_of(exponent, self.measured) * kept.temperature
        term = SparseTerm.build(power, kept, student_CK, rest_C, self.plain.axis)
        if pool.slope is not None:
            self._kept[pool] = tangent = SparseSlopeTerm.build(pool.slope, term)
            self.measured |= {slope_cost(pool): tangent.divergence_C, mean_slope(pool): tangent.mean_C}
            return
        self._kept[pool] = term
        self.measured[label_logp(pool)] = term.label_logp(self.tokens.labels_T, self.measured[LOGP_Y])
        if products:
            entropy_C = -self._sums[STUDENT_FORM].negentropy
            self.measured[cross(pool)] = term.cross(entropy_C)
            self.measured[negentropy(pool)] = term.negentropy(entropy_C)

    def _apart(self, ids_CK: Tensor) -> tuple[Tensor, Tensor]:
        """p at some ids, [C, K], 0 in a slot that is empty, and the sum of the others, [C]: from a pass over the logits
        without them."""
        at_CK, is_empty_CK = filled_slots(ids_CK)
        raw_CK, log_norm_C = self.logits_CV.gather(1, at_CK), self._sums[STUDENT_FORM].log_norm
        self.logits_CV.scatter_(1, at_CK, -torch.inf)
        others = measure_forms(self._chunk._replace(sources=()), (STUDENT_FORM,), products=False)[STUDENT_FORM]
        self.logits_CV.scatter_(1, at_CK, raw_CK)
        student_CK = (self._finished(raw_CK)[0] - log_norm_C[:, None]).exp().masked_fill(is_empty_CK, 0.0)
        return student_CK, (others.log_norm - log_norm_C).exp()

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
        products.add_finished(part, hidden_CH, head.weight, self.gradient_(*q, factor_C))

    def gradient_(
        self, trust_C: Tensor, student_share_C: Tensor | None, parts: Mapping[Pool, Tensor], factor_C: Tensor
    ) -> Tensor:
        """factor·(p − Q) to the stored logits, in their place. Q as in `TorchChunk.gradient_`.

        As trust and coefficients sum to 1, the label's entry is −keep·(1 − p_y) + Σ c·(1 − π̃_y), which cancels nowhere;
        a tangent adds its own.
        """
        keep_C = torch.ones_like(trust_C) if student_share_C is None else 1 - student_share_C
        weights, at_label_C = {STUDENT_FORM: keep_C}, -keep_C * self._sums[STUDENT_FORM].not_label
        if self._kept and parts:
            return self._gradient_of_kept_(parts, keep_C, at_label_C, factor_C)
        tangent = None
        for pool, share_C in parts.items():
            if pool in self._comparisons:
                tangent = TangentPull(-share_C, self._comparisons[pool], self.measured[mean_slope(pool)])
                continue
            form = self._form(pool)
            weights[form] = weights[form] - share_C if form in weights else -share_C
            at_label_C = at_label_C + share_C * self._sums[form].not_label
        return self._written(weights, at_label_C, factor_C, tangent)

    def _written(
        self,
        weights: Mapping[Form, Tensor],
        at_label_C: Tensor,
        factor_C: Tensor,
        tangent: TangentPull | None = None,
    ) -> Tensor:
        pulls = {form: Pull(weight_C, self._sums[form]) for form, weight_C in weights.items()}
        return gradient_(self._chunk, pulls, at_label_C, factor_C, tangent)

    def _gradient_of_kept_(
        self, parts: Mapping[Pool, Tensor], keep_C: Tensor, at_label_C: Tensor, factor_C: Tensor
    ) -> Tensor:
        """(keep − Σ c·κ)·p everywhere, then the K tokens anew, as κ may be large and cancel there."""
        first, labels_C = self._kept[next(iter(parts))], self.tokens.labels_T
        inside_CK, outside_C = keep_C[:, None] * first.student_CK, keep_C
        for pool, share_C in parts.items():
            term = self._kept[pool]
            inside_CK = inside_CK - share_C[:, None] * term.inside_CK
            outside_C = outside_C - share_C * term.outside_C
            if isinstance(term, SparseTerm):
                at_label_C = at_label_C - share_C * torch.expm1(self.measured[label_logp(pool)])
            else:
                at_label_C = at_label_C - share_C * term.at_label(labels_C, self.measured[LOGP_Y])
        at_CK, is_empty_CK = filled_slots(first.kept.ids)
        _, slope_CK = self._finished(self.logits_CV.gather(1, at_CK))
        gradient_CV = self._written({STUDENT_FORM: outside_C}, at_label_C, factor_C)
        is_label_CK = first.kept.ids == labels_C[:, None]
        inside_CK = torch.where(is_label_CK, at_label_C[:, None], inside_CK) * factor_C[:, None] * slope_CK
        inside_CK = torch.where(is_empty_CK, inside_CK[:, :1], inside_CK)
        return gradient_CV.scatter_(1, at_CK, inside_CK.to(gradient_CV.dtype))
