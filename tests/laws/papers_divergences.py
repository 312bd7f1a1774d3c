"""The divergences between student p and teacher t, one row a method; notation as in `papers.py`."""

import math

import torch
from laws import closed_forms
from laws.oracle import LN2, LN3, Limit, Paper, entropy_of, forward_kl

ALL_BUT_EQUAL = 1e-4


def teacher_is_nearly_student(logits_TV, evidence):
    """The place where p and t differ by a ten-thousandth."""
    (teacher_TV,) = evidence["teacher"] if isinstance(evidence["teacher"], tuple) else (evidence["teacher"],)
    return logits_TV, {**evidence, "teacher": logits_TV + ALL_BUT_EQUAL * (teacher_TV - logits_TV)}


def teacher_is_sure_of_the_students_choice(logits_TV, evidence):
    """The place where the teacher has all on the student's likeliest token."""
    return logits_TV, {**evidence, "teacher": 1e4 * torch.eye(logits_TV.shape[-1]).to(logits_TV)[logits_TV.argmax(-1)]}


def kl(from_TV, to_TV):
    """KL(from ‖ to) of two probability distributions, [T]."""
    return (from_TV * (from_TV / to_TV).log()).sum(-1)


def both(logits_TV, teacher):
    """p and the constant t, [T, V]."""
    (teacher_TV,) = teacher
    return logits_TV.softmax(-1), teacher_TV.softmax(-1).detach()


def reverse_kl(logits_TV, labels_T, *, teacher):
    """Reverse KL, as in MiniLLM, arXiv 2306.08543: KL(p ‖ t)."""
    return kl(*both(logits_TV, teacher))


def jsd(logits_TV, labels_T, *, teacher, beta=0.5):
    """GKD, arXiv 2306.13649 eq. 1: β KL(t ‖ m) + (1 - β) KL(p ‖ m), m = βt + (1 - β)p; TRL's KL at β = 0 and 1."""
    p_TV, t_TV = both(logits_TV, teacher)
    if beta in (0, 1):
        return kl(t_TV, p_TV) if beta == 0 else kl(p_TV, t_TV)
    mixed_TV = beta * t_TV + (1 - beta) * p_TV
    return beta * kl(t_TV, mixed_TV) + (1 - beta) * kl(p_TV, mixed_TV)


def skew_kl(logits_TV, labels_T, *, teacher, alpha=0.1):
    """DistiLLM, arXiv 2402.03898: KL(t ‖ αt + (1 - α)p). (Its code leaves Σ t log t out.)"""
    p_TV, t_TV = both(logits_TV, teacher)
    return kl(t_TV, alpha * t_TV + (1 - alpha) * p_TV)


def skew_reverse_kl(logits_TV, labels_T, *, teacher, alpha=0.1):
    """DistiLLM, arXiv 2402.03898: KL(p ‖ αp + (1 - α)t)."""
    p_TV, t_TV = both(logits_TV, teacher)
    return kl(p_TV, alpha * p_TV + (1 - alpha) * t_TV)


def todi(logits_TV, labels_T, *, teacher):
    """ToDi, arXiv 2505.16297: Σ_k α t log(t/p) + (1 - α) p log(p/t), α = sg[σ(log t - log p)]."""
    p_TV, t_TV = both(logits_TV, teacher)
    alpha_TV = torch.sigmoid(t_TV.log() - p_TV.log()).detach()
    return (alpha_TV * t_TV * (t_TV / p_TV).log() + (1 - alpha_TV) * p_TV * (p_TV / t_TV).log()).sum(-1)


def akl(logits_TV, labels_T, *, teacher, head=0.5):
    """AKL, arXiv 2404.02657, official code: g_head/(g_head + g_tail) KL(t ‖ p) + g_tail/(g_head + g_tail) KL(p ‖ t).

    g sums |t - p| over t's head, the likeliest tokens whose sum is at most `head` and the first of all, or the rest.
    """
    p_TV, t_TV = both(logits_TV, teacher)
    ranked_TV = t_TV.argsort(-1, descending=True)
    t_ranked_TV, gap_TV = t_TV.gather(-1, ranked_TV), (t_TV - p_TV).abs().detach().gather(-1, ranked_TV)
    outside_TV = t_ranked_TV.cumsum(-1) > head
    outside_TV[:, 0] = False
    tail_T = (gap_TV * outside_TV).sum(-1) / gap_TV.sum(-1)
    return (1 - tail_T) * kl(t_TV, p_TV) + tail_T * kl(p_TV, t_TV)


def tvd(logits_TV, labels_T, *, teacher):
    """Total variation distance, as in f-distill, arXiv 2307.15190: 1/2 Σ |p - t|."""
    p_TV, t_TV = both(logits_TV, teacher)
    return (p_TV - t_TV).abs().sum(-1) / 2


def entropy_aware_kl(logits_TV, labels_T, *, teacher, threshold=0.8):
    """Entropy-aware distillation, arXiv 2603.07079: KL(p ‖ t) + 1{H(t) > threshold} KL(t ‖ p).

    The threshold is its code's, which counts an entropy of exactly 0.8 as undecided.
    """
    (teacher_TV,) = teacher
    undecided_T = (entropy_of(teacher_TV) > threshold).to(logits_TV)
    return kl(*both(logits_TV, teacher)) + undecided_T * forward_kl(teacher_TV, logits_TV)


SKEWED = math.log(0.25 / 0.475) / 4 + math.log(0.5 / 0.275) / 2

DIVERGENCES: dict[str, Paper] = {
    "reverse-kl": Paper(
        reverse_kl,
        limits=(Limit({}, "kd", place=teacher_is_nearly_student, tolerance=1e-7),),
        closed_form=closed_forms.reverse_kl_gradient,
        worked_value=LN2 / 4,
        differentiable=True,
    ),
    "jsd": Paper(
        jsd,
        limits=(Limit({"beta": 0.0}, "kd"), Limit({"beta": 1.0}, "reverse-kl")),
        variations=({"beta": 0.0}, {"beta": 0.3}, {"beta": 1.0}),
        closed_form=closed_forms.jsd_gradient,
        worked_value=5 / 4 * LN2 - 3 / 4 * LN3,
        differentiable=True,
    ),
    "skew-kl": Paper(
        skew_kl,
        limits=(Limit({"alpha": 0.0}, "kd"),),
        variations=({"alpha": 0.0}, {"alpha": 0.6}),
        closed_form=closed_forms.skew_kl_gradient,
        worked_value=SKEWED,
        differentiable=True,
    ),
    "skew-reverse-kl": Paper(
        skew_reverse_kl,
        limits=(Limit({"alpha": 0.0}, "reverse-kl"),),
        variations=({"alpha": 0.0}, {"alpha": 0.6}),
        closed_form=closed_forms.skew_reverse_kl_gradient,
        worked_value=SKEWED,
        differentiable=True,
    ),
    "todi": Paper(
        todi,
        limits=(Limit({}, "reverse-kl", place=teacher_is_nearly_student, factor=1.5, tolerance=1e-7),),
        closed_form=closed_forms.todi_gradient,
        worked_value=LN2 / 2,
    ),
    "akl": Paper(
        akl,
        limits=(Limit({}, "kd", place=teacher_is_nearly_student, tolerance=1e-7), Limit({"head": 1.0}, "kd")),
        variations=({"head": 0.9},),
        closed_form=closed_forms.akl_gradient,
        worked_value=LN2 / 4,
    ),
    "tvd": Paper(
        tvd,
        limits=(Limit({}, "dft", place=teacher_is_sure_of_the_students_choice, where=lambda p_T: p_T > 0.5),),
        closed_form=closed_forms.tvd_gradient,
        worked_value=1 / 4,
        differentiable=True,
    ),
    "entropy-aware-kl": Paper(
        entropy_aware_kl,
        limits=(Limit({"threshold": 100.0}, "reverse-kl"),),
        variations=({"threshold": 2.2},),
        closed_form=closed_forms.entropy_aware_gradient,
        worked_value=LN2 / 2,
        differentiable=True,
    ),
}
