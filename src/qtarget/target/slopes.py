"""The slopes of divergences between the student p and another distribution t: a closed set, each with a Triton twin.

For D = Σ p·f(t/p) the gradient to the logits is the tangent p∘(h − E_p h) with h = f(u) − u·f'(u), u = t/p. So are
those of losses that weigh each token of the vocabulary by a function of t/p held constant. Everything is written in
x = log t − log p, of which softplus and sigmoid are exact however far t and p are apart. The twins are in
`fused/triton/slope_twins.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from qtarget.target.pool import Entries, Pool, Slope, rounding

EXACT_FROM = 40.0
"""From here on softplus(y) is y, to the last digit of a double."""


def mixture_entries(p: Tensor, t: Tensor, x: Tensor, beta: float) -> Entries:
    """β KL(t‖m) + (1−β) KL(p‖m), m = βt + (1−β)p; 0 < β < 1."""
    y = x + _logit(beta)
    over_p = softplus(y, threshold=EXACT_FROM)  # log m − log p − log(1−β)
    pull = (p * (math.log1p(-beta) * (beta - 1))).addcmul_(over_p, p, value=beta - 1)
    to_mixture = y.sub_(over_p).sub_(math.log(beta))  # log t − log m; in place, so that a block stays in cache
    return Entries(torch.addcmul(pull, to_mixture, t, value=beta), pull)


def to_mixture_entries(p: Tensor, t: Tensor, x: Tensor, alpha: float) -> Entries:
    """KL(t‖m), m = αt + (1−α)p; 0 < α < 1."""
    y = x + _logit(alpha)
    over_p = softplus(y, threshold=EXACT_FROM)
    cost = y.sub_(over_p).sub_(math.log(alpha)).mul_(t)
    return Entries(cost, over_p.neg_().exp_().mul_(t).neg_())  # exp(−softplus(y)) = σ(−y)


def from_student_entries(p: Tensor, t: Tensor, x: Tensor, alpha: float) -> Entries:
    """KL(p‖m), m = αp + (1−α)t; 0 < α < 1."""
    y = x - _logit(alpha)
    cost = softplus(y, threshold=EXACT_FROM).add_(math.log(alpha)).mul_(p).neg_()
    return Entries(cost, y.sigmoid_().mul_(p).add_(cost))


def reverse_entries(p: Tensor, t: Tensor, x: Tensor) -> Entries:
    """KL(p‖t)."""
    cost = -p * x
    return Entries(cost, cost)


def sigmoid_entries(p: Tensor, t: Tensor, x: Tensor) -> Entries:
    """Σ α t x − (1−α) p x, α = σ(x) held constant. The value is Σ (t − p) x."""
    toward = torch.sigmoid(x)
    pull = (1 - toward).mul_(p).mul_(1 - x).sub_(toward.mul_(t))
    return Entries((t - p).mul_(x), pull)


def variation_entries(p: Tensor, t: Tensor, x: Tensor) -> Entries:
    """½ Σ ``|p − t|``. A token at which t and p differ by rounding alone pulls nowhere.

    There the slope has no value: any from −½ to ½ is a subgradient, and 0 lies between. The sign of the rounding noise
    would pull with all of p's mass, and each way of computing log t − log p has noise of its own.
    """
    side = torch.nn.functional.hardshrink(x, rounding(x.dtype)).sign_()
    return Entries((p - t).abs() / 2, side.mul_(p).div_(-2))


def overlap_entries(p: Tensor, t: Tensor, x: Tensor) -> Entries:
    """⟨p, t⟩."""
    cost = p * t
    return Entries(cost, cost)


def _logit(share: float) -> float:
    return math.log(share) - math.log1p(-share)


# ---- the closed set


def jensen_shannon(toward: Pool, beta: float) -> Slope:
    """β KL(t‖m) + (1−β) KL(p‖m), m = βt + (1−β)p, for 0 < β < 1."""
    return Slope(f"jensen-shannon {beta:g}", mixture_entries, toward, (beta,), of_ratio=True)


def skew_forward(toward: Pool, alpha: float) -> Slope:
    """KL(t‖αt + (1−α)p), for 0 < α < 1."""
    return Slope(f"skew forward {alpha:g}", to_mixture_entries, toward, (alpha,), of_ratio=True)


def skew_reverse(toward: Pool, alpha: float) -> Slope:
    """KL(p‖αp + (1−α)t), for 0 < α < 1."""
    return Slope(f"skew reverse {alpha:g}", from_student_entries, toward, (alpha,), of_ratio=True)


def reverse(toward: Pool) -> Slope:
    """KL(p‖t)."""
    return Slope("reverse", reverse_entries, toward, of_ratio=True)


def sigmoid_mixed(toward: Pool) -> Slope:
    """Forward KL where t is above p and reverse KL where it is below, mixed by σ(log t/p)."""
    return Slope("sigmoid mixed", sigmoid_entries, toward, of_ratio=True)


def variation(toward: Pool) -> Slope:
    """½ Σ ``|p − t|``."""
    return Slope("total variation", variation_entries, toward, of_ratio=True)


def overlap(toward: Pool) -> Slope:
    """⟨p, t⟩."""
    return Slope("overlap", overlap_entries, toward)
