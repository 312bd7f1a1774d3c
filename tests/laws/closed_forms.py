"""The gradients of the papers' losses, worked out by hand in numpy: a second oracle beside autograd.

A weight [T] stands for the gradient w·(p − onehot). `s` is the draw that the gradient is taken at.
"""

import math
from typing import NamedTuple

import numpy as np

TOKENS, VOCAB = 12, 23
SEQUENCES = (5, 5, 5, 2, 2, 7, 7, 7, 7, 9, 9, 9)


class Draw(NamedTuple):
    """Logits of the student, of a reference and of two teachers, and the rest that a loss is given."""

    logits: np.ndarray
    labels: np.ndarray
    reference: np.ndarray
    teachers: tuple[np.ndarray, ...]
    token_weight: np.ndarray
    sequence_ids: np.ndarray
    progress: float = 0.3

    @property
    def p(self):
        return softmax(self.logits)

    @property
    def onehot(self):
        return np.eye(VOCAB)[self.labels]

    def at_label(self, values_TV):
        return values_TV[np.arange(TOKENS), self.labels]

    @property
    def p_y(self):
        return self.at_label(self.p)


def a_draw(seed=0):
    rng = np.random.default_rng(seed)
    logits, reference, *teachers = rng.normal(0, 1.5, (4, TOKENS, VOCAB))
    reference = logits + 0.6 * reference  # a policy near the student: ratios on both sides of 1
    labels = np.where(np.arange(TOKENS) % 3 == 0, logits.argmax(-1), rng.integers(0, VOCAB, TOKENS))
    logits[0] *= 1.6  # one confident token
    weight = np.arange(TOKENS) % 4 - 1.0  # below 0, too
    return Draw(logits, labels, reference, tuple(teachers), weight, np.array(SEQUENCES))


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def entropy(p):
    return -(p * np.log(p)).sum(-1)


def ones(s):
    return np.ones(TOKENS)


def eaft_weight(s, top_k=20, power=1.0, normalizer="log_k"):
    kept = np.sort(s.p)[:, -top_k:]
    divisor = {"log_k": np.log(top_k), None: 1.0}.get(normalizer, normalizer)
    return (entropy(kept / kept.sum(-1, keepdims=True)) / divisor) ** power


def log_ratio(s):
    return np.log(s.p_y / s.at_label(softmax(s.reference)))


def of_sequence(s, values, sequence):
    return np.mean([v for v, i in zip(values, s.sequence_ids, strict=True) if i == sequence])


def iw_sft_weight(s, temperature=1.0, clip_max=16.0):
    ratio = np.exp(temperature * np.array([of_sequence(s, log_ratio(s), i) for i in s.sequence_ids]))
    return np.minimum(ratio, clip_max)


def talr_weight(s, floor=0.01):
    means = sorted(of_sequence(s, -np.log(s.p_y), i) for i in set(SEQUENCES))
    return np.maximum(s.p_y ** (1 / means[(len(means) - 1) // 2]), floor)


def psft_weight(s, clip_low=0.2, clip_high=0.28):
    ratio = np.exp(log_ratio(s))
    return ratio * (ratio < 1 + clip_high)


def idft_weight(s, beta=1.0, exponent_min=0.1, exponent_max=2.0):
    exponent = np.exp(-(np.log(s.p_y) + entropy(s.p)) / beta)
    return s.p_y ** np.minimum(np.maximum(exponent, exponent_min), exponent_max)


def prift_weight(s, variant="prob", mass_threshold=0.5):
    r = softmax(s.reference)
    mass = np.array([row[row <= r_y].sum() for row, r_y in zip(r, s.at_label(r), strict=True)])
    return s.at_label(r) if variant == "prob" else np.where(mass >= mass_threshold, 1.0, 0.0)


def focal_weight(s, focusing=2.0, detached=False):
    factor = (1 - s.p_y) ** focusing
    return factor - (not detached) * focusing * s.p_y * (1 - s.p_y) ** (focusing - 1) * np.log(s.p_y)


def threshold_weight(s, alpha=1.0, threshold=0.2, keep="top"):
    return s.p_y**alpha * (s.p_y > threshold if keep == "top" else s.p_y < threshold)


def highest(score, share):
    rank = np.argsort(np.argsort(-score))
    return (rank < max(1, math.ceil(share * TOKENS))).astype(float)


def gem_gradient(s, beta=0.7, h="linear"):
    gap = s.logits - s.at_label(s.logits)[:, None]
    weight = 1.0 if h == "linear" else 1 / (1 + np.exp(-0.01 * gap))
    weighted_q = softmax(s.logits / beta) * weight
    return weighted_q - weighted_q.sum(-1, keepdims=True) * s.onehot


def kd_gradient(s, temperature=1.0, teacher_temperature=1.0):
    teacher = softmax(s.teachers[0] / teacher_temperature / temperature)
    return temperature * (softmax(s.logits / temperature) - teacher)


def kd_hybrid_gradient(s, teacher_weight=0.5, teacher_temperature=1.0):
    teacher = s.teachers[0] / teacher_temperature
    return (1 - teacher_weight) * (s.p - s.onehot) + towards(s, teacher_weight, teacher)


def target_sft_gradient(s, eta=0.5, teacher_temperature=1.0, trust="p_y"):
    etas = eta if isinstance(eta, tuple) else (eta,)
    pool = s.p ** (1 - sum(etas))
    for exponent, teacher in zip(etas, s.teachers, strict=False):
        pool = pool * softmax(teacher / teacher_temperature) ** exponent
    gamma = s.p_y[:, None] if trust == "p_y" else trust
    return s.p - gamma * s.onehot - (1 - gamma) * pool / pool.sum(-1, keepdims=True)


def taid_gradient(s, start=0.4, end=1.0):
    t = start + (end - start) * s.progress
    return s.p - softmax((1 - t) * s.logits + t * s.teachers[0])


def extrapolated_gradient(s, strength=1.25):
    return s.p - softmax(s.reference + strength * (s.teachers[0] - s.reference))


def gift_gradient(s, beta=20.0, smoothing=0.0, floor=0.0):
    r = (1 - smoothing) * softmax(s.reference) + smoothing / VOCAB + floor
    r = r / r.sum(-1, keepdims=True)
    gain = (np.exp(beta) - 1) * s.at_label(r)[:, None]
    return s.p - (gain * s.onehot + r) / (1 + gain)


def towards(s, weight, source_logits):
    return weight * (s.p - softmax(source_logits))


def confidence_penalty_gradient(s, weight=0.1):
    return s.p - s.onehot + weight * s.p * (np.log(s.p) + entropy(s.p)[:, None])


def along(s, h):
    """p∘(h - E_p h)."""
    return s.p * (h - (s.p * h).sum(-1, keepdims=True))


def reverse_kl_gradient(s):
    return along(s, np.log(s.p / softmax(s.teachers[0])))


def jsd_gradient(s, beta=0.5):
    if beta == 0:
        return towards(s, 1.0, s.teachers[0])
    t = softmax(s.teachers[0])
    if beta == 1:
        return reverse_kl_gradient(s)
    return along(s, (1 - beta) * np.log(s.p / (beta * t + (1 - beta) * s.p)))


def skew_kl_gradient(s, alpha=0.1):
    t = softmax(s.teachers[0])
    return along(s, (alpha - 1) * t / (alpha * t + (1 - alpha) * s.p))


def skew_reverse_kl_gradient(s, alpha=0.1):
    mixed = alpha * s.p + (1 - alpha) * softmax(s.teachers[0])
    return along(s, np.log(s.p / mixed) - alpha * s.p / mixed)


def todi_gradient(s):
    ratio = softmax(s.teachers[0]) / s.p
    alpha = ratio / (1 + ratio)
    return along(s, -alpha * ratio + (1 - alpha) * (1 - np.log(ratio)))


def akl_gradient(s, head=0.5):
    t = softmax(s.teachers[0])
    shares = []
    for t_row, p_row in zip(t, s.p, strict=True):
        order = np.argsort(-t_row)
        first = max(1, int((np.cumsum(t_row[order]) <= head).sum()))
        gap = np.abs(t_row - p_row)
        shares.append(gap[order[:first]].sum() / gap.sum())
    share = np.array(shares)[:, None]
    return share * towards(s, 1.0, s.teachers[0]) + (1 - share) * reverse_kl_gradient(s)


def tvd_gradient(s):
    return along(s, np.sign(s.p - softmax(s.teachers[0])) / 2)


def entropy_aware_gradient(s, threshold=0.8):
    undecided = entropy(softmax(s.teachers[0])) > threshold
    return reverse_kl_gradient(s) + undecided[:, None] * towards(s, 1.0, s.teachers[0])


def elr_gradient(s, weight=3.0):
    r = softmax(s.reference)
    return s.p - s.onehot - weight * along(s, r) / (1 - (s.p * r).sum(-1, keepdims=True))


def sed_sft_weight(s, strength=0.2, top_k=10, threshold=0.95):
    undecided = np.sort(s.p)[:, -top_k:].sum(-1) < threshold
    return 1 - strength * undecided * s.p_y * (2 * s.p_y - 1)
