"""How much to believe the observed token: one small rule each, from named statistics to γ (or a scale), [T].

A rule is detached by construction: statistics carry no gradient. `p` below is the student's probability of the label.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qtarget.target.pool import Pool
from qtarget.target.rule import Rule
from qtarget.target.statistics import (
    COLLISION,
    ENTROPY,
    LOG_NOT_Y,
    LOGP_Y,
    REFERENCE_LOGP_Y,
    REFERENCE_MASS_BELOW,
    SEQUENCE_IDS,
    TOKEN_WEIGHT,
    VOCABULARY,
    head_share,
    mean_slope,
    teacher_entropy,
    top_k_entropy,
    top_k_mass,
)


def label_probability(power: float = 1.0) -> Rule:
    """p^power. 0 trusts every label; larger powers trust only what the student already believes."""
    return Rule(f"p_y^{power:g}", (LOGP_Y,), lambda logp_y: (power * logp_y).exp())


def label_above(threshold: float, strict: bool = True) -> Rule:
    """1 where p > threshold (or ≥, when not strict), else 0."""
    beyond = torch.gt if strict else torch.ge
    return Rule(f"1[p_y>{threshold:g}]", (LOGP_Y,), lambda logp_y: beyond(logp_y.exp(), threshold).to(logp_y.dtype))


def label_below(threshold: float) -> Rule:
    """1 where p ≤ threshold, else 0."""
    return Rule(f"1[p_y<={threshold:g}]", (LOGP_Y,), lambda logp_y: (logp_y.exp() <= threshold).to(logp_y.dtype))


def label_odds(weight_max: float) -> Rule:
    """p/(1−p), held at weight_max where the student is nearly certain."""

    def fn(logp_y: Tensor, log_not_y: Tensor) -> Tensor:
        return (logp_y - log_not_y).clamp(max=math.log(weight_max)).exp()

    return Rule("p_y/(1-p_y)", (LOGP_Y, LOG_NOT_Y), fn)


def uncertainty(top_k: int, power: float, normalizer: str | float | None) -> Rule:
    """(H_top-k / normalizer)^power; "log_k" divides by log k, None by nothing."""
    unit = math.log(top_k) if normalizer == "log_k" else 1.0 if normalizer is None else float(normalizer)
    return Rule(f"H_top{top_k}", (top_k_entropy(top_k),), lambda entropy: (entropy / unit) ** power)


def given_weight() -> Rule:
    """The token weight that came with the data, read as trust."""
    return Rule("token_weight", (TOKEN_WEIGHT,), lambda weight: weight)


def trajectory_ratio(temperature: float, clip_max: float) -> Rule:
    """min(exp(temperature · mean over the sequence of log p/r), clip_max), one number a sequence; r the reference."""

    def fn(logp_y: Tensor, logr_y: Tensor, sequence_ids: Tensor) -> Tensor:
        mean = spread_means(logp_y - logr_y, sequence_ids)
        return (temperature * mean).clamp(max=math.log(clip_max)).exp()

    return Rule("trajectory ratio", (LOGP_Y, REFERENCE_LOGP_Y, SEQUENCE_IDS), fn, scope="sequence")


def ratio_below(clip_high: float) -> Rule:
    """The ratio p/p_old, and 0 once it reaches 1 + clip_high."""

    def fn(logp_y: Tensor, logr_y: Tensor) -> Tensor:
        ratio = (logp_y - logr_y).exp()
        return torch.where(ratio < 1 + clip_high, ratio, 0.0)

    return Rule("clipped ratio", (LOGP_Y, REFERENCE_LOGP_Y), fn)


def label_probability_by_collision() -> Rule:
    """p^α with α = Σ p², the chance that two draws agree: sharp predictions are trusted like dft, flat ones like
    sft.
    """
    return Rule("p_y^Σp²", (LOGP_Y, COLLISION), lambda logp_y, collision: (collision * logp_y).exp())


def label_probability_by_surprise(beta: float, exponent_min: float, exponent_max: float) -> Rule:
    """p^g, g = clamp(exp(−(log p + H)/beta)): a label less likely than typical gets a larger exponent, less trust."""

    def fn(logp_y: Tensor, entropy: Tensor) -> Tensor:
        log_g = (-(logp_y + entropy) / beta).clamp(math.log(exponent_min), math.log(exponent_max))
        return (log_g.exp() * logp_y).exp()

    return Rule("p_y^g", (LOGP_Y, ENTROPY), fn)


def reference_probability() -> Rule:
    """The reference's probability of the label."""
    return Rule("r_y", (REFERENCE_LOGP_Y,), lambda logr_y: logr_y.exp())


def reference_mass(threshold: float) -> Rule:
    """1 where the tokens no likelier than the label, under the reference, hold at least `threshold` of its mass."""
    return Rule("1[R(r<=r_y)]", (REFERENCE_MASS_BELOW,), lambda mass: (mass >= threshold).to(mass.dtype))


def label_probability_by_difficulty(floor: float) -> Rule:
    """max(p^(1/τ), floor), τ the median over the batch's sequences of their mean −log p."""

    def fn(logp_y: Tensor, sequence_ids: Tensor) -> Tensor:
        if not logp_y.numel():
            return logp_y
        tau = sequence_means(-logp_y, sequence_ids).median().clamp(min=1e-8)
        return (logp_y / tau).exp().clamp(min=floor)

    return Rule("p_y^(1/τ)", (LOGP_Y, SEQUENCE_IDS), fn, scope="batch")


def focal_weight(focusing: float, detached: bool) -> Rule:
    """The gradient weight of −(1−p)^f log p: (1−p)^f − f p (1−p)^(f−1) log p; only its first part when detached."""

    def fn(logp_y: Tensor, log_not_y: Tensor) -> Tensor:
        weight = (focusing * log_not_y).exp()
        slope = 0.0 if detached else focusing * ((focusing - 1) * log_not_y + logp_y).exp() * logp_y
        return weight - slope

    return Rule("focal", (LOGP_Y, LOG_NOT_Y), fn)


def tilted_label(beta: float, mixed_label_probability: Rule) -> Rule:
    """The label's share of softmax(log r + β·onehot), beyond what r gives: (e^β − 1) r_y / (1 + (e^β − 1) r_y)."""
    gain = mixed_label_probability * math.expm1(beta)
    return 1.0 / (1.0 + 1.0 / gain)  # 0 and 1 come out right at gain 0 and inf


def mixed_with_uniform(smoothing: float, floor: float) -> tuple[Rule, Rule]:
    """((1−l) r_y + l/V with a floor under every token, renormalised; and the share of it that is uniform)."""

    def share(vocabulary: Tensor) -> Tensor:
        return (smoothing + floor * vocabulary) / (1 + floor * vocabulary)

    def label(logr_y: Tensor, vocabulary: Tensor) -> Tensor:
        uniform = share(vocabulary)
        return (1 - uniform) * logr_y.exp() + uniform / vocabulary

    return (
        Rule("r'_y", (REFERENCE_LOGP_Y, VOCABULARY), label),
        Rule("uniform share", (VOCABULARY,), share),
    )


def top_share(number: Rule, share: float) -> Rule:
    """1 for the ceil(share·T) tokens of the batch where `number` is largest, else 0.

    The product's rounding is taken off first: 7 of 100 tokens are a share of 0.07, though 0.07·100 > 7 in floats.
    """

    def fn(*statistics: Tensor) -> Tensor:
        values = number.fn(*statistics)
        chosen = values.topk(math.ceil(share * values.numel() - 1e-9)).indices
        return torch.zeros_like(values).scatter(0, chosen, 1.0)

    return Rule(f"top {share:g} by {number.name}", number.reads, fn, scope="batch")


def entropy() -> Rule:
    """The student's entropy; nats."""
    return Rule("H(p)", (ENTROPY,), lambda entropy: entropy)


def excess_loss() -> Rule:
    """log r_y − log p: how much worse the student does than the reference; nats."""
    return Rule("excess loss", (REFERENCE_LOGP_Y, LOGP_Y), lambda logr_y, logp_y: logr_y - logp_y)


def teacher_head_share(mass: float) -> Rule:
    """Of ``Σ |t − p|``, the share at the teacher's likeliest tokens, those that hold at most `mass`."""
    return Rule("head share", (head_share(mass),), lambda share: share)


def teacher_undecided(threshold: float) -> Rule:
    """1 where the teacher's entropy is above a threshold in nats, else 0."""
    return Rule("1[H(t)>…]", (teacher_entropy(),), lambda entropy: (entropy > threshold).to(entropy.dtype))


def top_mass_below(top_k: int, threshold: float) -> Rule:
    """1 where the student's top_k likeliest tokens hold less than a threshold, else 0."""
    return Rule(f"1[top{top_k}<{threshold:g}]", (top_k_mass(top_k),), lambda mass: (mass < threshold).to(mass.dtype))


def diversity_pull() -> Rule:
    """p(2p − 1): how (p − ½)² pulls, toward one half."""
    return Rule("p_y(2p_y-1)", (LOGP_Y,), lambda logp_y: logp_y.exp() * (2 * logp_y.exp() - 1))


LEAST_DISAGREEMENT = 1e-4
"""Where 1 − ⟨p, r⟩ is held."""


def disagreement(overlap: Pool) -> Rule:
    """1 − ⟨p, r⟩, from the pool that holds the slope of ⟨p, r⟩; at least 1e-4."""
    return Rule("1-<p,r>", (mean_slope(overlap),), lambda shared: (1 - shared).clamp(min=LEAST_DISAGREEMENT))


MOST_ODDS = 1e8
"""Where p/(1−p) is held for labels to move away from: log(1 − p) is exact that far, in single precision too.
Beyond, the pull on the label, odds·(1 − p), fades from 1 to 0."""


def toward_or_away() -> Rule:
    """1 where the token's weight is positive; −p/(1−p) where it is negative, which takes all of p off the label."""
    odds = label_odds(MOST_ODDS)
    return Rule(
        "1 or -p_y/(1-p_y)",
        (TOKEN_WEIGHT, *odds.reads),
        lambda weight, logp_y, log_not_y: torch.where(weight < 0, -odds.fn(logp_y, log_not_y), 1.0),
    )


def weight_size() -> Rule:
    """``|w|`` of the token weight that came with the data."""
    return Rule("|token_weight|", (TOKEN_WEIGHT,), torch.abs)


def sequence_means(values_T: Tensor, sequence_ids_T: Tensor) -> Tensor:
    """The mean of each sequence's tokens, in order of sequence id, [number of sequences]."""
    ids, place = sequence_ids_T.unique(return_inverse=True)
    total = values_T.new_zeros(len(ids)).index_add(0, place, values_T)
    return total / values_T.new_zeros(len(ids)).index_add(0, place, torch.ones_like(values_T))


def spread_means(values_T: Tensor, sequence_ids_T: Tensor) -> Tensor:
    """Each token's sequence mean, [T]."""
    _, place = sequence_ids_T.unique(return_inverse=True)
    return sequence_means(values_T, sequence_ids_T)[place]
