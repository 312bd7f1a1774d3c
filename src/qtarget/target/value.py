"""The loss a paper states, per token, in nats: what is logged and compared with other tools. It never moves the
gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qtarget.target.pool import Pool
from qtarget.target.rule import Rule
from qtarget.target.statistics import (
    COLLISION,
    LOG_NOT_Y,
    LOGP_Y,
    REFERENCE_LOGP_Y,
    TOKEN_WEIGHT,
    TRUST,
    cross,
    negentropy,
    slope_cost,
)
from qtarget.target.trust import disagreement


def nll() -> Rule:
    """−log p_y."""
    return Rule("nll", (LOGP_Y,), lambda logp_y: -logp_y)


def trusted_nll() -> Rule:
    """−γ log p_y."""
    return Rule("γ·nll", (TRUST, LOGP_Y), lambda trust, logp_y: -trust * logp_y)


def power_gap(alpha: float) -> Rule:
    """(1 − p_y^α)/α, and −log p_y at α = 0."""
    if alpha == 0:
        return nll()
    return Rule(f"(1-p^{alpha:g})/{alpha:g}", (LOGP_Y,), lambda logp_y: -torch.expm1(alpha * logp_y) / alpha)


def power_gap_by_collision() -> Rule:
    """(1 − p_y^α)/α with α = Σ p²."""
    return Rule("(1-p^α)/α", (LOGP_Y, COLLISION), lambda logp_y, alpha: -torch.expm1(alpha * logp_y) / alpha)


def log_not_label() -> Rule:
    """log(1 − p_y)."""
    return Rule("log(1-p)", (LOG_NOT_Y,), lambda log_not_y: log_not_y)


def log_disagreement(overlap: Pool) -> Rule:
    """log(1 − ⟨p, r⟩), from the pool that holds the slope of ⟨p, r⟩."""
    held = disagreement(overlap)
    return Rule("log(1-<p,r>)", held.reads, lambda shared: held.fn(shared).log())


def squared_from_half() -> Rule:
    """(p_y − ½)²."""
    return Rule("(p_y-1/2)²", (LOGP_Y,), lambda logp_y: (logp_y.exp() - 0.5).square())


def nll_or_unlikelihood() -> Rule:
    """−log p_y, and −log(1 − p_y) where the token's weight is negative."""
    return Rule(
        "nll or unlikelihood",
        (TOKEN_WEIGHT, LOGP_Y, LOG_NOT_Y),
        lambda weight, logp_y, log_not_y: -torch.where(weight < 0, log_not_y, logp_y),
    )


def focal_loss(focusing: float) -> Rule:
    """−(1 − p_y)^f log p_y."""
    return Rule("focal", (LOGP_Y, LOG_NOT_Y), lambda logp_y, log_not_y: -(focusing * log_not_y).exp() * logp_y)


def clipped_ratio_loss(clip_low: float, clip_high: float) -> Rule:
    """−min(ρ, clip(ρ, 1−low, 1+high)), ρ = p_y/r_y."""

    def fn(logp_y: Tensor, logr_y: Tensor) -> Tensor:
        ratio = (logp_y - logr_y).exp()
        return -torch.minimum(ratio, ratio.clamp(1 - clip_low, 1 + clip_high))

    return Rule("-min(ρ, clip ρ)", (LOGP_Y, REFERENCE_LOGP_Y), fn)


def cross_entropy(pool: Pool) -> Rule:
    """−E_π̃[log p]."""
    return Rule("CE", (cross(pool),), lambda expected: -expected)


def kl(pool: Pool) -> Rule:
    """KL(π̃‖p)."""
    return Rule("KL", (negentropy(pool), cross(pool)), lambda own, expected: own - expected)


def tempered_cross_entropy(teacher: Pool, student: Pool, temperature: float) -> Rule:
    """T²·CE(t^(T), p^(T)), written through the free energy of the tempered student."""

    def fn(towards: Tensor, own: Tensor, inward: Tensor) -> Tensor:
        log_partition = inward / temperature - own  # log Σ p^(1/T)
        return -(temperature**2) * (towards / temperature - log_partition)

    return Rule("T²·CE", (cross(teacher), negentropy(student), cross(student)), fn)


def less_likely_than(pool: Pool) -> Rule:
    """E_π̃[log p] − log p_y."""
    return Rule("E log p - log p_y", (cross(pool), LOGP_Y), lambda expected, logp_y: expected - logp_y)


def slope_loss(pool: Pool) -> Rule:
    """The divergence of a pool's slope."""
    return Rule("D", (slope_cost(pool),), lambda nats: nats)
