"""Log-linear pools: products of powers of the student, the reference and the teachers, normalised; and the slopes of
tangents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from qtarget.target.rule import Number

FLOOR = -1e30
"""Stands for log 0, so that 0·log 0 is 0 and never NaN."""


def rounding(dtype: torch.dtype) -> float:
    """How far apart two log-probabilities may lie that are the same but for rounding: 64 steps of a type at 1."""
    return 64 * torch.finfo(dtype).eps


Potential = Callable[[Tensor, Tensor, Tensor], Tensor]
"""φ(logp_TV, logp_y_T1, is_label_TV) -> [T, V], added to a pool's exponent. −inf removes a token from the pool."""


@dataclass(frozen=True)
class Pool:
    """π̃ ∝ exp(student·log p + reference·log r + Σ_i teachers[i]·log t_i + φ), over the tokens the student can produce.

    An exponent is a number, or a rule that gives each token its own and reads no pool. An exponent of zero reads
    nothing: Pool(1.0, teachers=(0.0,)) is the student itself, and needs no teacher, though `num_teachers` still counts
    it. All exponents zero is the uniform distribution. With `tangent` the term is
    π̃∘(ℓ − E_π̃ ℓ), where ℓ is the log-linear expression of the tangent pool's exponents: it sums to zero, and covers
    entropy penalties. A `Slope` in its place makes the term p∘(h − E_p h), the direction in which a divergence grows.

    Raises:
        ValueError: a slope on a pool that is not the student.
    """

    student: Number = 0.0
    reference: Number = 0.0
    teachers: tuple[Number, ...] = ()
    potential: Potential | None = None
    tangent: Pool | Slope | None = None
    num_teachers: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        teachers = tuple(self.teachers)
        object.__setattr__(self, "num_teachers", len(teachers))
        while teachers and not teachers[-1]:
            teachers = teachers[:-1]
        object.__setattr__(self, "teachers", teachers)
        if self.slope is not None and (self.student, self.reference, teachers, self.potential) != (1.0, 0.0, (), None):
            raise ValueError(
                f'the slope "{self.slope.name}" stands on {self}, and a slope is along the student alone; write '
                f"qtarget.residual.along(slope)"
            )

    @property
    def slope(self) -> Slope | None:
        """The tangent, where it is a slope."""
        return self.tangent if isinstance(self.tangent, Slope) else None

    @property
    def is_student(self) -> bool:
        """The student itself: such a term only changes how far p is pulled to the label, and needs no buffer."""
        return self == Pool(student=1.0)

    @property
    def is_uniform(self) -> bool:
        return self == Pool()

    @property
    def exponents(self) -> tuple[Number, ...]:
        """Of the student, the reference and the teachers, those of its tangent included."""
        return tuple(each for part in self.parts for each in (part.student, part.reference, *part.teachers))

    @property
    def parts(self) -> tuple[Pool, ...]:
        """The pools that the term is made of: itself, and what its tangent reads."""
        if self.tangent is None:
            return (self,)
        return self, self.tangent.toward if isinstance(self.tangent, Slope) else self.tangent

    @property
    def read(self) -> Pool:
        """The pool whose sources the term reads: of a slope, what the student is compared with."""
        return self if self.slope is None else self.slope.toward


class Entries(NamedTuple):
    """A divergence's part and slope at each token of the vocabulary, [..., V].

    Attributes:
        cost: what the token adds to the divergence; nats.
        pull: p·h, h the derivative of the divergence by p, up to a constant that is the same for all tokens.
    """

    cost: Tensor
    pull: Tensor


@dataclass(frozen=True)
class Slope:
    """h of a tangent p∘(h − E_p h): how a divergence from the student p to another distribution t changes with p.

    It is elementwise. What a slope would add at the label alone is trust: δ there is p_y·δ more of γ.

    Attributes:
        name: as messages call it.
        entries: ``(p, t, log t − log p, *constants)`` -> `Entries`, by torch operations. It returns p·h, since t/p
            overflows; where p and t are 0, both entries must be 0.
        toward: the pool that t is, over the tokens that the student can produce.
        constants: the hyperparameters of `entries`.
        of_ratio: whether cost and pull are p times functions of t/p alone, as those of f-divergences are. Then K kept
            tokens of a source and the mass of the rest are enough.
    """

    name: str
    entries: Callable[..., Entries]
    toward: Pool
    constants: tuple[float, ...] = ()
    of_ratio: bool = False

    def __call__(self, p: Tensor, t: Tensor, log_ratio: Tensor) -> Entries:
        return self.entries(p, t, log_ratio, *self.constants)


def sources_of(pool: Pool) -> list[tuple[str, Number]]:
    """The sources of a pool besides the student, with their exponents."""
    named = [("reference", pool.reference), *((f"teacher {i}", a) for i, a in enumerate(pool.teachers))]
    return [(name, exponent) for name, exponent in named if exponent]
