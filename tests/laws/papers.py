"""Every method's own loss, as its paper or official code states it: the rows of the table of arXiv 2606.11189.

One row a method (what a row holds: `oracle.Paper`). `papers_beyond.py`, `papers_divergences.py` and `papers_robust.py`
hold the methods beyond that table; PAPERS, all of them. Nothing here comes from the library.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from laws import closed_forms
from laws.oracle import (
    LN2,
    LN3,
    Limit,
    Paper,
    Row,
    cross_entropy,
    every_token_weighs_one,
    forward_kl,
    log_p_of,
    reference_is_student,
    sequence_means,
)
from laws.papers_beyond import BEYOND
from laws.papers_divergences import DIVERGENCES
from laws.papers_paths import BETWEEN_MODELS
from laws.papers_robust import ROBUST


def sft(logits_TV, labels_T):
    """Maximum likelihood: -log p_y."""
    return -log_p_of(logits_TV, labels_T)


def dft(logits_TV, labels_T, *, trust="p_y"):
    """Dynamic fine-tuning, arXiv 2508.05629 eq. 9: -sg[p_y] log p_y. Another number may stand in the place of p_y."""
    log_p_T = log_p_of(logits_TV, labels_T)
    return -(log_p_T.exp().detach() if trust == "p_y" else trust) * log_p_T


def beyond_log(logits_TV, labels_T, *, alpha=0.5):
    """Beyond log likelihood, arXiv 2510.00526 eq. 3: (1 - p_y^α)/α, at α = 0 its limit -log p_y."""
    log_p_T = log_p_of(logits_TV, labels_T)
    return -log_p_T if alpha == 0 else (1 - log_p_T.exp() ** alpha) / alpha


def profit(logits_TV, labels_T, *, threshold=0.1):
    """ProFit, arXiv 2601.09195 eq. 4-5: -1{sg[p_y] > τ} log p_y. (Its code keeps p_y = τ as well.)"""
    log_p_T = log_p_of(logits_TV, labels_T)
    return -log_p_T * (log_p_T.exp().detach() > threshold)


def eaft(logits_TV, labels_T, *, top_k=20, power=1.0, normalizer="log_k"):
    """Entropy-adaptive fine-tuning, arXiv 2601.02151 eq. 2-3: -sg[(H_topk / c)^power] log p_y.

    H_topk is the entropy of the k most probable tokens, renormalised; k is at most the vocabulary. c is log k
    for "log_k"; the paper and its code write 3.0 for log 20; None leaves it out, as axolotl does.
    """
    kept_Tk = logits_TV.detach().softmax(-1).topk(min(top_k, logits_TV.shape[-1])).values
    entropy_T = torch.special.entr(kept_Tk / kept_Tk.sum(-1, keepdim=True)).sum(-1)
    divisor = {"log_k": math.log(kept_Tk.shape[-1]), None: 1.0}.get(normalizer, normalizer)
    return -((entropy_T / divisor) ** power) * log_p_of(logits_TV, labels_T)


def iw_sft(logits_TV, labels_T, *, reference, sequence_ids, temperature=1.0, clip_max=16.0):
    """Importance-weighted SFT, arXiv 2507.12856: -w log p_y, one detached w a sequence.

    Official code: w = clamp(exp(temperature · mean over the sequence of (log p_y - log ref_y)), 0, clip_max).
    """
    log_p_T = log_p_of(logits_TV, labels_T)
    log_ratio_T = (log_p_T - log_p_of(reference, labels_T)).detach()
    mean_S, index_T = sequence_means(log_ratio_T, sequence_ids)
    return -(temperature * mean_S).exp().clamp(0, clip_max)[index_T] * log_p_T


def iw_sft_of_given_weights(logits_TV, labels_T, *, token_weight):
    """The same with w computed beforehand: token_weight, as given."""
    return -token_weight * log_p_of(logits_TV, labels_T)


def cft(logits_TV, labels_T, *, token_weight):
    """Critical token fine-tuning, arXiv 2510.10974: -c_t log p_y, c the 0/1 mask of critical tokens."""
    return -token_weight * log_p_of(logits_TV, labels_T)


def label_smoothing(logits_TV, labels_T, *, smoothing=0.1):
    """Label smoothing, arXiv 1512.00567 and 2508.00264: -(1 - λ) log p_y - λ/V Σ_v log p_v."""
    log_p_TV = logits_TV.log_softmax(-1)
    return -(1 - smoothing) * log_p_of(logits_TV, labels_T) - smoothing * log_p_TV.mean(-1)


def sft_kl(logits_TV, labels_T, *, reference, kl_weight=0.1):
    """SFT with forward KL to a reference, arXiv 2606.11189 citing 2509.04259: -log p_y + λ KL(r ‖ p)."""
    return -log_p_of(logits_TV, labels_T) + kl_weight * forward_kl(reference, logits_TV)


def asft(logits_TV, labels_T, *, reference, kl_weight=0.05):
    """Anchored SFT, arXiv 2509.23753 eq. 6: -sg[p_y] log p_y + λ KL(r ‖ p)."""
    log_p_T = log_p_of(logits_TV, labels_T)
    return -log_p_T.exp().detach() * log_p_T + kl_weight * forward_kl(reference, logits_TV)


def psft(logits_TV, labels_T, *, reference, clip_low=0.2, clip_high=0.28):
    """Proximal SFT, arXiv 2508.17784: -min(r, clip(r, 1 - low, 1 + high)), r = p_y / old_y.

    The code's clamp of log r to ±20 is left out.
    """
    ratio_T = (log_p_of(logits_TV, labels_T) - log_p_of(reference, labels_T).detach()).exp()
    return -torch.minimum(ratio_T, ratio_T.clamp(1 - clip_low, 1 + clip_high))


def gem(logits_TV, labels_T, *, beta=0.7, h="linear"):
    """GEM, arXiv 2408.16673, official code: -Σ_k sg[q_k ω_k] (log p_y - log p_k), q = softmax(z/β).

    ω is 1 for h = "linear", σ(0.01 (z_k - z_y)) for "logsigmoid".
    """
    gap_TV = (logits_TV - logits_TV.gather(-1, labels_T.unsqueeze(-1))).detach()
    weight_TV = {"linear": torch.ones_like(gap_TV), "logsigmoid": torch.sigmoid(0.01 * gap_TV)}[h]
    q_TV = (logits_TV / beta).softmax(-1).detach()
    log_p_TV = logits_TV.log_softmax(-1)
    log_p_T1 = log_p_TV.gather(-1, labels_T.unsqueeze(-1))
    return -(q_TV * weight_TV * (log_p_T1 - log_p_TV)).sum(-1)


def tempered(teacher_TV, temperature):
    """Log-probabilities of a teacher over its own temperature, renormalised: what every formula then calls t."""
    return (teacher_TV.log_softmax(-1) / temperature).log_softmax(-1)


def kd(logits_TV, labels_T, *, teacher, temperature=1.0, teacher_temperature=1.0):
    """Knowledge distillation, arXiv 1503.02531: T² CE(t^(T), p^(T)), both softened by the temperature T."""
    (teacher_TV,) = teacher
    soft_TV = (tempered(teacher_TV, teacher_temperature) / temperature).softmax(-1).detach()
    return temperature**2 * cross_entropy(soft_TV, logits_TV / temperature)


def kd_hybrid(logits_TV, labels_T, *, teacher, teacher_weight=0.5, teacher_temperature=1.0):
    """Hybrid distillation, arXiv 1503.02531 as in 2606.11189: -(1 - λ) log p_y + λ KL(t ‖ p)."""
    teacher_TV = tempered(teacher[0], teacher_temperature)
    nll_T = -log_p_of(logits_TV, labels_T)
    return (1 - teacher_weight) * nll_T + teacher_weight * forward_kl(teacher_TV, logits_TV)


def target_sft(logits_TV, labels_T, *, teacher, eta=0.5, teacher_temperature=1.0, trust="p_y"):
    """Target-SFT, arXiv 2606.11189: CE(sg[Q], p), Q = p_y onehot + (1 - p_y) π, π ∝ p^(1-Σ η) Π_i t_i^η_i.

    eta is one exponent, or a tuple with one for each teacher. Another number may stand in the place of p_y.
    """
    etas = eta if isinstance(eta, tuple) else (eta,)
    log_pool_TV = (1 - sum(etas)) * logits_TV.log_softmax(-1)
    for eta_i, teacher_TV in zip(etas, teacher, strict=True):
        log_pool_TV = log_pool_TV + eta_i * tempered(teacher_TV, teacher_temperature)
    p_T1 = log_p_of(logits_TV, labels_T).exp().unsqueeze(-1) if trust == "p_y" else trust
    onehot_TV = F.one_hot(labels_T, logits_TV.shape[-1]).to(logits_TV.dtype)
    target_TV = p_T1 * onehot_TV + (1 - p_T1) * log_pool_TV.softmax(-1)
    return cross_entropy(target_TV.detach(), logits_TV)


KL_REFERENCE = 3 / 8 * LN3 - LN2 / 2  # of the worked values' p and r
GEM_MODE = 1 / (1 + 2 * 2 ** (-1 / 0.7))  # q of the most probable token at β = 0.7
SQRT2 = math.sqrt(2)

PAPERS: dict[str, Paper] = {
    "sft": Paper(
        sft,
        closed_form=closed_forms.ones,
        worked_value=2 * LN2,
        differentiable=True,
        proper=True,
    ),
    "dft": Paper(
        dft,
        variations=({"trust": 0.3},),
        closed_form=lambda s, trust="p_y": s.p_y if trust == "p_y" else np.full(closed_forms.TOKENS, trust),
        worked_value=LN2 / 2,
        proper=True,
    ),
    "beyond-log": Paper(
        beyond_log,
        limits=(Limit({"alpha": 0.0}, "sft"),),
        variations=({"alpha": 0.0}, {"alpha": 1.0}, {"alpha": 10.0}),
        closed_form=lambda s, alpha=0.5: s.p_y**alpha,
        worked_value=1.0,
        differentiable=True,
        proper=True,
    ),
    "profit": Paper(
        profit,
        limits=(Limit({"threshold": 0.0}, "sft"),),
        variations=({"threshold": 0.3},),
        closed_form=lambda s, threshold=0.1: np.where(s.p_y > threshold, 1.0, 0.0),
        worked_value=2 * LN2,
        differentiable=True,
        proper=True,
    ),
    "eaft": Paper(
        eaft,
        limits=(Limit({"power": 0.0}, "sft"),),
        variations=({"top_k": 5}, {"power": 2.0}, {"normalizer": 3.0}, {"normalizer": None}),
        closed_form=closed_forms.eaft_weight,
        worked_value=3 * LN2**2 / LN3,
    ),
    "iw-sft": Paper(
        iw_sft,
        without_reference=iw_sft_of_given_weights,
        limits=(Limit({}, "sft", place=reference_is_student),),
        variations=({"temperature": 2.0}, {"clip_max": 0.9}),
        closed_form=closed_forms.iw_sft_weight,
        worked_value=4 * LN2,
    ),
    "cft": Paper(
        cft,
        limits=(Limit({}, "sft", place=every_token_weighs_one),),
        closed_form=lambda s: s.token_weight,
        worked_value=2 * LN2,
        differentiable=True,
        proper=True,
    ),
    "label-smoothing": Paper(
        label_smoothing,
        limits=(Limit({"smoothing": 0.0}, "sft"),),
        variations=({"smoothing": 0.3},),
        closed_form=lambda s, smoothing=0.1: s.p - (1 - smoothing) * s.onehot - smoothing / closed_forms.VOCAB,
        worked_value=1.8 * LN2 + 0.1 * 5 / 3 * LN2,
        differentiable=True,
        proper=True,
    ),
    "sft-kl": Paper(
        sft_kl,
        limits=(Limit({"kl_weight": 0.0}, "sft"),),
        variations=({"kl_weight": 0.5},),
        closed_form=lambda s, kl_weight=0.1: s.p - s.onehot + closed_forms.towards(s, kl_weight, s.reference),
        worked_value=2 * LN2 + 0.1 * KL_REFERENCE,
        differentiable=True,
        proper=True,
    ),
    "asft": Paper(
        asft,
        limits=(Limit({"kl_weight": 0.0}, "dft"),),
        variations=({"kl_weight": 0.5},),
        closed_form=lambda s, kl_weight=0.05: (
            s.p_y[:, None] * (s.p - s.onehot) + closed_forms.towards(s, kl_weight, s.reference)
        ),
        worked_value=LN2 / 2 + 0.05 * KL_REFERENCE,
        proper=True,
    ),
    "psft": Paper(
        psft,
        limits=(Limit({}, "sft", place=reference_is_student),),
        variations=({"clip_low": 0.1}, {"clip_high": 1.0}),
        closed_form=closed_forms.psft_weight,
        worked_value=-1.28,
        differentiable=True,
        without_effect=("clip_low",),  # with the advantage at 1 the lower clip never acts
        ours=("refresh_every",),
    ),
    "gem": Paper(
        gem,
        limits=(Limit({"beta": 1.0}, "sft"),),
        variations=({"beta": 1.0}, {"beta": 0.5, "h": "logsigmoid"}),
        closed_form=closed_forms.gem_gradient,
        worked_value=GEM_MODE * LN2,
    ),
    "kd": Paper(
        kd,
        limits=(Limit({"temperature": 1.0}, "kd-hybrid", {"teacher_weight": 1}),),
        variations=(
            {"temperature": 2.0},
            {"teacher_temperature": 0.5},
            {"temperature": 2.0, "teacher_temperature": 0.7},
        ),
        closed_form=closed_forms.kd_gradient,
        worked_value=1.75 * LN2,
        differentiable=True,
        proper=True,
        ours=("teacher_weights",),
    ),
    "kd-hybrid": Paper(
        kd_hybrid,
        limits=(Limit({"teacher_weight": 0.0}, "sft"), Limit({"teacher_weight": 1.0}, "kd")),
        variations=({"teacher_weight": 0.9}, {"teacher_temperature": 0.5}),
        closed_form=closed_forms.kd_hybrid_gradient,
        worked_value=1.125 * LN2,
        differentiable=True,
        proper=True,
    ),
    "target-sft": Paper(
        target_sft,
        limits=(Limit({"eta": 0.0}, "dft"), Limit({"eta": 0}, "beyond-log", {"alpha": 1.0})),
        variations=(
            {"eta": 0.0},
            {"eta": 0.2},
            {"eta": 1.0},
            {"eta": (0.3, 0.4)},
            {"teacher_temperature": 0.5},
            {"eta": (0.3, 0.4), "teacher_temperature": 2.0},
            {"trust": 0.3},
        ),
        closed_form=closed_forms.target_sft_gradient,
        worked_value=LN2 / 2 + 0.75 * LN2 * (3 * SQRT2 + 2) / (1 + 2 * SQRT2),
        proper=True,
    ),
    **BEYOND,
    **DIVERGENCES,
    **ROBUST,
    **BETWEEN_MODELS,
}

ROWS = [Row(name, given) for name, paper in PAPERS.items() for given in [{}, *paper.variations]]
