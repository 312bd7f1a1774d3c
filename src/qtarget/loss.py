"""The definition: the target and the loss from whole logits, plain and differentiable. `fused.py` is its fast twin.

    Q = γ·onehot(y) + Σ_j c_j·π̃_j        loss = Σ_t s_t·CE(Q_t, p_t) / num_items        ∂L/∂z = s·(p − Q)

Q and s are under stop-gradient; the value reported is the paper's own (see `types.Method.value`).
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from qtarget.evidence import Evidence, Supervised, resolve, supervise
from qtarget.statistics import LOGP_Y, SCALE, TRUST, Frame, term_TV
from qtarget.types import FLOOR, LossOutput, Method, Target, evaluate

Reading = Literal["declared", "strict", "minimal"]
IMPROPER = {torch.float64: -1e-12}
"""How far below zero rounding may leave an entry of a proper target; -1e-6 in single precision."""


def q_target_loss(
    logits: Tensor,
    labels: Tensor,
    method: Method,
    *,
    teacher: Evidence | tuple[Evidence, ...] | None = None,
    reference: Evidence | None = None,
    token_weight: Tensor | None = None,
    sequence_ids: Tensor | None = None,
    num_items: int | Tensor | None = None,
    ignore_index: int = -100,
) -> LossOutput:
    """The loss of a method over whole logits: the definition.

    Args:
        logits: [..., V]; nothing is shifted.  labels: [...] token ids, `ignore_index` where not supervised.
        teacher, reference: logits [..., V], `Dense`, `Sparse` or `LabelOnly`; a tuple of several teachers.
        token_weight: [...] ≥ 0, multiplies the scale (cft reads it as trust); weightless tokens stay in the denominator.
        sequence_ids: [...] equal within a sequence, for methods that look at whole sequences.
        num_items: what the sum is divided by; by default the count of supervised tokens.

    Returns:
        LossOutput with diagnostics trust, scale, p_y, entropy and target_kl (NaN where Q is improper).

    Raises:
        ValueError: evidence the method needs is missing, shapes disagree, or a label is no token id.
    """
    _check_logits(logits, labels)
    method = resolve(method, reference)
    tokens = supervise(
        labels,
        method,
        logits.shape[-1],
        teacher=teacher,
        reference=reference,
        token_weight=token_weight,
        sequence_ids=sequence_ids,
        ignore_index=ignore_index,
        drop_weightless=logits.requires_grad and torch.is_grad_enabled(),
    )
    logp_TV = _log_probabilities(logits, tokens)
    frame = Frame(logp_TV.detach(), tokens)
    target = declared_target(method, frame)
    multiplier_T = tokens.multiplier(method)
    scale_T = target.scale * multiplier_T
    pull_T = scale_T * -(target.q * logp_TV).sum(-1)
    value_T = multiplier_T * method_value(method, frame, target)
    total = pull_T.sum() + (value_T.sum() - pull_T.detach().sum())
    count = tokens.num_supervised.clamp(min=1) if num_items is None else num_items
    num_tokens = torch.tensor(len(tokens.where), device=logits.device)
    diagnostics = {
        "trust": target.trust,
        "scale": scale_T,
        "p_y": frame[LOGP_Y].exp(),
        "entropy": -(frame.logp_TV.exp() * frame.logp_TV).sum(-1),
        "target_kl": target_kl(target.q, frame.logp_TV),
    }
    return LossOutput(
        loss=total / count,
        nll=-frame[LOGP_Y].sum() / num_tokens.clamp(min=1),
        num_tokens=num_tokens,
        diagnostics={name: tokens.unflatten(values) for name, values in diagnostics.items()},
    )


def target_distribution(
    logits: Tensor,
    labels: Tensor,
    method: Method,
    *,
    teacher: Evidence | tuple[Evidence, ...] | None = None,
    reference: Evidence | None = None,
    token_weight: Tensor | None = None,
    sequence_ids: Tensor | None = None,
    reading: Reading = "declared",
    ignore_index: int = -100,
) -> Target:
    """The target a method pulls the student to, under one of three readings; s·(p − q) is the gradient in each.

    declared: the method's own (γ, π̃, s), as its paper's table states it.
    strict:   s = 1, q = p − g: what the gradient asks for taken literally; depends on the loss's scale.
    minimal:  the smallest s for which q ≥ 0, s* = max_k g_k/p_k; where g = 0, s is 0 and q = p.
    Outside "declared", trust is q_y, the largest γ the target admits. Arguments as in `q_target_loss`.

    Raises:
        ValueError: as `q_target_loss`, and for a reading that is none of the three.
    """
    if reading not in READINGS:
        raise ValueError(f'reading="{reading}" is none of {", ".join(READINGS)}; write reading="declared"')
    _check_logits(logits, labels)
    method = resolve(method, reference)
    tokens = supervise(
        labels,
        method,
        logits.shape[-1],
        teacher=teacher,
        reference=reference,
        token_weight=token_weight,
        sequence_ids=sequence_ids,
        ignore_index=ignore_index,
        drop_weightless=False,
    )
    frame = Frame(_log_probabilities(logits.detach(), tokens), tokens)
    declared = declared_target(method, frame)
    target = READINGS[reading](frame, declared._replace(scale=declared.scale * tokens.multiplier(method)))
    return Target(*(tokens.unflatten(part) for part in target))


def declared_target(method: Method, frame: Frame) -> Target:
    """The method's own (γ, π̃, s) over T tokens; the scale without token weights."""
    like = frame.logp_TV[:, 0]
    trust_T, scale_T, *coefficients = (_spread(evaluate(n, frame), like) for n in method.numbers)
    q = torch.zeros_like(frame.logp_TV).scatter(-1, frame.tokens.labels_T[:, None], trust_T[:, None])
    for coefficient_T, (_, pool) in zip(coefficients, method.residual, strict=True):
        q = q + coefficient_T[:, None] * term_TV(pool, frame)
    return Target(q, scale_T, trust_T, is_proper(q))


def method_value(method: Method, frame: Frame, target: Target) -> Tensor:
    """The loss as its paper states it, per token before token weights; s·CE(Q, p) where a method states none."""
    if method.value is None:
        return target.scale * -(target.q * frame.logp_TV).sum(-1)
    own = {TRUST: target.trust, SCALE: target.scale}
    return _spread(method.value(ChainMap(own, frame)), target.scale)


def target_kl(q_TV: Tensor, logp_TV: Tensor) -> Tensor:
    """KL(Q‖p) in nats, [T]; NaN where Q is improper."""
    gap_TV = torch.special.xlogy(q_TV.clamp(min=0), q_TV.clamp(min=0)) - q_TV * logp_TV
    return gap_TV.sum(-1).masked_fill(~is_proper(q_TV), torch.nan)


def is_proper(q_TV: Tensor) -> Tensor:
    """Whether no entry is negative, to rounding; [T]."""
    return (q_TV >= IMPROPER.get(q_TV.dtype, -1e-6)).all(-1)


def _declared(frame: Frame, target: Target) -> Target:
    return target


def _strict(frame: Frame, target: Target) -> Target:
    p_TV = frame.logp_TV.exp()
    q = p_TV - target.scale[:, None] * (p_TV - target.q)
    return Target(q, torch.ones_like(target.scale), frame.pick(q), is_proper(q))


def _minimal(frame: Frame, target: Target) -> Target:
    p_TV = frame.logp_TV.exp()
    g_TV = target.scale[:, None] * (p_TV - target.q)
    scale_T = (g_TV / p_TV).nan_to_num(nan=0.0, neginf=0.0).amax(-1).clamp(min=0)
    q = (p_TV - g_TV / scale_T.where(scale_T > 0, 1.0)[:, None]).where(scale_T[:, None] > 0, p_TV)
    return Target(q, scale_T, frame.pick(q), is_proper(q))


READINGS: dict[str, Callable[[Frame, Target], Target]] = {
    "declared": _declared,
    "strict": _strict,
    "minimal": _minimal,
}


def _log_probabilities(logits: Tensor, tokens: Supervised) -> Tensor:
    rows = logits.reshape(-1, logits.shape[-1])[tokens.where]
    rows = rows if rows.dtype == torch.float64 else rows.float()
    return rows.log_softmax(-1).clamp(min=FLOOR)


def _spread(number: Tensor | float, like_T: Tensor) -> Tensor:
    return torch.as_tensor(number, dtype=like_T.dtype, device=like_T.device).expand(like_T.shape)


def _check_logits(logits: Tensor, labels: Tensor) -> None:
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits have shape {list(logits.shape)}, labels {list(labels.shape)}; logits must be "
            f"{[*labels.shape, 'V']}: shift both before the call, for example logits[:, :-1], labels[:, 1:]"
        )
