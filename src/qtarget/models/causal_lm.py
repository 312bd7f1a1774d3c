"""A causal language model seen as a backbone and a linear head."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial
from transformers import PreTrainedModel

from qtarget import Head
from qtarget.target.statistics import head_logits


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
    if hasattr(parameter, "ds_id"):
        return _gathered_by_deepspeed(parameter)
    if not isinstance(parameter, DTensor):
        return parameter
    return parameter.full_tensor(grad_placements=[Partial("avg")] * parameter.device_mesh.ndim)


def _gathered_by_deepspeed(parameter: Tensor) -> Tensor:
    """A copy of a parameter that ZeRO stage 3 has cut up, without a gradient."""
    import deepspeed  # pyright: ignore[reportMissingImports]

    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().clone()


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


def home_of(model: PreTrainedModel) -> torch.device:
    """Where the model wants its token ids. What accelerate has offloaded fetches its weights, and inputs, itself."""
    weight: Any = model.get_input_embeddings().weight
    return torch.device("cpu") if weight.is_meta else weight.device


def hidden_states(
    model: PreTrainedModel, inputs: Mapping[str, Any], speaker: Callable[..., Any] | None = None
) -> Tensor:
    """What goes into the output layer, `[B, S, H]`; the logits of one position a row are built on the way.

    The model's own forward is called, and its backbone overheard: FSDP, DeepSpeed and device maps hang hooks on the
    outermost module, which a call of the backbone alone would pass by.

    Args:
        speaker: what is called in the model's place: the wrapper that peft puts around it.
    """
    heard: list[Tensor] = []
    inputs = {**inputs, "use_cache": False}  # a cache would make packed documents see one another
    if "logits_to_keep" in inspect.signature(type(model).forward).parameters:
        handle = model.base_model.register_forward_hook(lambda *call: heard.append(call[2].last_hidden_state))
        try:
            (speaker or model)(**inputs, logits_to_keep=1)
        finally:
            handle.remove()
    # A model that would build all logits, or that calls a part of its backbone only (OPT), is asked without them.
    return heard[-1] if heard else model.base_model(**inputs).last_hidden_state


def check_splits(model: PreTrainedModel, name: str) -> None:
    """Refuse a model without a backbone and an output layer of its own."""
    if model.base_model is model or model.get_output_embeddings() is None:
        raise ValueError(
            f"The {name} ({type(model).__name__}) does not split into a backbone and an output layer, which "
            "the fused loss needs; load it with `AutoModelForCausalLM.from_pretrained(...)`."
        )


@torch.no_grad()
def check_head(model: PreTrainedModel, name: str) -> None:
    """Refuse a model whose logits are not `head_of` applied to its last hidden states, by trying it on four
    tokens."""
    check_splits(model, name)
    layer: Any = model.get_output_embeddings()
    if layer.weight.is_meta:  # a rank that gets its weights later
        return
    inputs = {"input_ids": torch.arange(4, device=home_of(model))[None]}
    with evaluating(model):
        logits = model(**inputs, use_cache=False).logits.float()
        hidden = hidden_states(model, inputs)
    head = head_of(model)
    ours = head_logits(hidden.to(head.weight), head).to(logits)
    if not torch.allclose(ours, logits, rtol=0.05, atol=0.05 * float(logits.abs().max())):
        raise ValueError(
            f"The {name} ({type(model).__name__}) does more between its hidden states and its logits than a "
            "linear layer, a scale and a soft-cap, so the fused loss would be wrong for it; use a model without "
            "that step."
        )
