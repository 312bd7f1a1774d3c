"""Puts the loss into the model's forward, so that the hooks of DDP, FSDP, peft and checkpointing fire around it."""

import functools
import types
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

import qtarget as qt
from qtarget.data import EVIDENCE, TEACHER_BATCH, WEIGHT
from qtarget.models.balancing import load_balancing_loss
from qtarget.models.causal_lm import backbone_of
from qtarget.target.evidence import evidence_rows
from qtarget.teacher import eval_mode, head_of
from qtarget.train.instance_forward import instance_forward
from qtarget.train.loss_tokens import LossTokens
from qtarget.train.vocabulary_cut import VocabularyCut

ModelEvidence = qt.Dense | qt.Sparse | qt.LabelOnly

NOT_FOR_MODELS = ("labels", WEIGHT, "row_ids", EVIDENCE, TEACHER_BATCH)
"""Entries of a batch that the loss reads and the model does not."""
WITH_NEXT = (slice(None), slice(None, -1))
"""The positions `[B, S]` that have a next token."""


@dataclass(frozen=True, eq=False)
class TargetCall:
    """What the forward needs to compute the loss. Everything is laid out like `input_ids` `[B, S, ...]`;
    nothing is shifted yet.

    Attributes:
        teachers, reference: at position t, what they expect at t + 1.
        adapter_off: a context in which the student itself is the reference.
        token_weight, sequence_ids, position: `[B, S]`.
        progress: of the run, one number, 0 to 1.
        num_items: the denominator, over ranks and accumulation steps; None for this batch's own count.
        width: tokens in a row, where peft puts virtual tokens before them.
        cut: how the output layer's work is cut over ranks; None where each rank does all of it for its own tokens.
    """

    method: qt.Method
    teachers: tuple[ModelEvidence, ...] = ()
    reference: ModelEvidence | None = None
    adapter_off: Callable[[], AbstractContextManager] | None = None
    token_weight: Tensor | None = None
    sequence_ids: Tensor | None = None
    num_items: Tensor | int | None = None
    diagnostics: tuple[str, ...] = ("trust", "scale")
    width: int | None = None
    progress: Tensor | None = None
    position: Tensor | None = None
    cut: VocabularyCut | None = None


class TargetOutput(NamedTuple):
    """`qt.LossOutput`, and the load-balancing loss of a mixture of experts (None for a dense model)."""

    loss: Tensor
    nll: Tensor
    num_tokens: Tensor
    diagnostics: dict[str, Tensor]
    aux_loss: Tensor | None


_BENEATH = "_forwards_beneath_targets"
"""Attribute of a model: the forward that the instance had before each `add_target_loss`, None for the class's own."""
_MARK = "_target_loss"
"""Attribute of a function that `add_target_loss` made: the function itself, since wrappers copy attributes."""


def add_target_loss(model: PreTrainedModel) -> None:
    """Let `model(**inputs, labels=labels, q_target=TargetCall(...))` return a `TargetOutput`, without building logits.

    Without `q_target` the forward is the one that the instance had: another trainer's, a wrapper of the user's, a hook
    of accelerate's; else the class's own. It is kept on the instance, so a copy of the model gets a copy of it.
    """
    before = instance_forward(model)
    if _is_target_forward(before):
        return
    beneath = model.__dict__.setdefault(_BENEATH, [])
    layer = len(beneath)
    beneath.append(before)

    @functools.wraps(type(model).forward)
    def forward(self, *args, q_target: TargetCall | None = None, **kwargs):
        if q_target is not None:
            return _target_forward(self, q_target, *args, **kwargs)
        beneath = self.__dict__[_BENEATH][layer]
        return type(self).forward(self, *args, **kwargs) if beneath is None else beneath(*args, **kwargs)

    setattr(forward, _MARK, forward)
    model.forward = types.MethodType(forward, model)


def _is_target_forward(forward: Any) -> bool:
    """Whether a forward is one that `add_target_loss` made, and not a wrapper that copied its attributes."""
    function = getattr(forward, "__func__", None)
    return function is not None and getattr(function, _MARK, None) is function


def _target_forward(model: PreTrainedModel, call: TargetCall, *args, labels: Tensor, **kwargs) -> TargetOutput:
    kwargs["use_cache"] = False
    width = call.width or labels.shape[1]
    if call.adapter_off is not None:
        call = replace(call, reference=_evidence_without_adapter(model, call.adapter_off, *args, **kwargs))
    outputs = backbone_of(model)(*args, **kwargs)
    out = _loss(call, model, outputs.last_hidden_state[:, -width:], labels[:, -width:])
    aux_loss = load_balancing_loss(model, outputs, kwargs.get("attention_mask"))
    return TargetOutput(out.loss, out.nll, out.num_tokens, out.diagnostics, aux_loss)


def _loss(call: TargetCall, model: PreTrainedModel, hidden: Tensor, labels: Tensor) -> qt.LossOutput:
    """The loss of this rank's tokens; where their work is cut over ranks, this rank's share of that of all ranks'
    tokens, and beside it their nll and diagnostics."""
    head = head_of(model) if call.cut is None else call.cut.head(model)
    tokens = _aligned(call, hidden, labels, head.weight.device)
    tokens = tokens if call.cut is None else call.cut.tokens(tokens)
    out = qt.linear_q_target_loss(
        tokens.hidden,
        head,
        tokens.labels,
        call.method,
        teacher=tokens.teachers or None,
        reference=tokens.reference,
        token_weight=tokens.token_weight,
        sequence_ids=tokens.sequence_ids,
        progress=call.progress,
        position=tokens.position,
        num_items=call.num_items,
        diagnostics=call.diagnostics,
    )
    if call.cut is None or call.num_items is None:
        return out
    return replace(out, loss=call.cut.share(out.loss))


def _aligned(call: TargetCall, hidden: Tensor, labels: Tensor, device: torch.device) -> LossTokens:
    """The one place where hidden states at t meet the labels at t + 1."""

    def following(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[:, 1:].to(device)

    return LossTokens(
        hidden[:, :-1].to(device),
        labels[:, 1:].to(device),
        tuple(evidence_rows(teacher, WITH_NEXT) for teacher in call.teachers),
        None if call.reference is None else evidence_rows(call.reference, WITH_NEXT),
        following(call.token_weight),
        following(call.sequence_ids),
        following(call.position),
    )


@torch.compiler.disable()  # peft takes adapters off in a way that cannot be traced: one break here in place of many
@torch.no_grad()
def _evidence_without_adapter(model: PreTrainedModel, adapter_off, *args, **kwargs) -> qt.Dense:
    with adapter_off(), eval_mode(model):
        hidden = backbone_of(model)(*args, **kwargs).last_hidden_state
        return qt.Dense(hidden, head_of(model))


def text_inputs(batch: dict[str, Any]) -> dict[str, Any]:
    """The entries of a batch that models take, as keyword arguments; the others are for the loss."""
    return {name: value for name, value in batch.items() if name not in NOT_FOR_MODELS}


def with_logits(model: Any, texts: dict) -> Any:
    """Outputs with logits, for `predict` and `compute_metrics`, at the price of a forward pass."""
    warnings.warn(
        "`compute_metrics` and `predict` read logits, which the loss never builds: each batch costs one "
        "more forward pass.",
        stacklevel=2,
    )
    with torch.no_grad():
        return model(**{**texts, "use_cache": False})
