"""A residual term over one chunk of tokens, π̃ or a tangent, in the cheapest form that its sources allow, and how it is
subtracted from the gradient p − Q.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from qtarget.target.evidence import Sparse
from qtarget.target.pool import FLOOR, Pool, Slope
from qtarget.target.vocabulary import Axis


@dataclass
class DenseTerm:
    """A pool whose probabilities are all held, [C, V]."""

    prob_CV: Tensor

    def subtract_(self, gradient_CV: Tensor, coefficient_C: Tensor) -> None:
        gradient_CV.addcmul_(self.prob_CV, coefficient_C[:, None], value=-1)


@dataclass
class UniformTerm:
    """The uniform pool: 1/count on each token that the student can produce. `outside_CV` marks the others; None where
    there are none.
    """

    count_C: Tensor
    outside_CV: Tensor | None

    def subtract_(self, gradient_CV: Tensor, coefficient_C: Tensor) -> None:
        gradient_CV.sub_((coefficient_C / self.count_C)[:, None])
        if self.outside_CV is not None:
            gradient_CV.masked_fill_(self.outside_CV, 0.0)


@dataclass
class SlopeTerm:
    """The tangent p∘(h − E_p h) of a slope: p·h, [C, V], and its sum E_p h; p times that goes with the student."""

    pull_CV: Tensor
    mean_C: Tensor

    def subtract_(self, gradient_CV: Tensor, coefficient_C: Tensor) -> None:
        gradient_CV.addcmul_(self.pull_CV, coefficient_C[:, None], value=-1)


@dataclass
class SparseTerm:
    """π̃ with values of its own on K tokens and κ·p on the rest: nothing of size V but the student itself."""

    kept: Sparse
    axis: Axis
    prob_CK: Tensor
    log_kappa_C: Tensor
    student_CK: Tensor
    rest_C: Tensor

    @staticmethod
    def build(exponent: Tensor | float, kept: Sparse, student_CK: Tensor, rest_C: Tensor, axis: Axis) -> SparseTerm:
        """p^(1−η)·t^η, where t = tail·p/p_tail outside the K: there it is p·(tail/p_tail)^η, up to the norm.

        Args:
            exponent: η, of the distribution as it was kept; one number, or one for each token, [C].
        """
        log_rest_C = rest_C.clamp(min=torch.finfo(rest_C.dtype).tiny).log()
        log_student_CK = student_CK.log().clamp(min=FLOOR)
        power = exponent[:, None] if isinstance(exponent, Tensor) else exponent
        log_kept_CK = (1 - power) * log_student_CK + power * kept.logprobs.to(rest_C.dtype).clamp(min=FLOOR)
        log_kept_CK = log_kept_CK.clamp(min=FLOOR).masked_fill(student_CK == 0, FLOOR)
        log_kappa_C = (exponent * (kept.log_tail.to(rest_C.dtype).clamp(min=FLOOR) - log_rest_C)).clamp(min=FLOOR)
        log_kappa_C = log_kappa_C.masked_fill(rest_C == 0, FLOOR)  # no token is left to bear the tail
        log_norm_C = torch.cat([log_kept_CK, (log_kappa_C + log_rest_C)[:, None]], 1).logsumexp(1)
        prob_CK = (log_kept_CK - log_norm_C[:, None]).exp()
        return SparseTerm(kept, axis, prob_CK, log_kappa_C - log_norm_C, student_CK, rest_C)

    @property
    def inside_CK(self) -> Tensor:
        return self.prob_CK

    @property
    def outside_C(self) -> Tensor:
        return self.log_kappa_C.exp()

    def cross(self, entropy_C: Tensor) -> Tensor:
        """E_π̃[log p], from the student's entropy."""
        inside_C = (self.prob_CK * self._log_student_CK).sum(-1)
        return inside_C + self.log_kappa_C.exp() * self._rest_log_student(entropy_C)

    def negentropy(self, entropy_C: Tensor) -> Tensor:
        """E_π̃[log π̃], from the student's entropy."""
        inside_C = torch.xlogy(self.prob_CK, self.prob_CK).sum(-1)
        outside_C = self.log_kappa_C.clamp(min=-80) * self.rest_C + self._rest_log_student(entropy_C)
        return inside_C + self.log_kappa_C.exp() * outside_C

    def label_logp(self, labels_C: Tensor, logp_y_C: Tensor) -> Tensor:
        """log π̃_y."""
        is_label_CK = self.kept.ids == labels_C[:, None]
        inside_C = (self.prob_CK * is_label_CK).sum(-1).log().clamp(min=FLOOR)
        outside_C = (self.log_kappa_C + logp_y_C).clamp(min=FLOOR)
        return torch.where(is_label_CK.any(-1), inside_C, outside_C)

    @property
    def _log_student_CK(self) -> Tensor:
        return self.student_CK.log().clamp(min=FLOOR)

    def _rest_log_student(self, entropy_C: Tensor) -> Tensor:
        """Σ p log p outside the K."""
        return -entropy_C - torch.xlogy(self.student_CK, self.student_CK).sum(-1)


@dataclass
class SparseSlopeTerm:
    """The tangent of a slope of t/p alone, from K tokens of t and a student-shaped tail: there t/p is one number, so
    the rest of the vocabulary is one token more, and the tangent there a number times p.
    """

    kept: Sparse
    axis: Axis
    inside_CK: Tensor
    outside_C: Tensor
    student_CK: Tensor
    divergence_C: Tensor
    mean_C: Tensor

    @staticmethod
    def build(slope: Slope, toward: SparseTerm) -> SparseSlopeTerm:
        """toward: t itself, as a pool."""
        rest_C1, log_kappa_C1 = toward.rest_C[:, None], toward.log_kappa_C[:, None]
        log_ratio_CK = toward.prob_CK.log().clamp(min=FLOOR) - toward.student_CK.log().clamp(min=FLOOR)
        p = torch.cat([toward.student_CK, rest_C1], 1)
        t = torch.cat([toward.prob_CK, rest_C1 * log_kappa_C1.exp()], 1)
        cost, pull = slope(p, t, torch.cat([log_ratio_CK, log_kappa_C1.where(rest_C1 > 0, 0.0)], 1))
        mean_C = pull.sum(-1)
        outside_C = pull[:, -1] / toward.rest_C.clamp(min=torch.finfo(p.dtype).tiny) - mean_C
        inside_CK = pull[:, :-1] - mean_C[:, None] * toward.student_CK
        return SparseSlopeTerm(toward.kept, toward.axis, inside_CK, outside_C, toward.student_CK, cost.sum(-1), mean_C)

    def at_label(self, labels_C: Tensor, logp_y_C: Tensor) -> Tensor:
        """The tangent's entry at the label, [C]."""
        is_label_CK = self.kept.ids == labels_C[:, None]
        inside_C = (self.inside_CK * is_label_CK).sum(-1)
        return torch.where(is_label_CK.any(-1), inside_C, self.outside_C * logp_y_C.exp())


KeptTerm = SparseTerm | SparseSlopeTerm
"""`inside_CK` on the K kept tokens, and `outside_C` times p on the others."""


def replace_kept_(gradient_CV: Tensor, terms: Sequence[tuple[KeptTerm, Tensor]], keep_C: Tensor) -> None:
    """keep·p − Σ coefficient·term in place of p, for terms of the same kept tokens: these are written anew, as what is
    outside may be large and cancel there.
    """
    first, inside_CK = terms[0][0], keep_C[:, None] * terms[0][0].student_CK
    for term, coefficient_C in terms:
        keep_C = keep_C - coefficient_C * term.outside_C
        inside_CK = inside_CK - coefficient_C[:, None] * term.inside_CK
    gradient_CV.mul_(keep_C[:, None])
    first.axis.put_(gradient_CV, first.kept.ids, inside_CK)


PoolTerm = DenseTerm | UniformTerm | SlopeTerm | KeptTerm


class TargetShares(NamedTuple):
    """Q = trust·onehot + student·p + Σ pools[π̃]·π̃ for the tokens of a chunk, [C] each; student None for 0."""

    trust: Tensor
    student: Tensor | None
    pools: Mapping[Pool, Tensor]
