"""The named statistics that rules may read, and their plain definitions over whole distributions.

Each is one number per supervised token, computed without gradients. The fused path measures the same names chunk by
chunk (`rows.py`) and is held to these definitions by test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qtarget.target.evidence import Dense, Evidence, Head, LabelOnly, Sparse, SupervisedTokens
from qtarget.target.types import FLOOR, Pool, Statistic

LOGP_Y = Statistic("logp_y")
LOG_NOT_Y = Statistic("log_not_y")
ENTROPY = Statistic("entropy")
COLLISION = Statistic("collision")
REFERENCE_LOGP_Y = Statistic("reference_logp_y")
REFERENCE_MASS_BELOW = Statistic("reference_mass_below")
TOKEN_WEIGHT = Statistic("token_weight")
SEQUENCE_IDS = Statistic("sequence_ids")
VOCABULARY = Statistic("vocabulary")
TRUST = Statistic("trust")
SCALE = Statistic("scale")


def top_k_entropy(k: int) -> Statistic:
    """Entropy of the student's k most likely tokens, renormalised; nats."""
    return Statistic("top_k_entropy", k)


def cross(pool: Pool) -> Statistic:
    """E_π̃[log p]; nats."""
    return Statistic("cross", pool)


def negentropy(pool: Pool) -> Statistic:
    """E_π̃[log π̃]; nats."""
    return Statistic("negentropy", pool)


def label_logp(pool: Pool) -> Statistic:
    """log π̃_y; nats."""
    return Statistic("label_logp", pool)


def potential_mass(pool: Pool) -> Statistic:
    """E[e^φ] under the pool without its potential φ."""
    return Statistic("potential_mass", pool)


@dataclass(frozen=True)
class Frame(Mapping[Statistic, Tensor]):
    """Everything known about T tokens, as whole distributions; statistics are measured when first asked for."""

    logp_TV: Tensor
    tokens: SupervisedTokens
    measured: dict[Statistic, Tensor] = field(default_factory=dict)

    def __getitem__(self, statistic: Statistic) -> Tensor:
        if statistic not in self.measured:
            self.measured[statistic] = MEASURES[statistic.name](self, statistic.of)
        return self.measured[statistic]

    def __iter__(self) -> Iterator[Statistic]:
        return iter(self.measured)

    def __len__(self) -> int:
        return len(self.measured)

    @property
    def support_TV(self) -> Tensor:
        """Tokens that the student can produce; no pool puts mass elsewhere."""
        return self.logp_TV > FLOOR / 2

    @property
    def reference_TV(self) -> Tensor:
        assert self.tokens.reference is not None
        return log_distribution(self.tokens.reference, self.logp_TV)

    def teacher_TV(self, index: int) -> Tensor:
        return log_distribution(self.tokens.teachers[index], self.logp_TV)

    def pick(self, values_TV: Tensor) -> Tensor:
        """The label's column, [T]."""
        return values_TV.gather(-1, self.tokens.labels_T[:, None]).squeeze(-1)


def log_distribution(evidence: Evidence, logp_TV: Tensor) -> Tensor:
    """A source's log-probabilities over the student's vocabulary, [T, V]; tokens it lacks get no mass."""
    if isinstance(evidence, Sparse):
        return _spread_out(evidence, logp_TV)
    assert not isinstance(evidence, LabelOnly)
    logits = dense_logits(evidence).to(logp_TV.dtype) if isinstance(evidence, Dense) else evidence
    missing = logp_TV.shape[-1] - logits.shape[-1]
    if missing < 0:
        raise ValueError(
            f"evidence covers {logits.shape[-1]} tokens, the student's vocabulary has {logp_TV.shape[-1]}; "
            f"pass logits[..., :{logp_TV.shape[-1]}] if the further columns are padding"
        )
    logits = torch.nn.functional.pad(logits.to(logp_TV.dtype), (0, missing), value=-torch.inf)
    return logits.log_softmax(-1).clamp(min=FLOOR)


def dense_logits(source: Dense) -> Tensor:
    """A dense source's logits, [T, V], in the wider of its two dtypes."""
    dtype = torch.promote_types(source.hidden.dtype, source.head.weight.dtype)
    bias = None if source.head.bias is None else source.head.bias.to(dtype)
    head = source.head._replace(weight=source.head.weight.to(dtype), bias=bias)
    return head.axis.whole(head_logits(source.hidden.to(dtype), head))[..., : source.vocab]


def head_logits(hidden: Tensor, head: Head) -> Tensor:
    """The logits an output layer gives, [..., V]."""
    logits = torch.nn.functional.linear(hidden, head.weight, head.bias)
    logits = logits if head.scale is None else logits * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def _spread_out(evidence: Sparse, logp_TV: Tensor) -> Tensor:
    """The K kept tokens as they are, and the tail over the others in its shape."""
    shape_TV = (
        logp_TV if evidence.tail == "student" else torch.zeros_like(logp_TV).masked_fill(logp_TV <= FLOOR / 2, FLOOR)
    )
    log_rest = shape_TV.scatter(-1, evidence.ids, -torch.inf).logsumexp(-1).clamp(min=FLOOR)
    tail_TV = (shape_TV + (evidence.log_tail.to(logp_TV.dtype) - log_rest)[:, None]).clamp(min=FLOOR)
    return tail_TV.scatter(-1, evidence.ids, evidence.logprobs.to(logp_TV.dtype).clamp(min=FLOOR))


def temperature_of(evidence: Evidence | None) -> float:
    """The temperature that a source's distribution was kept at: t to the power a is that one to a·T."""
    return evidence.temperature if isinstance(evidence, Sparse) else 1.0


def pool_logp(pool: Pool, frame: Frame) -> Tensor:
    """log π̃ of a log-linear pool, [T, V] (its tangent, if any, set aside)."""
    exponent_TV = log_linear(pool, frame).masked_fill(~frame.support_TV, FLOOR)
    return exponent_TV.log_softmax(-1).clamp(min=FLOOR)


def log_linear(pool: Pool, frame: Frame) -> Tensor:
    """Σ exponents · log sources + φ, unnormalised, [T, V]."""
    out = torch.zeros_like(frame.logp_TV)
    if pool.student:
        out = out + pool.student * frame.logp_TV
    if pool.reference:
        out = out + pool.reference * temperature_of(frame.tokens.reference) * frame.reference_TV
    for index, exponent in enumerate(pool.teachers):
        if exponent:
            out = out + exponent * temperature_of(frame.tokens.teachers[index]) * frame.teacher_TV(index)
    return out if pool.potential is None else out + potential(pool, frame)


def potential(pool: Pool, frame: Frame) -> Tensor:
    """φ of a pool, [T, V]."""
    assert pool.potential is not None
    is_label_TV = torch.zeros_like(frame.logp_TV, dtype=torch.bool).scatter(-1, frame.tokens.labels_T[:, None], True)
    return pool.potential(frame.logp_TV, frame[LOGP_Y][:, None], is_label_TV)


def _log_not_y(frame: Frame) -> Tensor:
    rest = frame.logp_TV.scatter(-1, frame.tokens.labels_T[:, None], -torch.inf)
    return rest.logsumexp(-1).clamp(min=FLOOR)


def _top_k_entropy(frame: Frame, k: int) -> Tensor:
    top = frame.logp_TV.topk(min(k, frame.logp_TV.shape[-1]), -1).values.log_softmax(-1).clamp(min=FLOOR)
    return -(top.exp() * top).sum(-1)


def _reference_logp_y(frame: Frame) -> Tensor:
    reference = frame.tokens.reference
    if isinstance(reference, LabelOnly):
        return reference.logprobs.to(frame.logp_TV.dtype).clamp(min=FLOOR)
    return frame.pick(frame.reference_TV)


def _teacher_logp_y(frame: Frame, index: int) -> Tensor:
    teacher = frame.tokens.teachers[index]
    if isinstance(teacher, LabelOnly):
        return teacher.logprobs.to(frame.logp_TV.dtype).clamp(min=FLOOR)
    return frame.pick(frame.teacher_TV(index))


def _teacher_entropy(frame: Frame, index: int) -> Tensor:
    teacher = frame.tokens.teachers[index]
    if isinstance(teacher, Sparse) and teacher.entropy is not None:
        return teacher.entropy.to(frame.logp_TV.dtype)
    return -(frame.teacher_TV(index).exp() * frame.teacher_TV(index)).sum(-1)


def _reference_mass_below(frame: Frame) -> Tensor:
    logr_TV = frame.reference_TV
    return (logr_TV.exp() * (logr_TV <= frame.pick(logr_TV)[:, None])).sum(-1)


def _cross(frame: Frame, pool: Pool) -> Tensor:
    return (term_TV(pool, frame) * frame.logp_TV).sum(-1)


def term_TV(pool: Pool, frame: Frame) -> Tensor:
    """π̃, or its tangent π̃∘(ℓ − E_π̃ ℓ), [T, V]."""
    logp_TV = pool_logp(pool, frame)
    prob_TV = logp_TV.exp()
    if pool.tangent is None:
        return prob_TV
    slope_TV = log_linear(pool.tangent, frame)
    return prob_TV * (slope_TV - (prob_TV * slope_TV).sum(-1, keepdim=True))


def _negentropy(frame: Frame, pool: Pool) -> Tensor:
    logp_TV = pool_logp(pool, frame)
    return (logp_TV.exp() * logp_TV).sum(-1)


def _potential_mass(frame: Frame, pool: Pool) -> Tensor:
    bare = Pool(pool.student, pool.reference, pool.teachers)
    return (pool_logp(bare, frame).exp() * potential(pool, frame).exp()).sum(-1)


def _token_weight(frame: Frame) -> Tensor:
    assert frame.tokens.token_weight_T is not None
    return frame.tokens.token_weight_T.to(frame.logp_TV.dtype)


def _sequence_ids(frame: Frame) -> Tensor:
    assert frame.tokens.sequence_ids_T is not None
    return frame.tokens.sequence_ids_T


MEASURES: dict[str, Callable[[Frame, Any], Tensor]] = {
    "logp_y": lambda frame, _: frame.pick(frame.logp_TV),
    "log_not_y": lambda frame, _: _log_not_y(frame),
    "entropy": lambda frame, _: -(frame.logp_TV.exp() * frame.logp_TV).sum(-1),
    "top_k_entropy": _top_k_entropy,
    "collision": lambda frame, _: (2 * frame.logp_TV).exp().sum(-1),
    "reference_logp_y": lambda frame, _: _reference_logp_y(frame),
    "reference_mass_below": lambda frame, _: _reference_mass_below(frame),
    "teacher_logp_y": _teacher_logp_y,
    "teacher_entropy": _teacher_entropy,
    "token_weight": lambda frame, _: _token_weight(frame),
    "sequence_ids": lambda frame, _: _sequence_ids(frame),
    "vocabulary": lambda frame, _: frame.support_TV.sum(-1).to(frame.logp_TV.dtype),
    "cross": _cross,
    "negentropy": _negentropy,
    "label_logp": lambda frame, pool: frame.pick(pool_logp(pool, frame)),
    "potential_mass": _potential_mass,
}
