"""The losses of the methods beyond the table of arXiv 2606.11189, one row a method; notation as in `papers.py`."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from laws import closed_forms
from laws.oracle import (
    LN2,
    Limit,
    Paper,
    cross_entropy,
    entropy_of,
    log_p_of,
    reference_is_student,
    sequence_means,
    student_is_sharp,
    top_share,
)

E20 = math.exp(20)


def gift(logits_TV, labels_T, *, reference, beta=20.0, smoothing=0.0, floor=0.0):
    """GIFT, arXiv 2601.09233: CE(softmax(log(r' + floor) + β onehot), p), r' = (1 - λ) r + λ uniform.

    The official code's floor is 1e-10.
    """
    vocab = logits_TV.shape[-1]
    prior_TV = (1 - smoothing) * reference.softmax(-1) + smoothing / vocab
    target_TV = ((prior_TV + floor).log() + beta * F.one_hot(labels_T, vocab)).softmax(-1)
    return cross_entropy(target_TV.detach(), logits_TV)


def deft(logits_TV, labels_T):
    """DEFT, arXiv 2602.11424: (1 - p_y^a)/a, a = sg[Σ_v p_v²]. (The code's 1e-6 beside a is left out.)"""
    a_T = logits_TV.softmax(-1).square().sum(-1).detach()
    return (1 - log_p_of(logits_TV, labels_T).exp() ** a_T) / a_T


def idft(logits_TV, labels_T, *, beta=1.0, exponent_min=0.1, exponent_max=2.0):
    """IDFT, arXiv 2602.12222: -sg[p_y^g] log p_y, g = clamp(exp(-(log p_y + H(p))/β), g_min, g_max).

    The official code's 1e-10 (inside H's logarithm and as the least p_y) and its warm-up are left out.
    """
    log_p_T = log_p_of(logits_TV, labels_T)
    exponent_T = (-(log_p_T + entropy_of(logits_TV)) / beta).exp().clamp(exponent_min, exponent_max)
    return -(log_p_T.exp() ** exponent_T).detach() * log_p_T


def prift(logits_TV, labels_T, *, reference, variant="prob", mass_threshold=0.5):
    """PriFT, arXiv 2606.09396: -w log p_y, w from the frozen reference r.

    "prob": w = r_y. "mass": w = 1{Σ_{v: r_v <= r_y} r_v >= mass_threshold}.
    """
    prior_TV = reference.softmax(-1).detach()
    prior_T1 = prior_TV.gather(-1, labels_T.unsqueeze(-1))
    mass_T = (prior_TV * (prior_TV <= prior_T1)).sum(-1)
    weight_T = {"prob": prior_T1.squeeze(-1), "mass": (mass_T >= mass_threshold).to(prior_TV)}[variant]
    return -weight_T * log_p_of(logits_TV, labels_T)


def talr(logits_TV, labels_T, *, sequence_ids, floor=0.01):
    """TALR, arXiv 2509.20758: -max(sg[p_y^(1/τ)], floor) log p_y.

    τ is the median (the lower of two middle values) of the sequences' mean negative log-likelihoods.
    """
    log_p_T = log_p_of(logits_TV, labels_T)
    mean_S, _ = sequence_means(-log_p_T.detach(), sequence_ids)
    weight_T = (log_p_T.exp() ** (1 / mean_S.median())).clamp(min=floor)
    return -weight_T.detach() * log_p_T


def focal(logits_TV, labels_T, *, focusing=2.0, detached=False):
    """Focal loss, arXiv 1708.02002: -(1 - p_y)^γ log p_y; `detached` holds the factor constant."""
    log_p_T = log_p_of(logits_TV, labels_T)
    factor_T = (1 - log_p_T.exp()) ** focusing
    return -(factor_T.detach() if detached else factor_T) * log_p_T


def beyond_log_threshold(logits_TV, labels_T, *, alpha=1.0, threshold=0.2, keep="top"):
    """Thresholded beyond-log, arXiv 2510.00526 eq. 4: f_α(p_y) 1{p_y >= q}, or p_y <= q for "bottom"."""
    log_p_T = log_p_of(logits_TV, labels_T)
    p_T = log_p_T.exp()
    loss_T = -log_p_T if alpha == 0 else (1 - p_T**alpha) / alpha
    return loss_T * {"top": p_T >= threshold, "bottom": p_T <= threshold}[keep]


def log_one_minus_p(logits_TV, labels_T, *, weight_max=1e4):
    """log(1 - p_y), arXiv 2510.00526: gradient p_y/(1 - p_y) · (p - onehot).

    Where p_y/(1 - p_y) passes weight_max (our bound, the paper has none) the gradient is that of
    -weight_max · log p_y; the value stays log(1 - p_y).
    """
    log_p_T = log_p_of(logits_TV, labels_T)
    value_T = (-torch.expm1(log_p_T)).log()
    bounded_T = (log_p_T - value_T).exp() > weight_max
    natural_T = (-torch.expm1(log_p_T.masked_fill(bounded_T, -1.0))).log()
    capped_T = value_T.detach() - weight_max * (log_p_T - log_p_T.detach())
    return torch.where(bounded_T, capped_T, natural_T)


def entropy_selected(logits_TV, labels_T, *, share=0.2):
    """-log p_y where H(p) is among the highest `share` of the batch, else 0 (rule of arXiv 2506.01939)."""
    return -top_share(entropy_of(logits_TV).detach(), share) * log_p_of(logits_TV, labels_T)


def excess_loss_selected(logits_TV, labels_T, *, reference, share=0.6):
    """Rho-1, arXiv 2404.07965: -log p_y where log r_y - log p_y is among the highest `share`, else 0."""
    log_p_T = log_p_of(logits_TV, labels_T)
    excess_T = (log_p_of(reference, labels_T) - log_p_T).detach()
    return -top_share(excess_T, share) * log_p_T


def confidence_penalty(logits_TV, labels_T, *, weight=0.1):
    """Confidence penalty, arXiv 1701.06548: -log p_y - λ H(p), differentiable through H."""
    return -log_p_of(logits_TV, labels_T) - weight * entropy_of(logits_TV)


BEYOND: dict[str, Paper] = {
    "gift": Paper(
        gift,
        limits=(Limit({"beta": 80.0}, "sft"),),
        variations=({"beta": 2.0}, {"beta": 2.0, "smoothing": 0.2}, {"beta": 2.0, "floor": 1e-2}),
        closed_form=closed_forms.gift_gradient,
        worked_value=(2 * LN2 * E20 / 8 + 5 / 4 * LN2) / (E20 / 8 + 7 / 8),
        differentiable=True,
        proper=True,
    ),
    "deft": Paper(
        deft,
        limits=(Limit({}, "dft", place=student_is_sharp, tolerance=1e-3),),
        closed_form=lambda s: s.p_y ** (s.p**2).sum(-1),
        worked_value=(1 - 0.25**0.375) / 0.375,
        proper=True,
    ),
    "idft": Paper(
        idft,
        limits=(Limit({"exponent_min": 1.0, "exponent_max": 1.0}, "dft"),),
        variations=({"beta": 3.0}, {"exponent_min": 0.8}, {"exponent_max": 1.2}),
        closed_form=closed_forms.idft_weight,
        worked_value=0.25 ** math.sqrt(2) * 2 * LN2,
        proper=True,
    ),
    "prift": Paper(
        prift,
        limits=(Limit({"variant": "prob"}, "dft", place=reference_is_student),),
        variations=({"variant": "mass"}, {"variant": "mass", "mass_threshold": 0.2}),
        closed_form=closed_forms.prift_weight,
        worked_value=LN2 / 4,
        differentiable=True,
        proper=True,
    ),
    "talr": Paper(
        talr,
        limits=(Limit({"floor": 1.0}, "sft"),),
        variations=({"floor": 0.3},),
        closed_form=closed_forms.talr_weight,
        worked_value=2 * LN2 / math.e,
        proper=True,
    ),
    "focal": Paper(
        focal,
        limits=(Limit({"focusing": 0.0}, "sft"),),
        variations=({"focusing": 1.0}, {"detached": True}),
        closed_form=closed_forms.focal_weight,
        worked_value=9 / 8 * LN2,
        differentiable=True,
        detached_by=("detached",),
    ),
    "beyond-log-threshold": Paper(
        beyond_log_threshold,
        limits=(Limit({"threshold": 0.0}, "dft"), Limit({"threshold": 1.0, "keep": "bottom"}, "dft")),
        variations=({"alpha": 0.0}, {"threshold": 0.05}, {"keep": "bottom"}),
        closed_form=closed_forms.threshold_weight,
        worked_value=0.75,
        differentiable=True,
    ),
    "log-one-minus-p": Paper(
        log_one_minus_p,
        limits=(
            Limit(
                {"weight_max": 1e-6},
                "sft",
                factor=1e-6,
                where=lambda p_T: p_T > 1e-5,  # held at weight_max wherever p_y/(1-p_y) is above it
            ),
        ),
        variations=({"weight_max": 0.3},),
        closed_form=lambda s, weight_max=1e4: np.minimum(s.p_y / (1 - s.p_y), weight_max),
        worked_value=math.log(0.75),
        differentiable=True,
        detached_by=("weight_max",),
    ),
    "entropy-selected": Paper(
        entropy_selected,
        limits=(Limit({"share": 1.0}, "sft"),),
        variations=({"share": 0.5},),
        closed_form=lambda s, share=0.2: closed_forms.highest(closed_forms.entropy(s.p), share),
        worked_value=2 * LN2,
    ),
    "excess-loss-selected": Paper(
        excess_loss_selected,
        limits=(Limit({"share": 1.0}, "sft"),),
        variations=({"share": 0.3},),
        closed_form=lambda s, share=0.6: closed_forms.highest(-closed_forms.log_ratio(s), share),
        worked_value=2 * LN2,
    ),
    "confidence-penalty": Paper(
        confidence_penalty,
        limits=(Limit({"weight": 0.0}, "sft"),),
        variations=({"weight": 0.5},),
        closed_form=closed_forms.confidence_penalty_gradient,
        worked_value=1.85 * LN2,
        differentiable=True,
    ),
}
