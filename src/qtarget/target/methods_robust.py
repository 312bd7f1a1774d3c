"""Losses for noisy labels, and for tokens to move away from. Notation and conventions are those of `methods.py`.

Generalised cross entropy (arXiv 1805.07836), (1 − p_y^q)/q, is beyond-log with alpha = q.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from qtarget.target import residual, slopes, trust, value
from qtarget.target.hyperparameters import Count, Within
from qtarget.target.methods_beyond import label_trust
from qtarget.target.rule import Term
from qtarget.target.types import Method


def symmetric_ce(
    alpha: Annotated[float, Within(0, 100, "weight of −log p_y")] = 0.1,
    beta: Annotated[float, Within(0, 100, "weight of the reverse cross entropy")] = 1.0,
    log_zero: Annotated[float, Within(-100, 0, "A, what stands for log 0")] = -4.0,
) -> Method:
    """Symmetric cross entropy: sft, with a share of dft that noisy labels move less.

    γ = α − βA·p_y, π̃ = p, loss −α log p_y − β Σ_v p_v log d_v, where log 0 is A: −α log p_y − βA (1 − p_y).
    Improper where γ > 1. Limits: alpha 1 with beta 0 is sft; alpha 0 with βA = −1 is dft.
    Checked against the official code, which clips d at 1e-4: with log_zero = log 1e-4 = −9.2 it is the same. It also
    clips p_y at 1e-7, below which −log p_y then teaches nothing. The defaults of alpha and beta are its own for
    CIFAR-10; what the paper gives for A was not read.
    """
    weight = -beta * log_zero
    p_y = trust.label_probability()
    return label_trust(
        "symmetric-ce",
        alpha + weight * p_y,
        "arXiv 1908.06112",
        value=alpha * value.nll() + weight * (1.0 - p_y),
        use_when="Labels are noisy and much is new to the student: as dft, with a floor of sft under every label.",
    )


def elr(weight: Annotated[float, Within(0, 100, "λ, weight of the regulariser")] = 3.0) -> Method:
    """Early-learning regularisation: sft that is held to what an average of the student believed before.

    Q = d + c·p∘(r − ⟨p,r⟩), c = λ/(1 − ⟨p,r⟩), loss −log p_y + λ log(1 − ⟨p,r⟩). Improper in general. Limits: weight 0
    is sft.
    The paper's r is a moving average of the student's own predictions of the row, here the reference: give one that
    averages the student. 1 − ⟨p,r⟩ is held at 1e-4. Checked against the official code, whose default for CIFAR-10 this
    is, and which holds p between 1e-4 and 1 − 1e-4 instead.
    """
    tangent = residual.along(slopes.overlap(residual.reference()))
    return Method(
        "elr",
        1.0,
        (Term(weight / trust.disagreement(tangent), tangent),) if weight else (),
        value=value.nll() + weight * value.log_disagreement(tangent) if weight else value.nll(),
        source="arXiv 2007.00151",
        use_when="Labels are noisy, and the student has them right on average before it learns the noise by heart.",
    )


def sed_sft(
    strength: Annotated[float, Within(0, 100, "s, weight of the diversity term")] = 0.2,
    top_k: Annotated[int, Count(1, "how many of the student's likeliest tokens are looked at")] = 10,
    threshold: Annotated[float, Within(0, 1, "mass of these from which on a token is decided")] = 0.95,
) -> Method:
    """SED-SFT: sft that does not push an undecided token's label beyond one half.

    γ = 1 − s·m·p_y(2p_y − 1), π̃ = p, loss −log p_y + s·m·(p_y − ½)², m = 1[top-k mass < threshold].
    Improper where p_y < ½. Limits: strength 0 is sft; threshold 0 is sft.
    The defaults are the code's functions'; its training script has s = 1 and a threshold from the data.
    """
    undecided = strength * trust.top_mass_below(top_k, threshold)
    return label_trust(
        "sed-sft",
        1.0 - undecided * trust.diversity_pull(),
        "arXiv 2602.07464",
        value=value.nll() + undecided * value.squared_from_half(),
        use_when="Reinforcement learning follows, and answers must stay various where the student sees several ways.",
    )


def unlikelihood() -> Method:
    """sft, and away from the label where its weight is negative.

    γ = 1 where w > 0 and −p_y/(1−p_y) where w < 0, π̃ = p, s = |w|, loss −w log p_y or w log(1 − p_y).
    Limits: weights of 1 are sft.
    At w < 0 the target is the student without the label, renormalised: γ = 0 and π̃ ∝ p without y, which is proper and
    exactly the gradient of −log(1 − p_y). Checked against the official code: a weight of −1 stands for a token that its
    sequence-level loss marks. Its token-level loss avoids the earlier tokens of the text at each place, beside the
    label; here a token has one weight. Every other method refuses negative weights, and so do rows of `qtarget train`,
    which therefore trains as under sft: they are given to the loss calls. Where p_y is beyond 1 − 1e-8, the odds
    are cut and the pull fades: a token that the student is that sure of is not unlearned. The code's token-level loss
    does not unlearn beyond 1 − 1e-5.
    """
    size = trust.weight_size()
    return label_trust(
        "unlikelihood",
        trust.toward_or_away(),
        "arXiv 1908.04319",
        scale=size,
        signed_weights=True,
        value=size * value.nll_or_unlikelihood(),
        use_when="In a loop of your own: a weight below 0 in the loss call marks a token to avoid. Rows hold none yet.",
    )


ROBUST: dict[str, Callable[..., Method]] = {
    "symmetric-ce": symmetric_ce,
    "elr": elr,
    "sed-sft": sed_sft,
    "unlikelihood": unlikelihood,
}
