"""Log-linear pools: products of powers of the student, the reference and the teachers, normalised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from qtarget.target.rule import Number

FLOOR = -1e30
"""Stands for log 0, so that 0·log 0 is 0 and never NaN."""

Potential = Callable[[Tensor, Tensor, Tensor], Tensor]
"""φ(logp_TV, logp_y_T1, is_label_TV) -> [T, V], added to a pool's exponent. −inf removes a token from the pool."""


@dataclass(frozen=True)
class Pool:
    """π̃ ∝ exp(student·log p + reference·log r + Σ_i teachers[i]·log t_i + φ), over the tokens the student can produce.

    An exponent is a number, or a rule that gives each token its own and reads no pool. An exponent of zero reads
    nothing: Pool(1.0, teachers=(0.0,)) is the student itself, and needs no teacher, though `num_teachers` still counts
    it. All exponents zero is the uniform distribution. With `tangent` the term is
    π̃∘(ℓ − E_π̃ ℓ), where ℓ is the log-linear expression of the tangent pool's exponents: it sums to zero, and covers
    entropy penalties and reverse divergences.
    """

    student: Number = 0.0
    reference: Number = 0.0
    teachers: tuple[Number, ...] = ()
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
    def exponents(self) -> tuple[Number, ...]:
        """Of the student, the reference and the teachers, those of its tangent included."""
        return tuple(each for part in self.parts for each in (part.student, part.reference, *part.teachers))

    @property
    def parts(self) -> tuple[Pool, ...]:
        return (self,) if self.tangent is None else (self, self.tangent)


def sources_of(pool: Pool) -> list[tuple[str, Number]]:
    """The sources of a pool besides the student, with their exponents."""
    named = [("reference", pool.reference), *((f"teacher {i}", a) for i, a in enumerate(pool.teachers))]
    return [(name, exponent) for name, exponent in named if exponent]
