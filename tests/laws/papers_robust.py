"""Losses for noisy labels and for tokens to move away from, one row a method; notation as in `papers.py`."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from laws import closed_forms
from laws.oracle import LN2, Limit, Paper, every_token_weighs_one, log_p_of


def symmetric_ce(logits_TV, labels_T, *, alpha=0.1, beta=1.0, log_zero=-4.0):
    """Symmetric cross entropy, arXiv 1908.06112: α CE(d, p) + β CE(p, d), with log 0 := A.

    The official code clips d at 1e-4 instead.
    """
    log_d_TV = log_zero * (1 - F.one_hot(labels_T, logits_TV.shape[-1]).to(logits_TV))
    reverse_T = -(logits_TV.softmax(-1) * log_d_TV).sum(-1)
    return -alpha * log_p_of(logits_TV, labels_T) + beta * reverse_T


def elr(logits_TV, labels_T, *, reference, weight=3.0):
    """Early-learning regularisation, arXiv 2007.00151: -log p_y + λ log(1 - ⟨p, r⟩), r an average of the student.

    1 - ⟨p, r⟩ is held at 1e-4, its gradient divided by what it is held at.
    """
    apart_T = 1 - (logits_TV.softmax(-1) * reference.softmax(-1).detach()).sum(-1)
    held_T = apart_T.detach().clamp(min=1e-4)
    return -log_p_of(logits_TV, labels_T) + weight * (held_T.log() + (apart_T - apart_T.detach()) / held_T)


def sed_sft(logits_TV, labels_T, *, strength=0.2, top_k=10, threshold=0.95):
    """SED-SFT, arXiv 2602.07464, official code: -log p_y + s m (p_y² - p_y + 1/4), m = 1{top-k mass < threshold}."""
    log_p_T = log_p_of(logits_TV, labels_T)
    p_T = log_p_T.exp()
    mass_T = logits_TV.detach().softmax(-1).topk(min(top_k, logits_TV.shape[-1])).values.sum(-1)
    return -log_p_T + strength * (mass_T < threshold) * (p_T**2 - p_T + 0.25)


def unlikelihood(logits_TV, labels_T, *, token_weight):
    """Unlikelihood, arXiv 1908.04319: -log p_y, and -log(1 - p_y) for a token to avoid, times |w|."""
    p_T = log_p_of(logits_TV, labels_T).exp()
    wanted_T = torch.where(token_weight < 0, 1 - p_T, p_T)
    return -token_weight.abs() * wanted_T.log()


ROBUST: dict[str, Paper] = {
    "symmetric-ce": Paper(
        symmetric_ce,
        limits=(
            Limit({"alpha": 1.0, "beta": 0.0}, "sft"),
            Limit({"alpha": 0.0, "beta": 0.25}, "dft"),
        ),
        variations=({"alpha": 1.0}, {"beta": 0.5}, {"log_zero": -9.2}),
        closed_form=lambda s, alpha=0.1, beta=1.0, log_zero=-4.0: alpha - beta * log_zero * s.p_y,
        worked_value=0.2 * LN2 + 3,
        differentiable=True,
    ),
    "elr": Paper(
        elr,
        limits=(Limit({"weight": 0.0}, "sft"),),
        variations=({"weight": 0.5},),
        closed_form=closed_forms.elr_gradient,
        worked_value=2 * LN2 + 3 * math.log(5 / 8),
        differentiable=True,
    ),
    "sed-sft": Paper(
        sed_sft,
        limits=(Limit({"strength": 0.0}, "sft"), Limit({"threshold": 0.0}, "sft")),
        variations=({"strength": 1.0}, {"top_k": 4}, {"threshold": 0.8}),
        closed_form=closed_forms.sed_sft_weight,
        worked_value=2 * LN2,
        differentiable=True,
    ),
    "unlikelihood": Paper(
        unlikelihood,
        limits=(Limit({}, "sft", place=every_token_weighs_one),),
        closed_form=lambda s: s.token_weight * np.where(s.token_weight < 0, s.p_y / (1 - s.p_y), 1.0),
        worked_value=2 * LN2,
        differentiable=True,
        proper=True,
    ),
}
