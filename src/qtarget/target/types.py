"""The nouns of target design, and the legend of shapes.

    Q = γ·onehot(y) + Σ_j c_j·π̃_j ,   γ + Σ_j c_j = 1        ∂L/∂z = s·(p − Q)

A `Method` states the trust γ, the residual terms (c_j, π̃_j) and the scale s. Each number is a `Rule`: a torch function
of named per-token `Statistic`s. Each π̃_j is a `Pool`: a log-linear pool of the student, the reference and the teachers.

Shapes: T supervised tokens, V vocabulary, K kept teacher tokens, H hidden width. All logarithms are natural (nats).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from torch import Tensor

from qtarget.target.hyperparameters import suggestion
from qtarget.target.pace import AdaptivePace
from qtarget.target.pool import FLOOR, Entries, Pool, Potential, Slope, sources_of
from qtarget.target.rule import (
    COLUMNS,
    OF_METHOD,
    SCOPES,
    STUDENT,
    Moment,
    Number,
    Rule,
    Scope,
    Statistic,
    Term,
    exponent_reads,
    reads,
    scope_of,
    value_of,
)
from qtarget.target.statistic_check import check_statistic
from qtarget.target.statistics import names

__all__ = [
    "COLUMNS",
    "FLOOR",
    "IGNORED",
    "LIVE",
    "OF_METHOD",
    "SCOPES",
    "STUDENT",
    "Entries",
    "LossOutput",
    "Method",
    "Moment",
    "Number",
    "Pool",
    "Potential",
    "Rule",
    "Scope",
    "Slope",
    "Statistic",
    "Target",
    "Term",
    "reads",
    "scope_of",
    "sources_of",
    "value_of",
]

IGNORED = -100
"""The label of a token that is not supervised, as transformers and torch have it."""

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
        use_when: when a practitioner would take it, in a sentence or two; "" where nothing is said.
        signed_weights: whether a negative `token_weight` means something to it, which reads it itself (unlikelihood).
        refresh_every: for a reference that is a snapshot of the student: optimizer steps between refreshes.
        without_reference: the method that stands in when no reference is given (iw-sft with precomputed weights).
        pace: how `progress` moves under a schedule that the loss itself drives (taid); None where steps alone do.
        hyperparameters: those it was made with, for a method of the catalogue.

    Attributes:
        key: its place in `LIVE`.

    Raises:
        ValueError: an unknown scope, a rule that looks further than the scope, or one that reads trust and scale before
            they are known or a statistic that is not what it says (`statistic_check.check_statistic`).
    """

    name: str
    trust: Number
    residual: tuple[Term, ...] = ()
    scale: Number = 1.0
    value: Rule | None = None
    scope: Scope = "token"
    source: str = ""
    use_when: str = ""
    signed_weights: bool = False
    refresh_every: int | None = None
    without_reference: Method | None = None
    pace: AdaptivePace | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "residual", tuple(Term(*term) for term in self.residual))
        object.__setattr__(self, "key", f"{self.name} {next(_NUMBERS)}")
        LIVE[self.key] = self
        self._check_reads()
        self._check_exponents()
        self._check_scopes()

    def _check_exponents(self) -> None:
        for rule in (e for pool in self.pools for e in pool.exponents if isinstance(e, Rule)):
            unfit = next((s for s in rule.reads if isinstance(s.of, Pool) or s.source == OF_METHOD), None)
            if unfit is not None:
                raise ValueError(
                    f'method "{self.name}": the exponent {rule.name} reads the statistic "{unfit}", which is known '
                    f"only when its pool is built; let it read the student, a teacher, the reference, progress or "
                    f"position, as in qtarget.residual.guided(qtarget.changing.ramp(0.2, 0.8))"
                )
            if rule.scope != "token":
                raise ValueError(
                    f'method "{self.name}": the exponent {rule.name} looks at a whole {rule.scope}, and an exponent '
                    f"is per token; let trust, scale or a coefficient look at more"
                )

    def _check_reads(self) -> None:
        for statistic in self.reads:
            if not isinstance(statistic, Statistic) or statistic.definition is None:
                raise ValueError(f'method "{self.name}" reads {statistic!r}, {_no_statistic(statistic)}')
            check_statistic(statistic)
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
        """Every statistic the gradient or the value reads, those of exponents last."""
        numbers = (*self.numbers, *(() if self.value is None else (self.value,)))
        named = [s for n in numbers for s in reads(n)]
        pools = (
            *(term.pool for term in self.residual),
            *(s.of for s in named if isinstance(getattr(s, "of", None), Pool)),
        )
        return tuple(dict.fromkeys((*named, *exponent_reads(pools))))

    @cached_property
    def needs(self) -> frozenset[str]:
        """What the call must bring: among "teacher", "reference" and `COLUMNS`."""
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


def _pool_sources(pools: tuple[Pool, ...]) -> set[str]:
    """ "teacher", "reference" or both: what some pools read."""
    return {name.split()[0] for pool in pools for part in pool.parts for name, _ in sources_of(part)}


def _no_statistic(given: Any) -> str:
    """Why a rule cannot read something, with the near miss among the statistics there are."""
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
