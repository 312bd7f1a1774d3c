"""Numbers per token: statistics, which are measured, and rules, which are functions of them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, NamedTuple

from torch import Tensor

from qtarget.target.hyperparameters import suggestion
from qtarget.target.pool import Pool

Scope = Literal["token", "sequence", "batch"]
SCOPES: tuple[Scope, ...] = ("token", "sequence", "batch")


class Moment(Enum):
    """What both engines of the fused loss measure of a distribution q in one pass over its logits, a number per token.

    Label is the observed token y, student the distribution p. Sums run over the tokens that the student can produce.
    """

    LABEL_LOGP = "log q_y"
    LABEL_PROBABILITY = "q_y"
    LOG_NOT_LABEL = "log(1 − q_y)"
    LABEL_IS_TOP = "1 where y is the likeliest token, else 0"
    ENTROPY = "−E_q[log q]"
    NEGENTROPY = "E_q[log q]"
    CROSS = "E_q[log p]"
    COLLISION = "Σ q²"
    TOP_ENTROPY = "entropy of the k likeliest tokens, renormalised"
    TOP_MASS = "mass of the k likeliest tokens"
    SUPPORT = "how many tokens the student can produce"
    COST = "the divergence of a slope"
    MEAN_SLOPE = "E_p[h] of a slope"


STUDENT, OF_METHOD = "student", "method"
COLUMNS = ("token_weight", "sequence_ids", "progress", "position")


@dataclass(frozen=True)
class Statistic:
    """A number per supervised token, with all that is known of it. `qtarget.statistics` holds those there are.

    Attributes:
        name: as error messages call it.
        of: its argument: a `Pool`, a teacher's index or a count k.
        definition: (frame, of) -> [T], from whole distributions; `frame` is a `qtarget.frame.Frame`.
        source: what it reads besides the student: "reference", "teacher 0", "teacher 1", …, or one of `COLUMNS`.
            "method": what trust and scale come to, for `Method.value` alone.
        label_only: the source's log-probability of the label is enough.
        moment: its fast twin: the moment that it is of its pool or source. None: the fused loss measures the
            definition, chunk by chunk.
        whole_only: K kept tokens of the source do not determine it.
    """

    name: str
    of: Any = None
    definition: Callable[[Any, Any], Tensor] | None = field(default=None, repr=False)
    source: str = field(default=STUDENT, compare=False, repr=False)
    label_only: bool = field(default=False, compare=False, repr=False)
    moment: Moment | None = field(default=None, compare=False, repr=False)
    whole_only: bool = field(default=False, compare=False, repr=False)

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
        if self.moment in (Moment.TOP_ENTROPY, Moment.TOP_MASS, Moment.SUPPORT) and not of_student:
            raise ValueError(f'statistic "{self.name}": {self.moment} is the student\'s alone; leave moment out')
        of_slope = isinstance(self.of, Pool) and self.of.slope is not None
        if self.moment in (Moment.COST, Moment.MEAN_SLOPE) and not of_slope:
            raise ValueError(f'statistic "{self.name}": {self.moment} is of a slope alone; leave moment out')

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
    batch's. A rule that is a sum of multiples of others knows them (`affine`), so that what adds up to 1 is known to.
    """

    name: str
    reads: tuple[Statistic, ...]
    fn: Callable[..., Tensor]
    scope: Scope = "token"
    terms: Affine | None = field(default=None, compare=False, repr=False)

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


class Affine(NamedTuple):
    """constant + Σ share·rule.

    Attributes:
        shares: by rule, none of them 0.
    """

    constant: float
    shares: Mapping[Rule, float]

    def plus(self, other: Affine, times: float = 1.0) -> Affine:
        """Itself and a multiple of another; what cancels to rounding is left out."""
        rules = {**self.shares, **other.shares}
        shares = {rule: self.shares.get(rule, 0.0) + times * other.shares.get(rule, 0.0) for rule in rules}
        kept = {rule: share for rule, share in shares.items() if abs(share) > 1e-9}
        return Affine(self.constant + times * other.constant, kept)


def affine(number: Number) -> Affine:
    """A number as a constant and multiples of rules that are no sums themselves."""
    if not isinstance(number, Rule):
        return Affine(float(number), {})
    return number.terms or Affine(0.0, {number: 1.0})


def reads(number: Number) -> tuple[Statistic, ...]:
    """The statistics a rule reads; none for a constant."""
    return number.reads if isinstance(number, Rule) else ()


def scope_of(*numbers: Number) -> Scope:
    """The widest scope among rules; constants are token-wide."""
    widest = max((SCOPES.index(n.scope) for n in numbers if isinstance(n, Rule)), default=0)
    return SCOPES[widest]


def exponent_reads(pools: Iterable[Pool]) -> tuple[Statistic, ...]:
    """The statistics that the exponents of some pools read: what must be measured before these can be built."""
    return tuple(dict.fromkeys(s for pool in pools for exponent in pool.exponents for s in reads(exponent)))


def value_of(number: Number, statistics: Mapping[Statistic, Tensor]) -> Tensor | float:
    """A rule's value per token, or the constant itself."""
    return number(statistics) if isinstance(number, Rule) else number


def column_of(number: Number, statistics: Mapping[Statistic, Tensor]) -> Tensor | float:
    """The same as a factor of whole distributions, [T, 1] or a number."""
    value = value_of(number, statistics)
    return value[:, None] if isinstance(value, Tensor) and value.dim() else value


def _combine(symbol: str, op: Callable[[Any, Any], Any], left: Number, right: Number) -> Rule:
    split = len(reads(left))

    def fn(*values: Tensor) -> Tensor:
        a = left.fn(*values[:split]) if isinstance(left, Rule) else left
        b = right.fn(*values[split:]) if isinstance(right, Rule) else right
        return op(a, b)

    name = f"({_named(left)} {symbol} {_named(right)})"
    terms = _affine_terms(symbol, left, right)
    return Rule(name, (*reads(left), *reads(right)), fn, scope_of(left, right), terms)


def _affine_terms(symbol: str, left: Number, right: Number) -> Affine | None:
    """What arithmetic on affine numbers gives; None where it is none."""
    nothing = Affine(0.0, {})
    if symbol in "+-":
        return affine(left).plus(affine(right), 1.0 if symbol == "+" else -1.0)
    if symbol == "*" and not isinstance(left, Rule):
        return nothing.plus(affine(right), float(left))
    if not isinstance(right, Rule) and right:
        return nothing.plus(affine(left), float(right) if symbol == "*" else 1 / right)
    return None


def _named(number: Number) -> str:
    return number.name if isinstance(number, Rule) else f"{number:g}"


class Term(NamedTuple):
    """One term of the residual: its coefficient c_j, a number or a rule, and its pool π̃_j."""

    coefficient: Number
    pool: Pool
