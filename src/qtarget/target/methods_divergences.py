"""Distillation by every other divergence between student p and teacher t: a row of the catalogue each.

Notation and conventions are those of `methods.py`. The gradient is the tangent p∘(h − E_p h) of the divergence's slope
h (`slopes.py`), so γ is 0 and Q = p − p∘(h − E_p h). From K kept tokens and a student-shaped tail they are the
divergence over K + 1 buckets, which is at most the whole one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from qtarget.target import residual, slopes, trust, value
from qtarget.target.hyperparameters import Within
from qtarget.target.pool import Slope
from qtarget.target.rule import Number, Term
from qtarget.target.types import Method

LONE_TEACHER = residual.teacher()
Skew = Annotated[float, Within(0, 0.99, "how far the two are mixed before they are compared")]


def _down(name: str, slope: Slope, source: str, use_when: str) -> Method:
    """Down a divergence: γ = 0 and Q = p − p∘(h − E_p h)."""
    tangent = residual.along(slope)
    terms = (Term(1.0, residual.student()), Term(-1.0, tangent))
    return Method(name, 0.0, terms, value=value.slope_loss(tangent), source=source, use_when=use_when)


def _both_ways(name: str, forward: Number, backward: Number, source: str, use_when: str) -> Method:
    """forward·KL(t‖p) + backward·KL(p‖t), the two numbers held constant."""
    tangent = residual.along(slopes.reverse(LONE_TEACHER))
    kept = 1.0 - forward
    terms = (Term(kept, residual.student()), Term(forward, LONE_TEACHER), Term(-1.0 * backward, tangent))
    loss = forward * value.kl(LONE_TEACHER) + backward * value.slope_loss(tangent)
    return Method(name, 0.0, terms, value=loss, source=source, use_when=use_when)


def _forward(name: str, source: str, use_when: str) -> Method:
    """KL(t‖p)."""
    terms = (Term(1.0, LONE_TEACHER),)
    return Method(name, 0.0, terms, value=value.kl(LONE_TEACHER), source=source, use_when=use_when)


def reverse_kl() -> Method:
    """Reverse KL: seek the teacher's modes, and leave out what the student cannot cover.

    γ = 0, Q = p − p∘(h − E_p h) with h = log(p/t), loss KL(p‖t). Limits: where p is near t, kd.
    The loss has no bound where the teacher rules out what the student says. Offline: MiniLLM and on-policy distillation
    take it on the student's own samples, here the rows are the data's.
    """
    return _down(
        "reverse-kl",
        slopes.reverse(LONE_TEACHER),
        "arXiv 2306.08543",
        "The student is much smaller than the teacher, and is to say only what the teacher finds likely.",
    )


def jsd(beta: Annotated[float, Within(0, 1, "share of the teacher in the mixture")] = 0.5) -> Method:
    """The generalised Jensen–Shannon divergence of GKD: between covering the teacher and seeking its modes.

    γ = 0, Q = p − p∘(h − E_p h) with h = (1−β) log(p/m), m = βt + (1−β)p, loss β KL(t‖m) + (1−β) KL(p‖m).
    Limits: beta 0 is kd; beta 1 is reverse-kl.
    At beta 0 and 1 the loss is KL(t‖p) and KL(p‖t), as TRL has it; the formula itself is 0 there. The rows are the
    data's: GKD's share of the student's samples is 0 (lmbda=0 in TRL).
    """
    stated = (
        "arXiv 2306.13649",
        "As kd, where the student cannot cover all that the teacher says: beta 0.5 lets it leave out what is rare.",
    )
    if beta == 0:
        return _forward("jsd", *stated)
    slope = slopes.reverse(LONE_TEACHER) if beta == 1 else slopes.jensen_shannon(LONE_TEACHER, beta)
    return _down("jsd", slope, *stated)


def skew_kl(alpha: Skew = 0.1) -> Method:
    """Skew KL of DistiLLM: kd whose gradient stays small where the student rules out what the teacher says.

    γ = 0, Q = p − p∘(h − E_p h) with h = −(1−α) t/m, m = αt + (1−α)p, loss KL(t‖m). Limits: alpha 0 is kd.
    The official code leaves the teacher's own entropy out of the value.
    """
    stated = ("arXiv 2402.03898", "As kd, where student and teacher are far apart when training begins.")
    if alpha == 0:
        return _forward("skew-kl", *stated)
    return _down("skew-kl", slopes.skew_forward(LONE_TEACHER, alpha), *stated)


def skew_reverse_kl(alpha: Skew = 0.1) -> Method:
    """Skew reverse KL of DistiLLM: reverse KL with a bound where the teacher rules out what the student says.

    γ = 0, Q = p − p∘(h − E_p h) with h = log(p/m) − αp/m, m = αp + (1−α)t, loss KL(p‖m). Limits: alpha 0 is reverse-kl.
    """
    slope = slopes.skew_reverse(LONE_TEACHER, alpha) if alpha else slopes.reverse(LONE_TEACHER)
    return _down(
        "skew-reverse-kl",
        slope,
        "arXiv 2402.03898",
        "As reverse-kl, with a bound where the teacher rules out what the student says.",
    )


def todi() -> Method:
    """ToDi: at each token of the vocabulary forward KL where the teacher is above the student, else reverse KL.

    γ = 0, Q = p − p∘(h − E_p h) with h = (1−α)(1 + log(p/t)) − α t/p, α = sg[σ(log(t/p))], loss Σ_k α t log(t/p) +
    (1−α) p log(p/t). Limits: where p is near t, reverse-kl pulled one and a half times as hard.
    The loss comes to Σ_k (t−p) log(t/p), KL both ways; its gradient does not, as α is held constant.
    Checked against the official code.
    """
    return _down(
        "todi",
        slopes.sigmoid_mixed(LONE_TEACHER),
        "arXiv 2505.16297",
        "As kd or reverse-kl, between which you would not choose: what the student underrates rises as under kd, "
        "what it overrates falls as under reverse-kl.",
    )


def akl(head: Annotated[float, Within(0, 1, "mass of the teacher's head")] = 0.5) -> Method:
    """Adaptive KL: forward KL as far as the two differ at the teacher's likeliest tokens, else reverse KL.

    γ = 0, Q = (1−w)p + w·t − (1−w)·p∘(log(p/t) − KL(p‖t)), loss w KL(t‖p) + (1−w) KL(p‖t), w = sg[share of Σ_k |t−p|
    at the head]. The head is the likeliest tokens of t whose sum is at most `head`, and the first of all.
    Limits: where p is near t, kd; head 1 is kd.
    Needs the whole teacher: the head's edge is found by sorting. Checked against the official code, which sums from the
    likeliest token on and so loses what lies beyond a head near 1; here the sum is of what lies beyond. Where t and p
    differ by rounding alone, w is one half; the code divides by their distance there.
    """
    weight = trust.teacher_head_share(head)
    return _both_ways(
        "akl",
        weight,
        1.0 - weight,
        "arXiv 2404.02657",
        "An experiment: kd early, while the teacher's likeliest tokens are not learned, and reverse-kl after.",
    )


def tvd() -> Method:
    """Total variation distance: every token pulls with its mass, however far off it is.

    γ = 0, Q = p − p∘(h − E_p h) with h = ½ sign(p − t), loss ½ Σ_k |p − t|.
    Limits: with a one-hot teacher, dft on its tokens.
    A token at which p and t differ by rounding alone pulls nowhere: sign 0, between the subgradients −1 and 1.
    """
    return _down(
        "tvd",
        slopes.variation(LONE_TEACHER),
        "arXiv 2307.15190",
        "As kd, where the teacher is wrong at times and no token is to pull harder for being far off.",
    )


def entropy_aware_kl(
    threshold: Annotated[float, Within(0, 100, "teacher's entropy in nats above which it is covered")] = 0.8,
) -> Method:
    """Entropy-aware distillation: reverse KL, and forward KL too where the teacher is undecided.

    γ = 0, Q = (1−w)p + w·t − p∘(log(p/t) − KL(p‖t)), loss KL(p‖t) + w KL(t‖p), w = 1[H(t) > threshold].
    Limits: a threshold that no entropy reaches is reverse-kl.
    The paper takes it on the student's own samples, with a policy gradient for KL(p‖t) and the teacher's 16 likeliest
    tokens for KL(t‖p). The threshold is that of its code, read in a copy of it that others publish.
    """
    return _both_ways(
        "entropy-aware-kl",
        trust.teacher_undecided(threshold),
        1.0,
        "arXiv 2603.07079",
        "As reverse-kl, where answers must stay various at the forks that the teacher sees.",
    )


DIVERGENCES: dict[str, Callable[..., Method]] = {
    "reverse-kl": reverse_kl,
    "jsd": jsd,
    "skew-kl": skew_kl,
    "skew-reverse-kl": skew_reverse_kl,
    "todi": todi,
    "akl": akl,
    "tvd": tvd,
    "entropy-aware-kl": entropy_aware_kl,
}
