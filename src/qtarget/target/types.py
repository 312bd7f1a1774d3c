"""The nouns of target design, and the legend of shapes.

    Q = γ·onehot(y) + Σ_j c_j·π̃_j ,   γ + Σ_j c_j = 1        ∂L/∂z = s·(p − Q)

A `Method` states the trust γ, the residual terms (c_j, π̃_j) and the scale s. Each number is a `Rule`: a torch function
of named per-token `Statistic`s. Each π̃_j is a `Pool`: a log-linear pool of the student, the reference and the teachers.

Shapes: T supervised tokens, V vocabulary, K kept teacher tokens, H hidden width. All logarithms are natural (nats).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cached_property
from itertools import count
from typing import Any, Literal, NamedTuple
from weakref import WeakValueDictionary

from torch import Tensor

from qtarget.target.hyperparameters import suggestion

Scope = Literal["token", "sequence", "batch"]
SCOPES: tuple[Scope, ...] = ("token", "sequence", "batch")

FLOOR = -1e30
"""Stands for log 0, so that 0·log 0 is 0 and never NaN."""
IGNORED = -100
"""The label of a token that is not supervised, as transformers and torch have it."""


class Moment(Enum):
    """What both engines of the fused loss measure of a distribution q in one pass over its logits, a number per token.

    Label is the observed token y, student the distribution p. Sums run over the tokens that the student can produce.
    """

    LABEL_LOGP = "log q_y"
    LOG_NOT_LABEL = "log(1 − q_y)"
    LABEL_IS_TOP = "1 where y is the likeliest token, else 0"
    ENTROPY = "−E_q[log q]"
    NEGENTROPY = "E_q[log q]"
    CROSS = "E_q[log p]"
    COLLISION = "Σ q²"
    TOP_ENTROPY = "entropy of the k likeliest tokens, renormalised"
    SUPPORT = "how many tokens the student can produce"


STUDENT, OF_METHOD = "student", "method"
COLUMNS = ("token_weight", "sequence_ids")


@dataclass(frozen=True)
class Statistic:
    """A number per supervised token, with all that is known of it. `qtarget.statistics` holds those there are.

    Attributes:
        name: as error messages call it.
        of: its argument: a `Pool`, a teacher's index or a count k.
        definition: (frame, of) -> [T], from whole distributions; `frame` is a `qtarget.statistics.Frame`.
        source: what it reads besides the student: "reference", "teacher 0", "teacher 1", …, "token_weight" or
            "sequence_ids". "method": what trust and scale come to, for `Method.value` alone.
        label_only: the source's log-probability of the label is enough.
        moment: its fast twin: the moment that it is of its pool or source. None: the fused loss measures the
            definition, chunk by chunk.
    """

    name: str
    of: Any = None
    definition: Callable[[Any, Any], Tensor] | None = field(default=None, repr=False)
    source: str = field(default=STUDENT, compare=False, repr=False)
    label_only: bool = field(default=False, compare=False, repr=False)
    moment: Moment | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        known = (STUDENT, OF_METHOD, "reference", "teacher 0", *COLUMNS)
        if not isinstance(self.source, str) or not (self.source in known or re.fullmatch(r"teacher \d+", self.source)):
            near = suggestion(str(self.source), known)
            raise ValueError(f'statistic "{self.name}": source={self.source!r} is no source; {near}')
        if self.moment is not None and not isinstance(self.moment, Moment):
            raise ValueError(
                f'statistic "{self.name}": moment={self.moment!r} is no Moment; write '
                f"moment=qtarget.types.Moment.ENTROPY, one of {', '.join(Moment.__members__)}"
            )
        of_student = self.source == STUDENT and not isinstance(self.of, Pool)
        if self.moment in (Moment.TOP_ENTROPY, Moment.SUPPORT) and not of_student:
            raise ValueError(f'statistic "{self.name}": {self.moment} is the student\'s alone; leave moment out')

    def __hash__(self) -> int:
        return hash(self.name)  # statistics of one name are few, and every chunk looks them up

    @property
    def distribution(self) -> Pool | str:
        """What it is a moment of: a pool, the student, the reference or a teacher."""
        return self.of if isinstance(self.of, Pool) else self.source

    @property
    def needs(self) -> frozenset[str]:
        """What a call must bring for it, besides what its pool needs."""
        return frozenset() if self.source in (STUDENT, OF_METHOD) else frozenset({self.source.split()[0]})

    def __str__(self) -> str:
        return self.name if self.of is None else f"{self.name}({self.of})"


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

    def __post_init__(self) -> None:
        if not isinstance(self.reads, tuple):
            raise ValueError(
                f'rule "{self.name}": reads={self.reads!r} must be a tuple of statistics, as in '
                f"reads=(qtarget.statistics.LOGP_Y,)"
            )

    def __call__(self, statistics: Mapping[Statistic, Tensor]) -> Tensor:
        return self.fn(*(statistics[statistic] for statistic in self.reads))

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

    An exponent of zero reads nothing: Pool(1.0, teachers=(0.0,)) is the student itself, and needs no teacher, though
    `num_teachers` still counts it. All exponents zero is the uniform distribution. With `tangent` the term is
    π̃∘(ℓ − E_π̃ ℓ), where ℓ is the log-linear expression of the tangent pool's exponents: it sums to zero, and covers
    entropy penalties and reverse divergences.
    """

    student: float = 0.0
    reference: float = 0.0
    teachers: tuple[float, ...] = ()
    potential: Potential | None = None
    tangent: Pool | None = None
    num_teachers: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        teachers = tuple(self.teachers)
        object.__setattr__(self, "num_teachers", len(teachers))
        while teachers and not teachers[-1]:
            teachers = teachers[:-1]
        object.__setattr__(self, "teachers", teachers)

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
    """One term of the residual: its coefficient c_j, a number or a rule, and its pool π̃_j."""

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
        without_reference: the method that stands in when no reference is given (iw-sft with precomputed weights).
        hyperparameters: those it was made with, for a method of the catalogue.

    Attributes:
        key: its place in `LIVE`.

    Raises:
        ValueError: an unknown scope, a rule that looks further than the scope, or one that reads a statistic without a
            definition, or trust and scale before they are known.
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
        self._check_reads()
        self._check_scopes()

    def _check_reads(self) -> None:
        for statistic in self.reads:
            if not isinstance(statistic, Statistic) or statistic.definition is None:
                raise ValueError(f'method "{self.name}" reads {statistic!r}, {_no_statistic(statistic)}')
            _check_definition(statistic)
        for statistic in (s for number in self.numbers for s in reads(number)):
            if statistic.source == OF_METHOD:
                raise ValueError(
                    f'method "{self.name}": trust, scale and coefficients cannot read the statistic '
                    f'"{statistic.name}", which is what they come to; only Method(..., value=rule) can'
                )

    def _check_scopes(self) -> None:
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
        """For `copy`: the copy gets a key of its own. Pickling fails where rules hold local functions, as those of the
        catalogue do; send a method's name and hyperparameters instead, and make it again with `qtarget.method`.
        """
        return Method, tuple(getattr(self, f.name) for f in fields(self) if f.init)

    @cached_property
    def numbers(self) -> tuple[Number, ...]:
        """Everything that shapes the gradient: trust, scale and coefficients."""
        return (self.trust, self.scale, *(term.coefficient for term in self.residual))

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """The pools among the residual and in the statistics, the plain student excluded."""
        named = [s.of for s in self.reads if isinstance(s.of, Pool)]
        return tuple(dict.fromkeys(p for p in (*(t.pool for t in self.residual), *named) if not p.is_student))

    @cached_property
    def reads(self) -> tuple[Statistic, ...]:
        """Every statistic the gradient or the value reads."""
        numbers = (*self.numbers, *(() if self.value is None else (self.value,)))
        return tuple(dict.fromkeys(s for n in numbers for s in reads(n)))

    @cached_property
    def needs(self) -> frozenset[str]:
        """What the call must bring: among "teacher", "reference", "token_weight", "sequence_ids"."""
        return frozenset().union(*(s.needs for s in self.reads), _pool_sources(self.pools))

    @cached_property
    def label_only(self) -> frozenset[str]:
        """The sources of which only the label's log-probability is read."""
        whole = frozenset().union(*(s.needs for s in self.reads if not s.label_only), _pool_sources(self.pools))
        return frozenset({"teacher", "reference"} & self.needs) - whole

    @property
    def num_teachers(self) -> int:
        """How many teachers the method is set up for, those with an exponent of zero included."""
        pools = (*(term.pool for term in self.residual), *(s.of for s in self.reads if isinstance(s.of, Pool)))
        return max([self.num_teachers_read, *(part.num_teachers for pool in pools for part in pool.parts)])

    @property
    def num_teachers_read(self) -> int:
        """How many teachers a call must give: up to the last one that is read."""
        read = [int(s.source.split()[1]) + 1 for s in self.reads if s.needs == {"teacher"}]
        return max([0, *read, *(len(part.teachers) for pool in self.pools for part in pool.parts)])

    @property
    def weight_is_trust(self) -> bool:
        """Whether the method reads `token_weight` itself (cft); otherwise the weight multiplies the scale."""
        return "token_weight" in self.needs


LIVE: WeakValueDictionary[str, Method] = WeakValueDictionary()
"""Every method that somebody holds, by its key: what a compiled graph, which can only hold words, knows it by."""


def sources_of(pool: Pool) -> list[tuple[str, float]]:
    """The sources of a pool besides the student, with their exponents."""
    named = [("reference", pool.reference), *((f"teacher {i}", a) for i, a in enumerate(pool.teachers))]
    return [(name, exponent) for name, exponent in named if exponent]


def _pool_sources(pools: tuple[Pool, ...]) -> set[str]:
    """ "teacher", "reference" or both: what some pools read."""
    return {name.split()[0] for pool in pools for part in pool.parts for name, _ in sources_of(part)}


def _check_definition(statistic: Statistic) -> None:
    from qtarget.target.statistic_check import check_statistic  # imported here, since that module is above this one

    check_statistic(statistic)


def _no_statistic(given: Any) -> str:
    """Why a rule cannot read something, with the near miss among the statistics there are."""
    from qtarget.target.statistics import names  # imported here, since that module is above this one

    name = given.name if isinstance(given, Statistic) else str(given)
    return f"which has no definition; {suggestion(name, names())}. Write it as qtarget.statistics has it"


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
