"""The microscope: the target that any differentiable loss induces, Q = p − ∂L/∂z."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def induced_target(loss_fn: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """The target any loss pulls a softmax to, read strictly (scale 1): Q = p − ∂L/∂z (arXiv 2606.11189).

    Args:
        loss_fn: logits [..., V] to per-token losses, or to a scalar taken as their sum (not their mean).
        logits: [..., V], floating point; double precision is worth it.

    Returns:
        Q, [..., V], detached. It sums to 1 for every loss that ignores a constant added to the logits.

    Raises:
        ValueError: the loss does not depend on the logits through autograd.

    >>> z, y = torch.randn(3, 5, dtype=torch.float64), torch.tensor([0, 4, 2])
    >>> q = induced_target(lambda z: torch.nn.functional.cross_entropy(z, y, reduction="none"), z)
    >>> torch.allclose(q, torch.nn.functional.one_hot(y, 5).double())
    True
    """
    with torch.enable_grad():
        leaf = logits.detach().clone().requires_grad_()
        loss = loss_fn(leaf)
        if not loss.requires_grad:
            raise ValueError(
                "loss_fn returned a value without a gradient to the logits; use its argument without .detach()"
            )
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return leaf.detach().softmax(-1) - gradient
