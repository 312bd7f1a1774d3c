"""The Triton twins of `target/slopes.py`, in its order: cost and pull at each token of a block of the vocabulary.

p and t are the probabilities, x is log t − log p, and `share` the slope's constant. A slope whose entries are not here
is for torch.
"""

# pyright: reportGeneralTypeIssues=false
# What is below `jit` is Triton's language.

from __future__ import annotations

import triton
import triton.language as tl

from qtarget.target import slopes
from qtarget.target.pool import Slope

TWINS = {
    slopes.mixture_entries: 1,
    slopes.to_mixture_entries: 2,
    slopes.from_student_entries: 3,
    slopes.reverse_entries: 4,
    slopes.sigmoid_entries: 5,
    slopes.variation_entries: 6,
    slopes.overlap_entries: 7,
}
"""The number by which `twin_entries` knows each; 0 stands for no slope."""


def twin_of(slope: Slope) -> int | None:
    """A slope's number; None where it has no twin here."""
    return TWINS.get(slope.entries)


@triton.jit
def _softplus(y):
    return tl.maximum(y, 0.0) + tl.log(1 + tl.exp(-tl.abs(y)))


@triton.jit
def _sigmoid(y):
    near = tl.exp(-tl.abs(y))
    return tl.where(y < 0, near, 1.0) / (1 + near)


@triton.jit
def twin_entries(p, t, x, share, KIND: tl.constexpr):
    """(cost, pull) of a kind."""
    cost, pull = p, p
    if KIND <= 3:
        y = x + tl.log(share / (1 - share)) * (1.0 if KIND < 3 else -1.0)
        over = _softplus(y)
        if KIND == 1:
            pull = p * (over + tl.log(1 - share)) * (share - 1)
            cost = t * (y - over - tl.log(share)) * share + pull
        elif KIND == 2:
            cost, pull = t * (y - over - tl.log(share)), -t * _sigmoid(-y)
        else:
            cost = -p * (over + tl.log(share))
            pull = cost + p * _sigmoid(y)
    elif KIND == 4:
        cost = -p * x
        pull = cost
    elif KIND == 5:
        cost = (t - p) * x
        pull = _sigmoid(-x) * p * (1 - x) - _sigmoid(x) * t
    elif KIND == 6:
        cost = tl.abs(p - t) / 2
        side = tl.where(x < 0, 0.5, -0.5)
        pull = p * tl.where(tl.abs(x) <= 7.62939453125e-06, 0.0, side)  # `pool.rounding` of float32
    else:
        cost = p * t
        pull = cost
    return cost, pull
