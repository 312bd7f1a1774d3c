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
    """A whole parameter, gathered from the ranks; its gradient is averaged over them, as FSDP averages others."""
    if hasattr(parameter, "ds_id"):
        return _gathered_by_deepspeed(parameter)
    if not isinstance(parameter, DTensor):
        return parameter
    return parameter.full_tensor(grad_placements=[Partial("avg")] * parameter.device_mesh.ndim)


def _gathered_by_deepspeed(parameter: Tensor) -> Tensor:
    """A copy, without a gradient, of a parameter that ZeRO stage 3 keeps in parts."""
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
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode for a while, and every module back into its mode after it.

    Linear layers stay in training mode, in which they compute the same: those of bitsandbytes on a CPU would repack
    their weights for inference in eval mode, and pass on no gradient from then on.
    """
    before = [(module, module.training) for module in model.modules()]
    for module, _ in before:
        module.training = isinstance(module, nn.Linear)
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def input_device(model: PreTrainedModel) -> torch.device:
    """The device on which the model expects its token ids; the CPU where accelerate has offloaded its embeddings."""
    weight: Any = model.get_input_embeddings().weight
    return torch.device("cpu") if weight.is_meta else weight.device


def hidden_states(
    model: PreTrainedModel, inputs: Mapping[str, Any], wrapper: Callable[..., Any] | None = None
) -> Tensor:
    """The hidden states that go into the output layer, `[B, S, H]`. Logits are built for one position a row only.

    The whole model is called, and a hook takes the output of its backbone. FSDP, DeepSpeed and device maps put hooks
    on the outermost module, which a call of the backbone alone would miss.

    Args:
        wrapper: called in the model's place: the peft model around it.
    """
    captured: list[Tensor] = []
    inputs = {**inputs, "use_cache": False}  # a cache would make packed documents see one another
    if "logits_to_keep" in inspect.signature(type(model).forward).parameters:
        handle = model.base_model.register_forward_hook(lambda *call: captured.append(call[2].last_hidden_state))
        try:
            (wrapper or model)(**inputs, logits_to_keep=1)
        finally:
            handle.remove()
    # The backbone alone, for a model that would build all logits or calls only a part of its backbone (OPT).
    return captured[-1] if captured else model.base_model(**inputs).last_hidden_state


def check_splits(model: PreTrainedModel, name: str) -> None:
    """Refuse a model that is not a backbone and an output layer."""
    if model.base_model is model or model.get_output_embeddings() is None:
        raise ValueError(
            f"The {name} ({type(model).__name__}) does not split into a backbone and an output layer, which "
            "the fused loss needs; load it with `AutoModelForCausalLM.from_pretrained(...)`."
        )


@torch.no_grad()
def check_head(model: PreTrainedModel, name: str) -> None:
    """Refuse a model whose logits are not `head_of(model)` applied to its last hidden states; tried on four tokens."""
    check_splits(model, name)
    layer: Any = model.get_output_embeddings()
    if layer.weight.is_meta:  # this rank gets its weights later
        return
    inputs = {"input_ids": torch.arange(4, device=input_device(model))[None]}
    with eval_mode(model):
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
