"""The papers' losses against worked values, closed-form gradients, central differences and torch's losses."""

import inspect
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from laws.papers import PAPER_LOSSES, ROWS, Row

torch.set_num_threads(1)
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


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def entropy(p):
    return -(p * np.log(p)).sum(-1)


def a_draw(seed=0):
    rng = np.random.default_rng(seed)
    logits, reference, *teachers = rng.normal(0, 1.5, (4, TOKENS, VOCAB))
    reference = logits + 0.6 * reference  # a policy near the student: ratios on both sides of 1
    labels = np.where(np.arange(TOKENS) % 3 == 0, logits.argmax(-1), rng.integers(0, VOCAB, TOKENS))
    logits[0] *= 1.6  # one confident token
    weight = (np.arange(TOKENS) % 2).astype(float)
    return Draw(logits, labels, reference, tuple(teachers), weight, np.array(SEQUENCES))


def num_teachers(row):
    eta = row.hyperparameters.get("eta")
    return len(eta) if isinstance(eta, tuple) else 1


def run(row, draw, logits=None, **changed):
    """The paper's per-token loss on `draw`; `changed` replaces evidence."""
    logits = torch.tensor(draw.logits) if logits is None else logits
    evidence = {
        "teacher": tuple(torch.tensor(t) for t in draw.teachers[: num_teachers(row)]),
        "reference": torch.tensor(draw.reference),
        "token_weight": torch.tensor(draw.token_weight),
        "sequence_ids": torch.tensor(draw.sequence_ids),
        **changed,
    }
    return PAPER_LOSSES[row.name](logits, torch.tensor(draw.labels), **evidence, **row.hyperparameters)


def gradient(row, draw, **changed):
    logits = torch.tensor(draw.logits, requires_grad=True)
    run(row, draw, logits, **changed).sum().backward()
    return logits.grad.numpy()


def label_of(row):
    return row.name + "".join(f" {key}={value}" for key, value in row.hyperparameters.items())


every_row = pytest.mark.parametrize("row", ROWS, ids=label_of)

# --- Closed-form gradients: w (p - onehot) for the weighted likelihoods ---------------------------------


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


WEIGHTS = {
    "sft": lambda s: np.ones(TOKENS),
    "dft": lambda s: s.p_y,
    "beyond-log": lambda s, alpha=0.5: s.p_y**alpha,
    "profit": lambda s, threshold=0.1: np.where(s.p_y > threshold, 1.0, 0.0),
    "eaft": eaft_weight,
    "iw-sft": iw_sft_weight,
    "cft": lambda s: s.token_weight,
    "psft": psft_weight,
    "deft": lambda s: s.p_y ** (s.p**2).sum(-1),
    "idft": idft_weight,
    "prift": prift_weight,
    "talr": talr_weight,
    "focal": focal_weight,
    "beyond-log-threshold": threshold_weight,
    "log-one-minus-p": lambda s, weight_max=1e4: np.minimum(s.p_y / (1 - s.p_y), weight_max),
    "entropy-selected": lambda s, share=0.2: highest(entropy(s.p), share),
    "excess-loss-selected": lambda s, share=0.6: highest(-log_ratio(s), share),
}


def gem_gradient(s, beta=0.7, h="linear"):
    gap = s.logits - s.at_label(s.logits)[:, None]
    weight = 1.0 if h == "linear" else 1 / (1 + np.exp(-0.01 * gap))
    weighted_q = softmax(s.logits / beta) * weight
    return weighted_q - weighted_q.sum(-1, keepdims=True) * s.onehot


def kd_gradient(s, temperature=1.0):
    return temperature * (softmax(s.logits / temperature) - softmax(s.teachers[0] / temperature))


def target_sft_gradient(s, eta=0.5):
    etas = eta if isinstance(eta, tuple) else (eta,)
    pool = s.p ** (1 - sum(etas))
    for exponent, teacher in zip(etas, s.teachers, strict=False):
        pool = pool * softmax(teacher) ** exponent
    p_y = s.p_y[:, None]
    return s.p - p_y * s.onehot - (1 - p_y) * pool / pool.sum(-1, keepdims=True)


def gift_gradient(s, beta=20.0, smoothing=0.0, floor=0.0):
    r = (1 - smoothing) * softmax(s.reference) + smoothing / VOCAB + floor
    r = r / r.sum(-1, keepdims=True)
    gain = (np.exp(beta) - 1) * s.at_label(r)[:, None]
    return s.p - (gain * s.onehot + r) / (1 + gain)


def towards(s, weight, source_logits):
    return weight * (s.p - softmax(source_logits))


def confidence_penalty_gradient(s, weight=0.1):
    return s.p - s.onehot + weight * s.p * (np.log(s.p) + entropy(s.p)[:, None])


GRADIENTS = {
    "label-smoothing": lambda s, smoothing=0.1: s.p - (1 - smoothing) * s.onehot - smoothing / VOCAB,
    "sft-kl": lambda s, kl_weight=0.1: s.p - s.onehot + towards(s, kl_weight, s.reference),
    "asft": lambda s, kl_weight=0.05: s.p_y[:, None] * (s.p - s.onehot) + towards(s, kl_weight, s.reference),
    "gem": gem_gradient,
    "kd": kd_gradient,
    "kd-hybrid": lambda s, teacher_weight=0.5: (
        (1 - teacher_weight) * (s.p - s.onehot) + towards(s, teacher_weight, s.teachers[0])
    ),
    "target-sft": target_sft_gradient,
    "gift": gift_gradient,
    "confidence-penalty": confidence_penalty_gradient,
}


@every_row
def test_gradient_is_the_closed_form(row):
    draw = a_draw()
    if row.name in WEIGHTS:
        weight_T = WEIGHTS[row.name](draw, **row.hyperparameters)
        expected = weight_T[:, None] * (draw.p - draw.onehot)
    else:
        expected = GRADIENTS[row.name](draw, **row.hyperparameters)
    np.testing.assert_allclose(gradient(row, draw), expected, rtol=1e-9, atol=1e-12)


# --- Values ---------------------------------------------------------------------------------------------

LN2, LN3, E20 = math.log(2), math.log(3), math.exp(20)
KL_REFERENCE = 3 / 8 * LN3 - LN2 / 2
GEM_MODE = 1 / (1 + 2 * 2 ** (-1 / 0.7))  # q of the most probable token at β = 0.7
SQRT2 = math.sqrt(2)

# p = (1/2, 1/4, 1/4), y = 1, r = (1/2, 1/8, 3/8), t = (1/4, 1/2, 1/4): -log p_y = 2 ln 2, H(p) = 3/2 ln 2.
WORKED_VALUES = {
    "sft": 2 * LN2,
    "dft": LN2 / 2,
    "beyond-log": 1.0,
    "profit": 2 * LN2,
    "eaft": 3 * LN2**2 / LN3,
    "iw-sft": 4 * LN2,
    "cft": 2 * LN2,
    "label-smoothing": 1.8 * LN2 + 0.1 * 5 / 3 * LN2,
    "sft-kl": 2 * LN2 + 0.1 * KL_REFERENCE,
    "asft": LN2 / 2 + 0.05 * KL_REFERENCE,
    "psft": -1.28,
    "gem": GEM_MODE * LN2,
    "kd": 1.75 * LN2,
    "kd-hybrid": 1.125 * LN2,
    "target-sft": LN2 / 2 + 0.75 * LN2 * (3 * SQRT2 + 2) / (1 + 2 * SQRT2),
    "gift": (2 * LN2 * E20 / 8 + 5 / 4 * LN2) / (E20 / 8 + 7 / 8),
    "deft": (1 - 0.25**0.375) / 0.375,
    "idft": 0.25**SQRT2 * 2 * LN2,
    "prift": LN2 / 4,
    "talr": 2 * LN2 / math.e,
    "focal": 9 / 8 * LN2,
    "beyond-log-threshold": 0.75,
    "log-one-minus-p": math.log(0.75),
    "entropy-selected": 2 * LN2,
    "excess-loss-selected": 2 * LN2,
    "confidence-penalty": 1.85 * LN2,
}


@pytest.mark.parametrize("name", PAPER_LOSSES)
def test_value_at_defaults_is_the_worked_one(name):
    def logits_of(*probabilities):
        return torch.tensor([probabilities], dtype=torch.float64).log() + 0.7

    loss = PAPER_LOSSES[name](
        logits_of(1 / 2, 1 / 4, 1 / 4),
        torch.tensor([1]),
        teacher=(logits_of(1 / 4, 1 / 2, 1 / 4),),
        reference=logits_of(1 / 2, 1 / 8, 3 / 8),
        token_weight=torch.ones(1, dtype=torch.float64),
        sequence_ids=torch.zeros(1, dtype=torch.long),
    )
    assert loss.tolist() == [pytest.approx(WORKED_VALUES[name], rel=1e-12)]


# Those whose stop-gradients leave the derivative of the value: there value and gradient check each other.
DIFFERENTIABLE = {
    "sft", "beyond-log", "profit", "cft", "label-smoothing", "sft-kl", "psft", "kd", "kd-hybrid", "gift",
    "prift", "focal", "beyond-log-threshold", "log-one-minus-p", "confidence-penalty",
}  # fmt: skip
DIFFERENTIABLE_ROWS = [
    row for row in ROWS if row.name in DIFFERENTIABLE and not {"detached", "weight_max"} & row.hyperparameters.keys()
]


@pytest.mark.parametrize("row", DIFFERENTIABLE_ROWS, ids=label_of)
def test_gradient_is_the_value_s_central_difference(row):
    draw = a_draw()
    logits = torch.tensor(draw.logits, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: run(row, draw, z), logits, atol=1e-7)


def test_values_agree_with_torch():
    draw = a_draw()
    logits, labels, teacher = map(torch.tensor, (draw.logits, draw.labels, draw.teachers[0]))
    smoothed = F.cross_entropy(logits, labels, reduction="none", label_smoothing=0.3)
    torch.testing.assert_close(run(Row("label-smoothing", {"smoothing": 0.3}), draw), smoothed)
    soft = (teacher / 2).softmax(-1)
    divergence = F.kl_div((logits / 2).log_softmax(-1), soft, reduction="none").sum(-1)
    soft_entropy = torch.distributions.Categorical(soft).entropy()
    torch.testing.assert_close(run(Row("kd", {"temperature": 2.0}), draw), 4 * (divergence + soft_entropy))
    model_entropy = torch.distributions.Categorical(logits=logits).entropy()
    penalised = F.cross_entropy(logits, labels, reduction="none") - 0.5 * model_entropy
    torch.testing.assert_close(run(Row("confidence-penalty", {"weight": 0.5}), draw), penalised)


def test_capped_log_one_minus_p_keeps_its_value_and_stays_finite():
    draw = a_draw()
    capped, natural = Row("log-one-minus-p", {"weight_max": 0.3}), Row("log-one-minus-p", {})
    torch.testing.assert_close(run(capped, draw), run(natural, draw), rtol=0, atol=0)
    certain = draw._replace(logits=1e4 * draw.onehot)
    assert np.isfinite(gradient(natural, certain)).all()


WITHOUT_EFFECT = {("psft", "clip_low")}  # with the advantage at 1 the lower clip never acts
NAMED = [(row, key) for row in ROWS for key in row.hyperparameters]


@pytest.mark.parametrize(("row", "key"), NAMED, ids=[f"{label_of(row)}: {key}" for row, key in NAMED])
def test_every_hyperparameter_of_a_row_acts(row, key):
    """Back at its default it gives another value or gradient on this draw, so a row does check it."""
    draw = a_draw()
    reset = Row(row.name, {k: v for k, v in row.hyperparameters.items() if k != key})
    same = torch.equal(run(row, draw), run(reset, draw)) and ((gradient(row, draw) == gradient(reset, draw)).all())
    assert same == ((row.name, key) in WITHOUT_EFFECT)


DEFAULTS = {
    "beyond-log": {"alpha": 0.5},
    "profit": {"threshold": 0.1},
    "eaft": {"top_k": 20, "power": 1.0, "normalizer": "log_k"},
    "iw-sft": {"temperature": 1.0, "clip_max": 16.0},
    "label-smoothing": {"smoothing": 0.1},
    "sft-kl": {"kl_weight": 0.1},
    "asft": {"kl_weight": 0.05},
    "psft": {"clip_low": 0.2, "clip_high": 0.28},
    "gem": {"beta": 0.7, "h": "linear"},
    "kd": {"temperature": 1.0},
    "kd-hybrid": {"teacher_weight": 0.5},
    "target-sft": {"eta": 0.5},
    "gift": {"beta": 20.0, "smoothing": 0.0, "floor": 0.0},
    "idft": {"beta": 1.0, "exponent_min": 0.1, "exponent_max": 2.0},
    "prift": {"variant": "prob", "mass_threshold": 0.5},
    "talr": {"floor": 0.01},
    "focal": {"focusing": 2.0, "detached": False},
    "beyond-log-threshold": {"alpha": 1.0, "threshold": 0.2, "keep": "top"},
    "log-one-minus-p": {"weight_max": 1e4},
    "entropy-selected": {"share": 0.2},
    "excess-loss-selected": {"share": 0.6},
    "confidence-penalty": {"weight": 0.1},
}


@pytest.mark.parametrize("name", PAPER_LOSSES)
def test_hyperparameters_have_the_published_defaults_and_a_row_off_them(name):
    evidence = {"logits_TV", "labels_T", "teacher", "reference", "token_weight", "sequence_ids"}
    parameters = inspect.signature(PAPER_LOSSES[name]).parameters
    defaults = {key: p.default for key, p in parameters.items() if key not in evidence}
    assert defaults == DEFAULTS.get(name, {})
    rows = [row.hyperparameters for row in ROWS if row.name == name]
    assert {} in rows
    assert {key for given in rows for key, value in given.items() if value != defaults[key]} == defaults.keys()


def test_iw_sft_takes_the_trajectory_weight_in_place_of_a_reference():
    draw = a_draw()._replace(token_weight=np.linspace(0, 30, TOKENS))
    expected = draw.token_weight[:, None] * (draw.p - draw.onehot)
    np.testing.assert_allclose(gradient(Row("iw-sft", {}), draw, reference=None), expected, atol=1e-12)


@every_row
def test_no_gradient_reaches_the_evidence(row):
    draw = a_draw()
    reference = torch.tensor(draw.reference, requires_grad=True)
    teacher = tuple(torch.tensor(t, requires_grad=True) for t in draw.teachers[: num_teachers(row)])
    logits = torch.tensor(draw.logits, requires_grad=True)
    run(row, draw, logits, reference=reference, teacher=teacher).sum().backward()
    assert logits.grad is not None
    assert [evidence.grad for evidence in (reference, *teacher)] == [None] * (1 + num_teachers(row))


def test_an_unknown_hyperparameter_is_refused():
    with pytest.raises(TypeError, match="thresold"):
        run(Row("profit", {"thresold": 0.3}), a_draw())
