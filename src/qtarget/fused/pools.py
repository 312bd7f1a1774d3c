"""A residual pool π̃ over one chunk of tokens, in the cheapest form that its sources allow, and how c·π̃ is subtracted
from the gradient p − Q.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from qtarget.target.evidence import Sparse
from qtarget.target.pool import FLOOR, Pool
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

    def replace_(self, gradient_CV: Tensor, coefficient_C: Tensor, keep_C: Tensor) -> None:
        """keep·p − coefficient·π̃ in place of p: the K tokens are written anew, as κ may be large and cancel there."""
        gradient_CV.mul_((keep_C - coefficient_C * self.log_kappa_C.exp())[:, None])
        inside_CK = keep_C[:, None] * self.student_CK - coefficient_C[:, None] * self.prob_CK
        self.axis.put_(gradient_CV, self.kept.ids, inside_CK)

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


PoolTerm = DenseTerm | UniformTerm | SparseTerm


class TargetShares(NamedTuple):
    """Q = trust·onehot + student·p + Σ pools[π̃]·π̃ for the tokens of a chunk, [C] each; student None for 0."""

    trust: Tensor
    student: Tensor | None
    pools: Mapping[Pool, Tensor]
