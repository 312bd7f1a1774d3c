"""A causal language model seen as a backbone and a linear head."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial
from transformers import PreTrainedModel

from qtarget import Head
from qtarget.statistics import head_logits


def head_of(model: PreTrainedModel) -> Head:
    """The model's output layer, with the logit scale and soft-cap that its family applies.

    Read on every call: FSDP and peft replace the layer after the model is made.
    """
    layer: Any = model.get_output_embeddings()
    config = model.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)
    bias = None if layer.bias is None else _gathered(layer.bias)
    return Head(_gathered(layer.weight), bias, softcap, _logit_scale(config))


def _gathered(parameter: Tensor) -> Tensor:
    """A whole parameter. FSDP averages gradients over ranks, and so must the gradient of a head gathered by hand."""
    if not isinstance(parameter, DTensor):
        return parameter
    return parameter.full_tensor(grad_placements=[Partial("avg")] * parameter.device_mesh.ndim)


def _logit_scale(config) -> float | None:
    """Cohere's `logit_scale` (and its like) multiplies the logits; Granite's `logits_scaling` divides them."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return getattr(config, name)
    scaling = getattr(config, "logits_scaling", None)
    if scaling is None:
        return None
    return scaling if config.model_type == "hyperclovax" else 1 / scaling


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while; every module's own mode comes back after it.

    Linear layers are in training mode meanwhile. To them it is the same, except that those of bitsandbytes, in
    eval mode on a CPU, repack their weights for inference, for good, and pass on no gradient from then on.
    """
    before = [(module, module.training) for module in model.modules()]
    for module, _ in before:
        module.training = isinstance(module, nn.Linear)
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@torch.no_grad()
def check_head(model: PreTrainedModel, name: str) -> None:
    """Refuse a model whose logits are not `head_of` applied to its last hidden states, by trying it on four
    tokens."""
    layer: Any = model.get_output_embeddings()
    if model.base_model is model or layer is None:
        raise ValueError(
            f"The {name} ({type(model).__name__}) does not split into a backbone and an output layer, which "
            "the fused "
            "loss needs; load it with `AutoModelForCausalLM.from_pretrained(...)`."
        )
    if layer.weight.is_meta:  # a rank that gets its weights later
        return
    ids = torch.arange(4, device=model.device)[None]
    with evaluating(model):
        logits = model(input_ids=ids, use_cache=False).logits.float()
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    head = head_of(model)
    ours = head_logits(hidden.to(head.weight), head).to(logits)
    if not torch.allclose(ours, logits, rtol=0.05, atol=0.05 * float(logits.abs().max())):
        raise ValueError(
            f"The {name} ({type(model).__name__}) does more between its hidden states and its logits than a "
            "linear "
            "layer, a scale and a soft-cap, so the fused loss would be wrong for it; use a model without "
            "that step."
        )
