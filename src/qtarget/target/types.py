"""The nouns of target design, and the legend of shapes.

    Q = γ·onehot(y) + Σ_j c_j·π̃_j ,   γ + Σ_j c_j = 1        ∂L/∂z = s·(p − Q)

A `Method` states the trust γ, the residual terms (c_j, π̃_j) and the scale s. Each number is a `Rule`: a torch function
of named per-token `Statistic`s. Each π̃_j is a `Pool`: a log-linear pool of the student, the reference and the teachers.

Shapes: T supervised tokens, V vocabulary, K kept teacher tokens, H hidden width. All logarithms are natural (nats).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from itertools import count
from typing import Any, Literal, NamedTuple
from weakref import WeakValueDictionary

from torch import Tensor

Scope = Literal["token", "sequence", "batch"]
SCOPES: tuple[Scope, ...] = ("token", "sequence", "batch")

FLOOR = -1e30
"""Stands for log 0, so that 0·log 0 is 0 and never NaN."""


class Statistic(NamedTuple):
    """A per-token number by name. `of` is its argument: a `Pool`, a teacher's index or a count k."""

    name: str
    of: Any = None


@dataclass(frozen=True)
class Rule:
    """A number per token, computed from the statistics it names: `fn(*statistics) -> [T]`.

    Rules combine by arithmetic (`1 - rule`, `rule * 0.5`, `rule / other`), so a method reads like its formula.
    `scope` says whether a token's value may depend on its own statistics only, on its sequence's, or on the whole
    batch's.
    """

    name: str
    reads: tuple[Statistic, ...]
    fn: Callable[..., Tensor]
    scope: Scope = "token"

    def __call__(self, statistics: Mapping[Statistic, Tensor]) -> Tensor:
        return self.fn(*(statistics[name] for name in self.reads))

    def __add__(self, other: Number) -> Rule:
        return _combine("+", operator.add, self, other)

    def __sub__(self, other: Number) -> Rule:
        return _combine("-", operator.sub, self, other)

    def __mul__(self, other: Number) -> Rule:
        return _combine("*", operator.mul, self, other)

    def __truediv__(self, other: Number) -> Rule:
        return _combine("/", operator.truediv, self, other)

    def __radd__(self, other: float) -> Rule:
        return _combine("+", operator.add, other, self)

    def __rsub__(self, other: float) -> Rule:
        return _combine("-", operator.sub, other, self)

    def __rmul__(self, other: float) -> Rule:
        return _combine("*", operator.mul, other, self)

    def __rtruediv__(self, other: float) -> Rule:
        return _combine("/", operator.truediv, other, self)

    def __neg__(self) -> Rule:
        return _combine("-", operator.sub, 0.0, self)


Number = Rule | float


def reads(number: Number) -> tuple[Statistic, ...]:
    """The statistics a rule reads; none for a constant."""
    return number.reads if isinstance(number, Rule) else ()


def scope_of(*numbers: Number) -> Scope:
    """The widest scope among rules; constants are token-wide."""
    widest = max((SCOPES.index(n.scope) for n in numbers if isinstance(n, Rule)), default=0)
    return SCOPES[widest]


def value_of(number: Number, statistics: Mapping[Statistic, Tensor]) -> Tensor | float:
    """A rule's value per token, or the constant itself."""
    return number(statistics) if isinstance(number, Rule) else number


def _combine(symbol: str, op: Callable[[Any, Any], Any], left: Number, right: Number) -> Rule:
    split = len(reads(left))

    def fn(*values: Tensor) -> Tensor:
        a = left.fn(*values[:split]) if isinstance(left, Rule) else left
        b = right.fn(*values[split:]) if isinstance(right, Rule) else right
        return op(a, b)

    name = f"({_named(left)} {symbol} {_named(right)})"
    return Rule(name, (*reads(left), *reads(right)), fn, scope_of(left, right))


def _named(number: Number) -> str:
    return number.name if isinstance(number, Rule) else f"{number:g}"


Potential = Callable[[Tensor, Tensor, Tensor], Tensor]
"""φ(logp_TV, logp_y_T1, is_label_TV) -> [T, V], added to a pool's exponent. −inf removes a token from the pool."""


@dataclass(frozen=True)
class Pool:
    """π̃ ∝ exp(student·log p + reference·log r + Σ_i teachers[i]·log t_i + φ), over the tokens the student can produce.

    All exponents zero is the uniform distribution. With `tangent` the term is π̃∘(ℓ − E_π̃ ℓ), where ℓ is the log-linear
    expression of the tangent pool's exponents: it sums to zero, and covers entropy penalties and reverse divergences.
    """

    student: float = 0.0
    reference: float = 0.0
    teachers: tuple[float, ...] = ()
    potential: Potential | None = None
    tangent: Pool | None = None

    @property
    def is_student(self) -> bool:
        """The student itself: such a term only changes how far p is pulled to the label, and needs no buffer."""
        return self == Pool(student=1.0)

    @property
    def is_uniform(self) -> bool:
        return self == Pool()

    @property
    def parts(self) -> tuple[Pool, ...]:
        return (self,) if self.tangent is None else (self, self.tangent)


class Term(NamedTuple):
    coefficient: Number
    pool: Pool


_NUMBERS = count()


@dataclass(frozen=True)
class Method:
    """An objective, as the target distribution it pulls the student to.

    Args:
        name: the catalogue name.
        trust: γ, the mass given to the observed token.
        residual: the terms (c_j, π̃_j). γ + Σ c_j must be 1; tangent terms stand outside that sum.
        scale: s ≥ 0, which multiplies the gradient and is not part of the target.
        value: the loss as its paper states it, per token in nats; by default s·CE(Q, p). It never changes the gradient,
            and looks at no more than its token.
        scope: "token", "sequence" (needs `sequence_ids`) or "batch"; at least as wide as the widest rule.
        source: the citation.
        refresh_every: for a reference that is a snapshot of the student: optimizer steps between refreshes.
        key: its place in `LIVE`.
        without_reference: the method that stands in when no reference is given (iw-sft with precomputed weights).
    """

    name: str
    trust: Number
    residual: tuple[Term, ...] = ()
    scale: Number = 1.0
    value: Rule | None = None
    scope: Scope = "token"
    source: str = ""
    refresh_every: int | None = None
    without_reference: Method | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "residual", tuple(Term(*term) for term in self.residual))
        object.__setattr__(self, "key", f"{self.name} {next(_NUMBERS)}")
        LIVE[self.key] = self
        if self.scope not in SCOPES:
            raise ValueError(f'method "{self.name}": scope="{self.scope}" is none of {", ".join(SCOPES)}')
        if self.value is not None and self.value.scope != "token":
            raise ValueError(
                f'method "{self.name}": the value {self.value.name} looks at a whole {self.value.scope}, '
                f"and a value is per token; let it read the trust, as value.trusted_nll() does"
            )
        needed = scope_of(*self.numbers)
        if SCOPES.index(needed) > SCOPES.index(self.scope):
            widest = next(n.name for n in self.numbers if isinstance(n, Rule) and n.scope == needed)
            raise ValueError(
                f'method "{self.name}": the rule {widest} looks at a whole {needed}, '
                f'but the method\'s scope is "{self.scope}"; write Method(..., scope="{needed}")'
            )

    def __reduce__(self) -> tuple[type[Method], tuple[Any, ...]]:
        """A copy is made as any other is, and gets a key of its own."""
        return Method, tuple(getattr(self, f.name) for f in fields(self) if f.init)

    @property
    def numbers(self) -> tuple[Number, ...]:
        """Everything that shapes the gradient: trust, scale and coefficients."""
        return (self.trust, self.scale, *(term.coefficient for term in self.residual))

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools among the residual and in the statistics, the plain student excluded."""
        named = [s.of for s in self.reads if isinstance(s.of, Pool)]
        return tuple(dict.fromkeys(p for p in (*(t.pool for t in self.residual), *named) if not p.is_student))

    @property
    def reads(self) -> tuple[Statistic, ...]:
        """Every statistic the gradient or the value reads."""
        numbers = (*self.numbers, *(() if self.value is None else (self.value,)))
        return tuple(dict.fromkeys(s for n in numbers for s in reads(n)))

    @property
    def needs(self) -> frozenset[str]:
        """What the call must bring: among "teacher", "reference", "token_weight", "sequence_ids"."""
        names = {name for s in self.reads for name in EVIDENCE_OF.get(s.name, ())}
        return frozenset(names | _pool_sources(self.pools))

    @property
    def label_only(self) -> frozenset[str]:
        """The sources of which only the label's log-probability is read."""
        wide = {name for s in self.reads if not s.name.endswith("_logp_y") for name in EVIDENCE_OF.get(s.name, ())}
        whole = _pool_sources(self.pools) | wide
        return frozenset(({"teacher", "reference"} & self.needs) - whole)

    @property
    def num_teachers(self) -> int:
        named = [s.of + 1 for s in self.reads if EVIDENCE_OF.get(s.name) == ("teacher",)]
        return max([0, *named, *(len(part.teachers) for pool in self.pools for part in pool.parts)])

    @property
    def weight_is_trust(self) -> bool:
        """Whether the method reads `token_weight` itself (cft); otherwise the weight multiplies the scale."""
        return any(s.name == "token_weight" for s in self.reads)


LIVE: WeakValueDictionary[str, Method] = WeakValueDictionary()
"""Every method that somebody holds, by its key: what a compiled graph, which can only hold words, knows it by."""

EVIDENCE_OF: dict[str, tuple[str, ...]] = {
    "teacher_logp_y": ("teacher",),
    "teacher_entropy": ("teacher",),
    "reference_logp_y": ("reference",),
    "reference_mass_below": ("reference",),
    "token_weight": ("token_weight",),
    "sequence_ids": ("sequence_ids",),
}
"""Which argument of the call a statistic comes from, where it is not the student alone."""


def sources_of(pool: Pool) -> list[tuple[str, float]]:
    """The sources of a pool besides the student, with their exponents."""
    named = [("reference", pool.reference), *((f"teacher {i}", a) for i, a in enumerate(pool.teachers))]
    return [(name, exponent) for name, exponent in named if exponent]


def _pool_sources(pools: tuple[Pool, ...]) -> set[str]:
    parts = [part for pool in pools for part in pool.parts]
    teacher = {"teacher"} if any(part.teachers for part in parts) else set()
    return teacher | ({"reference"} if any(part.reference for part in parts) else set())


@dataclass(frozen=True)
class LossOutput:
    """What a loss call returns.

    Attributes:
        loss: scalar, for backward: the sum over supervised tokens divided by `num_items`, or by their count. Nats.
        nll: scalar, detached: mean of −log p_y over `num_tokens` tokens, whatever the objective. Nats.
        num_tokens: scalar: how many tokens `nll` averages (in training those of weight > 0, else every supervised one).
        diagnostics: name -> detached tensor shaped like `labels`, NaN where a token was not measured.
    """

    loss: Tensor
    nll: Tensor
    num_tokens: Tensor
    diagnostics: dict[str, Tensor]

    def __getattr__(self, name: str) -> Tensor:
        measured = self.__dict__.get("diagnostics", {})
        if name not in measured:
            raise AttributeError(f"no diagnostic {name!r}; measured: {sorted(measured)}")
        return measured[name]


class Target(NamedTuple):
    """A target under one reading: s·(p − q) is the loss's logit gradient. NaN at ignored tokens.

    Attributes:
        q: [..., V].  trust: [...].  scale: [...].  is_proper: [...] bool, whether every q_k ≥ 0 (to rounding).
    """

    q: Tensor
    scale: Tensor
    trust: Tensor
    is_proper: Tensor
