"""The methods beyond the paper's table, and `label_trust`, the form that most methods have.

Notation and conventions are those of `methods.py`, whose METHODS takes in BEYOND below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from qtarget.target import residual, trust, value
from qtarget.target.hyperparameters import HyperparameterError, KeyValue, OneOf, Within
from qtarget.target.residual import rest
from qtarget.target.rule import Number, Term, scope_of
from qtarget.target.types import Method


def label_trust(name: str, gamma: Number, source: str, **others: Any) -> Method:
    """γ on the label and the rest to the student: Q = γ·d + (1−γ)·p. Only the step per token differs from sft's.

    Args:
        others: further arguments of `Method`. The value is −γ log p_y and the scope γ's unless given here.
    """
    stated = {"value": value.trusted_nll(), "scope": scope_of(gamma), **others}
    return Method(name, gamma, rest(gamma, residual.student()), source=source, **stated)


def gift(
    beta: Annotated[float, Within(0, 80, "logit added to the label")] = 20.0,
    smoothing: Annotated[float, Within(0, 1, "share of uniform mixed into the reference")] = 0.0,
    floor: Annotated[float, Within(0, 1, "probability added to every token of the reference")] = 0.0,
) -> Method:
    """GIFT: the reference with the label's logit raised.

    Q = softmax(log r' + β·d), r' = (1−l) r + l/V: γ = (e^β−1) r'_y / (1 + (e^β−1) r'_y), π̃ = r', loss CE(Q, p).
    Proper always. Limits: beta → ∞ is sft; beta 0 is kd from the reference.
    The official code adds floor=1e-10 inside the logarithm, which at beta 20 caps γ near 0.046 for labels the
    reference rules out.
    """
    label, uniform_share = trust.mixed_with_uniform(smoothing, floor)
    gamma = trust.tilted_label(beta, label)
    terms = rest(gamma, residual.reference())
    if smoothing or floor:
        left = 1.0 - gamma
        terms = (
            Term(left * (1.0 - uniform_share), residual.reference()),
            Term(left * uniform_share, residual.uniform()),
        )
    return Method(
        "gift",
        gamma,
        terms,
        source="arXiv 2601.09233",
        use_when=(
            "Reinforcement learning follows, and the model shall stay near the one you began with, with its "
            "labels raised."
        ),
    )


def deft() -> Method:
    """DEFT: beyond-log with the power read off the student's own sharpness.

    α = sg[Σ_v p_v²]; γ = p_y^α, π̃ = p, loss (1 − p_y^α)/α. Limits: a one-hot student is dft, a flat one sft.
    The official code divides by α + 1e-6, which changes nothing that matters.
    """
    return label_trust(
        "deft",
        trust.label_probability_by_collision(),
        "arXiv 2602.11424",
        value=value.power_gap_by_collision(),
        use_when="As dft, without a power to choose: the student's own sharpness sets it at each token.",
    )


def idft(
    beta: Annotated[float, Within(0, 100, "temperature of the exponent", open_low=True)] = 1.0,
    exponent_min: Annotated[float, Within(0, 10, "smallest exponent", open_low=True)] = 0.1,
    exponent_max: Annotated[float, Within(0, 10, "largest exponent", open_low=True)] = 2.0,
) -> Method:
    """IDFT: dft whose exponent grows for labels more surprising than the student's entropy.

    g = clamp(exp(−(log p_y + H)/β), min, max); γ = p_y^g, π̃ = p, loss −sg[p_y^g] log p_y.
    Limits: both exponents 1 is dft. The official code's warm-up blend and its floor of 1e-10 under p are left out.
    """
    if exponent_min > exponent_max:
        raise HyperparameterError(
            'method "idft": ', KeyValue("exponent_min", exponent_min), " is above ",
            KeyValue("exponent_max", exponent_max), "; write ", KeyValue("exponent_max", exponent_min),
        )  # fmt: skip
    return label_trust(
        "idft",
        trust.label_probability_by_surprise(beta, exponent_min, exponent_max),
        "arXiv 2602.12222",
        use_when=(
            "As dft, where labels that surprise the student more than its own uncertainty explains should count "
            "for even less."
        ),
    )


def prift(
    variant: Annotated[str, OneOf(("prob", "mass"), "weight by r_y, or by its rank in mass")] = "prob",
    mass_threshold: Annotated[float, Within(0, 1, "mass at or below the label that keeps it")] = 0.5,
) -> Method:
    """PriFT: trust the label as much as the frozen initial model does.

    prob: γ = r_y; mass: γ = 1[Σ_{v: r_v ≤ r_y} r_v ≥ threshold]; π̃ = p, loss −γ log p_y.
    Limits: prob is dft at the first step, where r = p.
    """
    return label_trust(
        "prift",
        trust.reference_probability() if variant == "prob" else trust.reference_mass(mass_threshold),
        "arXiv 2606.09396",
        use_when=(
            "As dft, but what is trusted shall not move while the student learns: the frozen initial model decides."
        ),
    )


def talr(floor: Annotated[float, Within(0, 1, "smallest trust")] = 0.01) -> Method:
    """TALR: dft whose exponent follows how hard the batch is.

    γ = max(p_y^(1/τ), floor), τ the median over the batch's sequences of their mean −log p_y; π̃ = p, loss −sg[γ] log
    p_y. Limits: floor 1 is sft; τ = 1 is dft above the floor.
    Looks at the whole batch: gradient accumulation and more ranks change which sequences share a median. No official
    code.
    """
    return label_trust(
        "talr",
        trust.label_probability_by_difficulty(floor),
        "arXiv 2509.20758",
        use_when=(
            "Rows are easy and hard by turns: near dft on batches that the student knows, near sft on those that "
            "it does not. Large micro-batches."
        ),
    )


def focal(
    focusing: Annotated[float, Within(0, 20, "power of 1 − p_y")] = 2.0,
    detached: Annotated[bool, OneOf((False, True), "hold the weight constant")] = False,
) -> Method:
    """Focal loss: learn where the student is wrong; the opposite leaning to dft.

    γ = (1−p_y)^f − f p_y (1−p_y)^(f−1) log p_y, above 1 for some p_y (improper); detached: γ = (1−p_y)^f. π̃ = p.
    Loss −(1−p_y)^f log p_y. Limits: focusing 0 is sft.
    """
    return label_trust(
        "focal",
        trust.focal_weight(focusing, detached),
        "arXiv 1708.02002",
        value=value.focal_loss(focusing),
        use_when=(
            "The rows are clean, and the student should work on what it still gets wrong. Never with noisy rows."
        ),
    )


def beyond_log_threshold(
    alpha: Annotated[float, Within(0, 100, "power of p_y; 0 is the logarithm")] = 1.0,
    threshold: Annotated[float, Within(0, 1, "where to cut")] = 0.2,
    keep: Annotated[str, OneOf(("top", "bottom"), "labels at or above, or at or below")] = "top",
) -> Method:
    """The beyond-log family on the labels above, or below, a probability.

    γ = p_y^α·1[p_y ≥ τ] (top) or 1[p_y ≤ τ] (bottom), π̃ = p, loss (1 − p_y^α)/α on those kept.
    Limits: top at threshold 0 is beyond-log.
    The official code divides by the kept tokens; here dropped tokens stay in the denominator.
    """
    kept = trust.label_above(threshold, strict=False) if keep == "top" else trust.label_below(threshold)
    return label_trust(
        "beyond-log-threshold",
        trust.label_probability(alpha) * kept,
        "arXiv 2510.00526",
        value=kept * value.power_gap(alpha),
        use_when=(
            "An experiment: whether the labels that the student finds probable, or those that it does not, are "
            "what teaches."
        ),
    )


def log_one_minus_p(
    weight_max: Annotated[float, Within(0, 1e6, "largest p_y/(1−p_y)", open_low=True)] = 1e4,
) -> Method:
    """The beyond-log family's extreme: log(1 − p_y).

    γ = p_y/(1−p_y), held at weight_max (improper for p_y > 1/2), π̃ = p, loss log(1 − p_y).
    Limits: dft where p_y is small. The paper does not hold the weight; near p_y = 1 it must be held.
    """
    return label_trust(
        "log-one-minus-p",
        trust.label_odds(weight_max),
        "arXiv 2510.00526",
        value=value.log_not_label(),
        use_when=(
            "An experiment: the far end of beyond-log, where labels that the student already believes pull hardest."
        ),
    )


def entropy_selected(
    share: Annotated[float, Within(0, 1, "share of tokens kept", open_low=True)] = 0.2,
) -> Method:
    """Learn only the tokens of the batch where the student is least decided.

    γ = 1[H among the top share], π̃ = p, loss −γ log p_y. Limits: share 1 is sft. Looks at the whole batch.
    """
    return label_trust(
        "entropy-selected",
        trust.top_share(trust.entropy(), share),
        "arXiv 2506.01939, applied to SFT",
        use_when=(
            "Only the tokens where the student stands at a fork shall be learned, and all others left as they are."
        ),
    )


def excess_loss_selected(
    share: Annotated[float, Within(0, 1, "share of tokens kept", open_low=True)] = 0.6,
) -> Method:
    """Rho-1's selection: learn only the tokens where the reference is ahead of the student.

    γ = 1[log r_y − log p_y among the top share], π̃ = p, loss −γ log p_y. Limits: share 1 is sft. Looks at the whole
    batch.
    """
    return label_trust(
        "excess-loss-selected",
        trust.top_share(trust.excess_loss(), share),
        "arXiv 2404.07965",
        use_when=(
            "The rows are a mixed lot, and a reference trained on good ones is at hand: only what it knows better "
            "than the student is learned."
        ),
    )


def confidence_penalty(
    weight: Annotated[float, Within(0, 10, "weight of the entropy bonus")] = 0.1,
) -> Method:
    """SFT with an entropy bonus.

    Q = d − λ·p∘(log p + H), loss −log p_y − λ H(p). Often improper. Limits: weight 0 is sft.
    """
    return Method(
        "confidence-penalty",
        1.0,
        (Term(-weight, residual.entropy_slope()),),
        value=value.nll() - weight * trust.entropy(),
        source="arXiv 1701.06548",
        use_when="The model shall stay undecided where it may, and there is no teacher to say where that is.",
    )


BEYOND: dict[str, Callable[..., Method]] = {
    "gift": gift,
    "deft": deft,
    "idft": idft,
    "prift": prift,
    "talr": talr,
    "focal": focal,
    "beyond-log-threshold": beyond_log_threshold,
    "log-one-minus-p": log_one_minus_p,
    "entropy-selected": entropy_selected,
    "excess-loss-selected": excess_loss_selected,
    "confidence-penalty": confidence_penalty,
}
