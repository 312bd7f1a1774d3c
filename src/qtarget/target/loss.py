"""The definition: the target and the loss from whole logits, plain and differentiable. `fused/` is its fast twin.

    Q = γ·onehot(y) + Σ_j c_j·π̃_j        loss = Σ_t s_t·CE(Q_t, p_t) / num_items        ∂L/∂z = s·(p − Q)

Q and s are under stop-gradient; the value reported is the paper's own (see `Method.value`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from qtarget.target.evidence import CallInputs, Evidence, SupervisedTokens
from qtarget.target.frame import Frame, term_TV
from qtarget.target.inputs import method_to_run, supervised_tokens
from qtarget.target.pool import FLOOR
from qtarget.target.rule import value_of
from qtarget.target.statistics import ENTROPY, LOG_NOT_Y, LOGP_Y, SCALE, TOP1, TRUST
from qtarget.target.types import LossOutput, Method, Target

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
    progress: float | Tensor | None = None,
    position: Tensor | None = None,
    num_items: int | Tensor | None = None,
    ignore_index: int = -100,
) -> LossOutput:
    """The loss of a method over whole logits: the definition.

    Args:
        logits: [..., V]; nothing is shifted.  labels: [...] token ids, `ignore_index` where not supervised.
        teacher, reference: logits [..., V], `Dense`, `Sparse` or `LabelOnly`; a tuple of several teachers.
        token_weight: [...] ≥ 0, multiplies the scale (cft reads it as trust); weightless tokens stay in the
        denominator. sequence_ids: [...] equal within a sequence, for methods that look at whole sequences.
        progress: the share of a run's optimizer steps that are done, 0 to 1, for schedules: one number, the same for
        all calls of a step.  position: [...] from 0 at a completion's first token to 1 at its last.
        num_items: what the sum is divided by; by default the count of supervised tokens.

    Returns:
        LossOutput with diagnostics trust, scale, p_y, logp_y, top1, entropy and target_kl (NaN where Q is improper).

    Raises:
        ValueError: evidence the method needs is missing, shapes disagree, or a label is no token id.
    """
    given = CallInputs(teacher, reference, token_weight, sequence_ids, progress=progress, position=position)
    dropping = logits.requires_grad and torch.is_grad_enabled()
    method, tokens, logp_TV = _begin(logits, labels, method, given, ignore_index, dropping)
    frame = Frame(logp_TV.detach(), tokens)
    target = declared_target(method, frame)
    multiplier_T = tokens.multiplier(method.weight_is_trust, logp_TV.dtype)
    scale_T = target.scale * multiplier_T
    label_T = _sure_label_logp(logits, tokens) if method.signed_weights else frame.pick(logp_TV)
    pull_T = scale_T * _cross_entropy(method, frame, target, logp_TV, label_T)
    value_T = multiplier_T * method_value(method, frame, target)
    total = pull_T.sum() + (value_T.sum() - pull_T.detach().sum())
    count = tokens.denominator(num_items)
    nll, num_tokens = tokens.mean(-frame[LOGP_Y])
    diagnostics = {
        "trust": target.trust,
        "scale": scale_T,
        "p_y": frame[LOGP_Y].exp(),
        "logp_y": frame[LOGP_Y],
        "top1": frame[TOP1],
        "entropy": frame[ENTROPY],
        "target_kl": target_kl(target.q, frame.logp_TV),
    }
    return LossOutput(
        loss=total / count,
        nll=nll,
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
    progress: float | Tensor | None = None,
    position: Tensor | None = None,
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
    given = CallInputs(teacher, reference, token_weight, sequence_ids, progress=progress, position=position)
    method, tokens, logp_TV = _begin(logits.detach(), labels, method, given, ignore_index, False)
    frame = Frame(logp_TV, tokens)
    declared = declared_target(method, frame)
    declared = declared._replace(scale=declared.scale * tokens.multiplier(method.weight_is_trust, logp_TV.dtype))
    target = READINGS[reading](frame, declared, _gap(method, frame, declared))
    return Target(*(tokens.unflatten(part) for part in target))


def declared_target(method: Method, frame: Frame) -> Target:
    """The method's own (γ, π̃, s) over T tokens; the scale without token weights."""
    trust_T, scale_T, *coefficients = (per_token(value_of(n, frame), frame[LOGP_Y]) for n in method.numbers)
    check_mass(method, trust_T, coefficients)
    q = torch.zeros_like(frame.logp_TV).scatter(-1, frame.tokens.labels_T[:, None], trust_T[:, None])
    for coefficient_T, (_, pool) in zip(coefficients, method.residual, strict=True):
        q = q + coefficient_T[:, None] * term_TV(pool, frame)
    return Target(q, scale_T, trust_T, is_proper(q))


def check_mass(method: Method, trust_T: Tensor, coefficients: Sequence[Tensor]) -> None:
    """Refuse a composed method whose trust and coefficients do not sum to 1. Not checked on an accelerator."""
    whole = [c for c, term in zip(coefficients, method.residual, strict=True) if term.pool.tangent is None]
    total_T = trust_T + sum(whole, torch.zeros_like(trust_T))
    size_T = 1 + trust_T.abs() + sum((c.abs() for c in whole), torch.zeros_like(trust_T))
    if trust_T.device.type == "cpu" and bool(((total_T - 1).abs() > 1e-3 * size_T).any()):
        worst = total_T[(total_T - 1).abs().argmax()].item()
        raise ValueError(
            f'method "{method.name}": trust and coefficients sum to {worst:.4g} at some token, and must sum to 1; '
            f"write residual=qtarget.residual.rest(trust, pool), or coefficients that add up to 1 - trust"
        )


def _sure_label_logp(logits: Tensor, tokens: SupervisedTokens) -> Tensor:
    """log p_y, [T], from the odds against the label: its gradient is exact where p_y is nearly 1, and −γ is 1e8."""
    rows_TV, label_T1 = _rows(logits, tokens), tokens.labels_T[:, None]
    others_T = _Floor.apply(rows_TV.scatter(-1, label_T1, -torch.inf)).logsumexp(-1)
    return _Floor.apply(-torch.nn.functional.softplus(others_T - rows_TV.gather(-1, label_T1).squeeze(-1)))


def _cross_entropy(method: Method, frame: Frame, target: Target, logp_TV: Tensor, label_T: Tensor) -> Tensor:
    """CE(Q, p) up to a constant, [T]: the student's own share is left out.

    Its gradient is zero, and in the sum it would drown a small trust in rounding: dft at p_y = 1e-9 in fp32.
    """
    out_T = -target.trust * label_T
    for number, pool in method.residual:
        if not pool.is_student:
            coefficient_T = per_token(value_of(number, frame), frame[LOGP_Y])
            out_T = out_T - coefficient_T * (term_TV(pool, frame) * logp_TV).sum(-1)
    return out_T


def _gap(method: Method, frame: Frame, target: Target) -> Tensor:
    """p − Q, [T, V], as γ(p − onehot) + Σ c_j(p − π̃_j), which the student's own terms leave by themselves."""
    p_TV = frame.logp_TV.exp()
    label_T1 = frame.tokens.labels_T[:, None]
    gap_TV = target.trust[:, None] * p_TV.scatter(-1, label_T1, -frame[LOG_NOT_Y].exp()[:, None])
    for number, pool in method.residual:
        if not pool.is_student:
            toward_TV = term_TV(pool, frame)
            share = per_token(value_of(number, frame), frame[LOGP_Y])[:, None]
            gap_TV = gap_TV + share * (p_TV - toward_TV if pool.tangent is None else -toward_TV)
    return gap_TV


def method_value(method: Method, frame: Frame, target: Target) -> Tensor:
    """The loss as its paper states it, per token before token weights; s·CE(Q, p) where a method states none."""
    if method.value is None:
        return target.scale * -(target.q * frame.logp_TV).sum(-1)
    frame.measured.update({TRUST: target.trust, SCALE: target.scale})
    return per_token(method.value(frame), frame[LOGP_Y])


class _Floor(torch.autograd.Function):
    """`FLOOR` in the place of minus infinity. The gradient passes as if it stood there: that of a loss at a label the
    student cannot produce is s(p − Q) too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logp_TV: Tensor) -> Tensor:
        return logp_TV.clamp(min=FLOOR)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, grad_TV: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad_TV


def target_kl(q_TV: Tensor, logp_TV: Tensor) -> Tensor:
    """KL(Q‖p) in nats, [T]; NaN where Q is improper."""
    gap_TV = torch.special.xlogy(q_TV.clamp(min=0), q_TV.clamp(min=0)) - q_TV * logp_TV
    return gap_TV.sum(-1).masked_fill(~is_proper(q_TV), torch.nan)


def is_proper(q_TV: Tensor) -> Tensor:
    """Whether no entry is negative, to rounding; [T]."""
    return (q_TV >= IMPROPER.get(q_TV.dtype, -1e-6)).all(-1)


def _declared(frame: Frame, target: Target, gap_TV: Tensor) -> Target:
    return target


def _strict(frame: Frame, target: Target, gap_TV: Tensor) -> Target:
    q = frame.logp_TV.exp() - target.scale[:, None] * gap_TV
    return Target(q, torch.ones_like(target.scale), frame.pick(q), is_proper(q))


def _minimal(frame: Frame, target: Target, gap_TV: Tensor) -> Target:
    p_TV = frame.logp_TV.exp()
    ratio_T = (gap_TV / p_TV).nan_to_num(nan=0.0, neginf=0.0).amax(-1).clamp(min=0)
    scale_T = target.scale * ratio_T
    q = (p_TV - gap_TV / ratio_T.where(ratio_T > 0, 1.0)[:, None]).where(scale_T[:, None] > 0, p_TV)
    return Target(q, scale_T, frame.pick(q), is_proper(q))


READINGS: dict[str, Callable[[Frame, Target, Tensor], Target]] = {
    "declared": _declared,
    "strict": _strict,
    "minimal": _minimal,
}


def _begin(
    logits: Tensor, labels: Tensor, method: Method, given: CallInputs, ignore_index: int, drop_weightless: bool
) -> tuple[Method, SupervisedTokens, Tensor]:
    """The method that will run, the supervised tokens, and their log-probabilities [T, V] in at least fp32."""
    _check_logits(logits, labels)
    method = method_to_run(method, given)
    tokens = supervised_tokens(labels, method, logits.shape[-1], given, ignore_index, drop_weightless)
    return method, tokens, _Floor.apply(_rows(logits, tokens).log_softmax(-1))


def _rows(logits: Tensor, tokens: SupervisedTokens) -> Tensor:
    """The logits of the supervised tokens, [T, V], in at least fp32."""
    rows = logits.reshape(-1, logits.shape[-1])[tokens.where]
    return rows if rows.dtype == torch.float64 else rows.float()


def per_token(number: Tensor | float, like_T: Tensor) -> Tensor:
    """A number per token, whether a rule gave one or a constant stands for all; [T]."""
    if not isinstance(number, Tensor):
        number = like_T.new_full((), number)  # filled in there: copied over, it would make the host wait for the device
    return number.to(like_T).expand(like_T.shape)


def _check_logits(logits: Tensor, labels: Tensor) -> None:
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits have shape {list(logits.shape)}, labels {list(labels.shape)}; logits must be "
            f"{[*labels.shape, 'V']}: shift both before the call, for example logits[:, :-1], labels[:, 1:]"
        )
