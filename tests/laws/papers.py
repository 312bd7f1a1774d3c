"""Every method's own loss, as its paper or official code states it, in plain torch under autograd.

The independent half of the laws: nothing here comes from the library. A loss maps logits [T, V] and labels
[T] to per-token losses [T] in nats, unreduced. The gradient of their sum is the method's gradient: where the
paper stops it there is a `.detach()`, and where the paper's form is differentiable it stays so. Called as

    loss(logits_TV, labels_T, *, teacher=None, reference=None, token_weight=None, sequence_ids=None, **hyper)

with teacher a tuple of logits [T, V], reference logits [T, V], token_weight [T] and sequence_ids int [T]; all
tokens given are supervised. Only `cft`, and `iw-sft` without a reference, read token_weight.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def evidence_optional(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let `loss` be called with all four kinds of evidence; it is given those that it names."""
    named = inspect.signature(loss).parameters

    @functools.wraps(loss)
    def call(logits_TV, labels_T, *, teacher=None, reference=None, token_weight=None, sequence_ids=None, **hyper):
        evidence = dict(teacher=teacher, reference=reference, token_weight=token_weight, sequence_ids=sequence_ids)
        wanted = {kind: given for kind, given in evidence.items() if kind in named}
        return loss(logits_TV, labels_T, **wanted, **hyper)

    return call


def log_p_of(logits_TV: Tensor, labels_T: Tensor) -> Tensor:
    """log p_y, [T]."""
    return logits_TV.log_softmax(-1).gather(-1, labels_T.unsqueeze(-1)).squeeze(-1)


def cross_entropy(target_TV: Tensor, logits_TV: Tensor) -> Tensor:
    """CE(target, p) = -Σ_k target_k log p_k, [T]."""
    return -(target_TV * logits_TV.log_softmax(-1)).sum(-1)


def forward_kl(source_logits_TV: Tensor, logits_TV: Tensor) -> Tensor:
    """KL(source ‖ p), [T]."""
    source_TV = source_logits_TV.softmax(-1).detach()
    return F.kl_div(logits_TV.log_softmax(-1), source_TV, reduction="none").sum(-1)


def entropy_of(logits_TV: Tensor) -> Tensor:
    """H(p) in nats, [T]."""
    return cross_entropy(logits_TV.softmax(-1), logits_TV)


def sequence_means(values_T: Tensor, sequence_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each sequence [S], and every token's sequence as an index into it [T]."""
    ids_S, index_T = sequence_ids.unique(return_inverse=True)
    return torch.stack([values_T[index_T == s].mean() for s in range(len(ids_S))]), index_T


def top_share(score_T: Tensor, share: float) -> Tensor:
    """1 at the ceil(share · T) tokens of the highest score, at least one of them, else 0, [T]."""
    kept = max(1, math.ceil(share * len(score_T)))
    return torch.zeros_like(score_T).scatter(0, score_T.topk(kept).indices, 1.0)


# --- The rows of the table of arXiv 2606.11189 --------------------------------------------------


@evidence_optional
def sft(logits_TV, labels_T):
    """Maximum likelihood: -log p_y."""
    return -log_p_of(logits_TV, labels_T)


@evidence_optional
def dft(logits_TV, labels_T):
    """Dynamic fine-tuning, arXiv 2508.05629 eq. 9: -sg[p_y] log p_y."""
    log_p_T = log_p_of(logits_TV, labels_T)
    return -log_p_T.exp().detach() * log_p_T


@evidence_optional
def beyond_log(logits_TV, labels_T, *, alpha=0.5):
    """Beyond log likelihood, arXiv 2510.00526 eq. 3: (1 - p_y^α)/α, at α = 0 its limit -log p_y."""
    log_p_T = log_p_of(logits_TV, labels_T)
    return -log_p_T if alpha == 0 else (1 - log_p_T.exp() ** alpha) / alpha


@evidence_optional
def profit(logits_TV, labels_T, *, threshold=0.1):
    """ProFit, arXiv 2601.09195 eq. 4-5: -1{sg[p_y] > τ} log p_y. (Its code keeps p_y = τ as well.)"""
    log_p_T = log_p_of(logits_TV, labels_T)
    return -log_p_T * (log_p_T.exp().detach() > threshold)


@evidence_optional
def eaft(logits_TV, labels_T, *, top_k=20, power=1.0, normalizer="log_k"):
    """Entropy-adaptive fine-tuning, arXiv 2601.02151 eq. 2-3: -sg[(H_topk / c)^power] log p_y.

    H_topk is the entropy of the k most probable tokens, renormalised; k is at most the vocabulary. c is log k
    for "log_k"; the paper and its code write 3.0 for log 20; None leaves it out, as axolotl does.
    """
    kept_Tk = logits_TV.detach().softmax(-1).topk(min(top_k, logits_TV.shape[-1])).values
    entropy_T = torch.special.entr(kept_Tk / kept_Tk.sum(-1, keepdim=True)).sum(-1)
    divisor = {"log_k": math.log(kept_Tk.shape[-1]), None: 1.0}.get(normalizer, normalizer)
    return -((entropy_T / divisor) ** power) * log_p_of(logits_TV, labels_T)


@evidence_optional
def iw_sft(
    logits_TV,
    labels_T,
    *,
    reference=None,
    token_weight=None,
    sequence_ids=None,
    temperature=1.0,
    clip_max=16.0,
):
    """Importance-weighted SFT, arXiv 2507.12856: -w log p_y, one detached w a sequence.

    Official code: w = clamp(exp(temperature · mean over the sequence of (log p_y - log ref_y)), 0, clip_max).
    Without a reference, token_weight is w, as given.
    """
    log_p_T = log_p_of(logits_TV, labels_T)
    if reference is None:
        return -token_weight * log_p_T
    log_ratio_T = (log_p_T - log_p_of(reference, labels_T)).detach()
    mean_S, index_T = sequence_means(log_ratio_T, sequence_ids)
    return -(temperature * mean_S).exp().clamp(0, clip_max)[index_T] * log_p_T


@evidence_optional
def cft(logits_TV, labels_T, *, token_weight):
    """Critical token fine-tuning, arXiv 2510.10974: -c_t log p_y, c the 0/1 mask of critical tokens."""
    return -token_weight * log_p_of(logits_TV, labels_T)


@evidence_optional
def label_smoothing(logits_TV, labels_T, *, smoothing=0.1):
    """Label smoothing, arXiv 1512.00567 and 2508.00264: -(1 - λ) log p_y - λ/V Σ_v log p_v."""
    log_p_TV = logits_TV.log_softmax(-1)
    return -(1 - smoothing) * log_p_of(logits_TV, labels_T) - smoothing * log_p_TV.mean(-1)


@evidence_optional
def sft_kl(logits_TV, labels_T, *, reference, kl_weight=0.1):
    """SFT with forward KL to a reference, arXiv 2606.11189 citing 2509.04259: -log p_y + λ KL(r ‖ p)."""
    return -log_p_of(logits_TV, labels_T) + kl_weight * forward_kl(reference, logits_TV)


@evidence_optional
def asft(logits_TV, labels_T, *, reference, kl_weight=0.05):
    """Anchored SFT, arXiv 2509.23753 eq. 6: -sg[p_y] log p_y + λ KL(r ‖ p)."""
    log_p_T = log_p_of(logits_TV, labels_T)
    return -log_p_T.exp().detach() * log_p_T + kl_weight * forward_kl(reference, logits_TV)


@evidence_optional
def psft(logits_TV, labels_T, *, reference, clip_low=0.2, clip_high=0.28):
    """Proximal SFT, arXiv 2508.17784: -min(r, clip(r, 1 - low, 1 + high)), r = p_y / old_y.

    The code's clamp of log r to ±20 is left out.
    """
    ratio_T = (log_p_of(logits_TV, labels_T) - log_p_of(reference, labels_T).detach()).exp()
    return -torch.minimum(ratio_T, ratio_T.clamp(1 - clip_low, 1 + clip_high))


@evidence_optional
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


@evidence_optional
def kd(logits_TV, labels_T, *, teacher, temperature=1.0):
    """Knowledge distillation, arXiv 1503.02531: T² CE(t^(T), p^(T)), both softened by the temperature T."""
    (teacher_TV,) = teacher
    soft_TV = (teacher_TV / temperature).softmax(-1).detach()
    return temperature**2 * cross_entropy(soft_TV, logits_TV / temperature)


@evidence_optional
def kd_hybrid(logits_TV, labels_T, *, teacher, teacher_weight=0.5):
    """Hybrid distillation, arXiv 1503.02531 as in 2606.11189: -(1 - λ) log p_y + λ KL(t ‖ p)."""
    (teacher_TV,) = teacher
    nll_T = -log_p_of(logits_TV, labels_T)
    return (1 - teacher_weight) * nll_T + teacher_weight * forward_kl(teacher_TV, logits_TV)


@evidence_optional
def target_sft(logits_TV, labels_T, *, teacher, eta=0.5):
    """Target-SFT, arXiv 2606.11189: CE(sg[Q], p), Q = p_y onehot + (1 - p_y) π, π ∝ p^(1-Σ η) Π_i t_i^η_i.

    eta is one exponent, or a tuple with one for each teacher.
    """
    etas = eta if isinstance(eta, tuple) else (eta,)
    log_pool_TV = (1 - sum(etas)) * logits_TV.log_softmax(-1)
    for eta_i, teacher_TV in zip(etas, teacher, strict=True):
        log_pool_TV = log_pool_TV + eta_i * teacher_TV.log_softmax(-1)
    p_T1 = log_p_of(logits_TV, labels_T).exp().unsqueeze(-1)
    onehot_TV = F.one_hot(labels_T, logits_TV.shape[-1])
    target_TV = p_T1 * onehot_TV + (1 - p_T1) * log_pool_TV.softmax(-1)
    return cross_entropy(target_TV.detach(), logits_TV)


# --- Beyond the table ---------------------------------------------------------------------------


@evidence_optional
def gift(logits_TV, labels_T, *, reference, beta=20.0, smoothing=0.0, floor=0.0):
    """GIFT, arXiv 2601.09233: CE(softmax(log(r' + floor) + β onehot), p), r' = (1 - λ) r + λ uniform.

    The official code's floor is 1e-10.
    """
    vocab = logits_TV.shape[-1]
    prior_TV = (1 - smoothing) * reference.softmax(-1) + smoothing / vocab
    target_TV = ((prior_TV + floor).log() + beta * F.one_hot(labels_T, vocab)).softmax(-1)
    return cross_entropy(target_TV.detach(), logits_TV)


@evidence_optional
def deft(logits_TV, labels_T):
    """DEFT, arXiv 2602.11424: (1 - p_y^a)/a, a = sg[Σ_v p_v²]. (The code's 1e-6 beside a is left out.)"""
    a_T = logits_TV.softmax(-1).square().sum(-1).detach()
    return (1 - log_p_of(logits_TV, labels_T).exp() ** a_T) / a_T


@evidence_optional
def idft(logits_TV, labels_T, *, beta=1.0, exponent_min=0.1, exponent_max=2.0):
    """IDFT, arXiv 2602.12222: -sg[p_y^g] log p_y, g = clamp(exp(-(log p_y + H(p))/β), g_min, g_max).

    The official code's 1e-10 (inside H's logarithm and as the least p_y) and its warm-up are left out.
    """
    log_p_T = log_p_of(logits_TV, labels_T)
    exponent_T = (-(log_p_T + entropy_of(logits_TV)) / beta).exp().clamp(exponent_min, exponent_max)
    return -(log_p_T.exp() ** exponent_T).detach() * log_p_T


@evidence_optional
def prift(logits_TV, labels_T, *, reference, variant="prob", mass_threshold=0.5):
    """PriFT, arXiv 2606.09396: -w log p_y, w from the frozen reference r.

    "prob": w = r_y. "mass": w = 1{Σ_{v: r_v <= r_y} r_v >= mass_threshold}.
    """
    prior_TV = reference.softmax(-1).detach()
    prior_T1 = prior_TV.gather(-1, labels_T.unsqueeze(-1))
    mass_T = (prior_TV * (prior_TV <= prior_T1)).sum(-1)
    weight_T = {"prob": prior_T1.squeeze(-1), "mass": (mass_T >= mass_threshold).to(prior_TV)}[variant]
    return -weight_T * log_p_of(logits_TV, labels_T)


@evidence_optional
def talr(logits_TV, labels_T, *, sequence_ids, floor=0.01):
    """TALR, arXiv 2509.20758: -max(sg[p_y^(1/τ)], floor) log p_y.

    τ is the median (the lower of two middle values) of the sequences' mean negative log-likelihoods.
    """
    log_p_T = log_p_of(logits_TV, labels_T)
    mean_S, _ = sequence_means(-log_p_T.detach(), sequence_ids)
    weight_T = (log_p_T.exp() ** (1 / mean_S.median())).clamp(min=floor)
    return -weight_T.detach() * log_p_T


@evidence_optional
def focal(logits_TV, labels_T, *, focusing=2.0, detached=False):
    """Focal loss, arXiv 1708.02002: -(1 - p_y)^γ log p_y; `detached` holds the factor constant."""
    log_p_T = log_p_of(logits_TV, labels_T)
    factor_T = (1 - log_p_T.exp()) ** focusing
    return -(factor_T.detach() if detached else factor_T) * log_p_T


@evidence_optional
def beyond_log_threshold(logits_TV, labels_T, *, alpha=1.0, threshold=0.2, keep="top"):
    """Thresholded beyond-log, arXiv 2510.00526 eq. 4: f_α(p_y) 1{p_y >= q}, or p_y <= q for "bottom"."""
    log_p_T = log_p_of(logits_TV, labels_T)
    p_T = log_p_T.exp()
    loss_T = -log_p_T if alpha == 0 else (1 - p_T**alpha) / alpha
    return loss_T * {"top": p_T >= threshold, "bottom": p_T <= threshold}[keep]


@evidence_optional
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


@evidence_optional
def entropy_selected(logits_TV, labels_T, *, share=0.2):
    """-log p_y where H(p) is among the highest `share` of the batch, else 0 (rule of arXiv 2506.01939)."""
    return -top_share(entropy_of(logits_TV).detach(), share) * log_p_of(logits_TV, labels_T)


@evidence_optional
def excess_loss_selected(logits_TV, labels_T, *, reference, share=0.6):
    """Rho-1, arXiv 2404.07965: -log p_y where log r_y - log p_y is among the highest `share`, else 0."""
    log_p_T = log_p_of(logits_TV, labels_T)
    excess_T = (log_p_of(reference, labels_T) - log_p_T).detach()
    return -top_share(excess_T, share) * log_p_T


@evidence_optional
def confidence_penalty(logits_TV, labels_T, *, weight=0.1):
    """Confidence penalty, arXiv 1701.06548: -log p_y - λ H(p), differentiable through H."""
    return -log_p_of(logits_TV, labels_T) - weight * entropy_of(logits_TV)


PAPER_LOSSES: dict[str, Callable[..., Tensor]] = {
    "sft": sft,
    "dft": dft,
    "beyond-log": beyond_log,
    "profit": profit,
    "eaft": eaft,
    "iw-sft": iw_sft,
    "cft": cft,
    "label-smoothing": label_smoothing,
    "sft-kl": sft_kl,
    "asft": asft,
    "psft": psft,
    "gem": gem,
    "kd": kd,
    "kd-hybrid": kd_hybrid,
    "target-sft": target_sft,
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


class Row(NamedTuple):
    """One method with the hyperparameters it is checked under; those not named keep their defaults."""

    name: str
    hyperparameters: dict[str, Any]


VARIATIONS: dict[str, list[dict[str, Any]]] = {
    "beyond-log": [{"alpha": 0.0}, {"alpha": 1.0}, {"alpha": 10.0}],
    "profit": [{"threshold": 0.3}],
    "eaft": [{"top_k": 5}, {"power": 2.0}, {"normalizer": 3.0}, {"normalizer": None}],
    "iw-sft": [{"temperature": 2.0}, {"clip_max": 0.9}],
    "label-smoothing": [{"smoothing": 0.3}],
    "sft-kl": [{"kl_weight": 0.5}],
    "asft": [{"kl_weight": 0.5}],
    "psft": [{"clip_low": 0.1}, {"clip_high": 1.0}],
    "gem": [{"beta": 1.0}, {"beta": 0.5, "h": "logsigmoid"}],
    "kd": [{"temperature": 2.0}],
    "kd-hybrid": [{"teacher_weight": 0.9}],
    "target-sft": [{"eta": 0.0}, {"eta": 0.2}, {"eta": 1.0}, {"eta": (0.3, 0.4)}],
    "gift": [{"beta": 2.0}, {"beta": 2.0, "smoothing": 0.2}, {"beta": 2.0, "floor": 1e-2}],
    "idft": [{"beta": 3.0}, {"exponent_min": 0.8}, {"exponent_max": 1.2}],
    "prift": [{"variant": "mass"}, {"variant": "mass", "mass_threshold": 0.2}],
    "talr": [{"floor": 0.3}],
    "focal": [{"focusing": 1.0}, {"detached": True}],
    "beyond-log-threshold": [{"alpha": 0.0}, {"threshold": 0.05}, {"keep": "bottom"}],
    "log-one-minus-p": [{"weight_max": 0.3}],
    "entropy-selected": [{"share": 0.5}],
    "excess-loss-selected": [{"share": 0.3}],
    "confidence-penalty": [{"weight": 0.5}],
}
ROWS = [Row(name, given) for name in PAPER_LOSSES for given in [{}, *VARIATIONS.get(name, [])]]
