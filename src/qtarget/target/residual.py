"""Where the mass that the label does not get goes: one small rule each, giving a log-linear pool π̃."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qtarget.target.pool import Pool, Slope
from qtarget.target.rule import Number, Term
from qtarget.target.slopes import reverse


def rest(trust: Number, pool: Pool) -> tuple[Term, ...]:
    """All the mass that the label does not get goes to one pool."""
    return (Term(1.0 - trust, pool),)


def student(temperature: float = 1.0) -> Pool:
    """The student itself, or at temperature T: p^(1/T) renormalised."""
    return Pool(student=1 / temperature)


def uniform() -> Pool:
    """Every token alike."""
    return Pool()


def reference() -> Pool:
    """The reference model."""
    return Pool(reference=1.0)


def teacher(index: int = 0, temperature: float = 1.0) -> Pool:
    """One teacher, or at temperature T: t^(1/T) renormalised."""
    return Pool(teachers=(0.0,) * index + (1 / temperature,))


def per_teacher(share: Number | Sequence[Number]) -> tuple[Number, ...]:
    """One number per teacher, from one number or several."""
    return tuple(share) if isinstance(share, Sequence) else (share,)


def teachers(shares: Sequence[Number], temperature: float = 1.0) -> tuple[Term, ...]:
    """A weighted mean of several teachers, one term each; at temperature T, of each one's t^(1/T) renormalised."""
    return tuple(Term(share, teacher(i, temperature)) for i, share in enumerate(shares))


def guided(eta: Number | Sequence[Number], temperature: float = 1.0) -> Pool:
    """student^(1−η)·teacher^η: the distribution nearest to both, argmin (1−η)KL(π‖p) + ηKL(π‖t). η may be a rule.

    With several teachers η is a sequence, one exponent each, and the student's exponent is 1 − Σ η. At temperature T
    the teacher is t^(1/T) renormalised, so its exponent is η/T and the student's stays.
    """
    etas = per_teacher(eta)
    return Pool(student=1 - sum(etas[1:], etas[0]), teachers=tuple(each / temperature for each in etas))


def beyond_teacher(strength: float) -> Pool:
    """reference^(1−λ)·teacher^λ, λ the strength: beyond the teacher, seen from the reference, where λ > 1."""
    return Pool(reference=1 - strength, teachers=(strength,))


def soft_beaten(temperature: float, slope: float) -> Pool:
    """p^(1/T) weighted by sigmoid(slope·(z_k − z_y)): the mass on tokens the student prefers to the label."""

    def phi(logp_TV: Tensor, logp_y_T1: Tensor, is_label_TV: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(slope * (logp_TV - logp_y_T1))

    return Pool(student=1 / temperature, potential=phi)


def entropy_slope() -> Pool:
    """p∘(log p + H): the direction in which the student's entropy falls. A tangent: it sums to zero."""
    return Pool(student=1.0, tangent=Pool(student=1.0))


def along(slope: Slope) -> Pool:
    """p∘(h − E_p h): the direction in which the divergence of a slope grows. A tangent."""
    return Pool(student=1.0, tangent=slope)


def reverse_slope(index: int = 0) -> Pool:
    """p∘(h − E_p h), h = log p − log t: the direction in which KL(p‖teacher) grows. A tangent."""
    return along(reverse(teacher(index)))
