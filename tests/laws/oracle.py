"""What the laws know of one paper, and the plain mathematics that several papers share.

The independent half of the laws: nothing here or in `papers.py`, `papers_beyond.py` and `closed_forms.py` comes from
the library. T supervised tokens, V vocabulary; logarithms are natural (nats).
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LN2, LN3 = math.log(2), math.log(3)
EVIDENCE = ("teacher", "reference", "token_weight", "sequence_ids", "progress")

Evidence = dict[str, Any]
Place = Callable[[Tensor, Evidence], tuple[Tensor, Evidence]]


class Row(NamedTuple):
    """One method with the hyperparameters it is checked under; those not named keep their defaults."""

    name: str
    hyperparameters: dict[str, Any]


@dataclass(frozen=True)
class Limit:
    """Under `settings` the method's gradient is `factor` times that of the method `other` under `other_settings`.

    Attributes:
        place: changes the drawn logits and evidence to where the limit holds; by default it holds everywhere.
        where: p_y [T] -> bool [T], the tokens at which it holds; by default at all.
        tolerance: relative and absolute.
    """

    settings: dict[str, Any]
    other: str
    other_settings: dict[str, Any] = field(default_factory=dict)
    place: Place | None = None
    where: Callable[[Tensor], Tensor] | None = None
    factor: float = 1.0
    tolerance: float = 1e-9


@dataclass(frozen=True)
class Paper:
    """All that the laws and the checks of the oracle know of one method: its row.

    Needed: the loss, one limit at least (sft and dft, which are what others turn into, have none), and, where the loss
    has hyperparameters, variations that move each of them off its default: a hyperparameter that no row varies is one
    that no law checks. Everything else may be left out, and then the check that reads it does not run on this method.

    Attributes:
        loss: the loss as the paper or its official code states it, logits [T, V] and labels [T] to nats [T], in plain
            torch under autograd: `.detach()` where the paper stops the gradient, differentiable where it does not. What
            it names among `teacher` (a tuple of logits [T, V]), `reference` (logits [T, V]), `token_weight` [T],
            `sequence_ids` (int [T]) and `progress` (a number) is what the method needs; what else it names are
            hyperparameters with the published defaults. All tokens given are supervised.
        limits: methods that this one turns into, written from the papers.
        variations: hyperparameters to check it under, besides the defaults.
        closed_form: the gradient worked out by hand, in numpy: (draw, **hyperparameters) -> [T, V], or [T] for the
            weight w of a gradient w·(p − onehot).
        worked_value: the loss at p = (1/2, 1/4, 1/4), y = 1, r = (1/2, 1/8, 3/8), t = (1/4, 1/2, 1/4), token weight 1,
            one sequence, progress 0, worked out by hand: there −log p_y = 2 ln 2 and H(p) = 3/2 ln 2.
        differentiable: whether no stop-gradient changes the derivative of the value, so that central differences of
            the value must give the gradient.  detached_by: hyperparameters that stop it after all.
        proper: whether at its defaults every entry of the target is at least 0.
        without_reference: the loss when no reference is given.
        without_effect: hyperparameters that the paper states and that never act.
        ours: hyperparameters of the library's method that are not the loss's (the trainer's, or how teachers mix).
    """

    loss: Callable[..., Tensor]
    limits: tuple[Limit, ...] = ()
    variations: tuple[dict[str, Any], ...] = ()
    closed_form: Callable[..., np.ndarray] | None = None
    worked_value: float | None = None
    differentiable: bool = False
    detached_by: tuple[str, ...] = ()
    proper: bool = False
    without_reference: Callable[..., Tensor] | None = None
    without_effect: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()

    def __call__(self, logits_TV: Tensor, labels_T: Tensor, **given: Any) -> Tensor:
        """The loss [T]. All kinds of evidence may be given; the loss gets those that it names."""
        needed = {key: value for key, value in given.items() if key not in EVIDENCE or key in self.needs}
        return self.loss(logits_TV, labels_T, **needed)

    @property
    def needs(self) -> frozenset[str]:
        """The evidence that the loss names."""
        return frozenset(EVIDENCE) & inspect.signature(self.loss).parameters.keys()

    @property
    def defaults(self) -> dict[str, Any]:
        """The loss's hyperparameters, as published."""
        parameters = list(inspect.signature(self.loss).parameters.values())[2:]
        return {p.name: p.default for p in parameters if p.name not in EVIDENCE}


def reference_is_student(logits_TV: Tensor, evidence: Evidence) -> tuple[Tensor, Evidence]:
    """The place p = r."""
    return logits_TV, {**evidence, "reference": logits_TV}


def every_token_weighs_one(logits_TV: Tensor, evidence: Evidence) -> tuple[Tensor, Evidence]:
    """The place where the data's token weight is 1 everywhere."""
    return logits_TV, {**evidence, "token_weight": torch.ones_like(logits_TV[:, 0])}


def student_is_sharp(logits_TV: Tensor, evidence: Evidence) -> tuple[Tensor, Evidence]:
    """The place where the student is all but one-hot."""
    return 40 * logits_TV, evidence


def log_p_of(logits_TV: Tensor, labels_T: Tensor) -> Tensor:
    """log p_y, [T]."""
    return logits_TV.log_softmax(-1).gather(-1, labels_T.unsqueeze(-1)).squeeze(-1)


def cross_entropy(target_TV: Tensor, logits_TV: Tensor) -> Tensor:
    """CE(target, p) = -Σ_k target_k log p_k, [T]."""
    return -(target_TV * logits_TV.log_softmax(-1)).sum(-1)


def forward_kl(source_logits_TV: Tensor, logits_TV: Tensor) -> Tensor:
    """KL(source ‖ p), [T]."""
    source_TV = source_logits_TV.softmax(-1).detach()
    return F.kl_div(logits_TV.log_softmax(-1), source_TV, reduction="none").sum(-1)


def entropy_of(logits_TV: Tensor) -> Tensor:
    """H(p) in nats, [T]."""
    return cross_entropy(logits_TV.softmax(-1), logits_TV)


def sequence_means(values_T: Tensor, sequence_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each sequence [S], and every token's sequence as an index into it [T]."""
    ids_S, index_T = sequence_ids.unique(return_inverse=True)
    return torch.stack([values_T[index_T == s].mean() for s in range(len(ids_S))]), index_T


def top_share(score_T: Tensor, share: float) -> Tensor:
    """1 at the ceil(share · T) tokens of the highest score, at least one of them, else 0, [T]."""
    kept = max(1, math.ceil(Fraction(str(share)) * len(score_T)))
    return torch.zeros_like(score_T).scatter(0, score_T.topk(kept).indices, 1.0)
