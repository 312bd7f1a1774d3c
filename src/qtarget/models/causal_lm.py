"""A causal language model seen as a backbone and a linear head."""

import inspect
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from qtarget import Head
from qtarget.models.logit_steps import logit_scale, logit_softcap

_REPACKS = "support_avx512bf16_for_cpu"
"""Attribute of bitsandbytes' layers: whether eval mode repacks their weights for this processor."""


def output_layer(model: PreTrainedModel) -> Any:
    """The module that makes logits, None where a model has none. peft may have put a wrapper around it."""
    return model.get_output_embeddings()


def backbone_of(model: PreTrainedModel) -> Any:
    """What is before the output layer; the model itself where it does not come apart.

    Its attribute is named by the family, and in some of a larger model's text parts wrongly (Llama 4).
    """
    return model.base_model if model.base_model is not model else getattr(model, "model", model)


def gathered_weight(parameter: Tensor) -> Tensor:
    """A whole parameter, gathered from the ranks; its gradient is averaged over them, as FSDP averages others."""
    if hasattr(parameter, "ds_id"):
        return _gathered_by_deepspeed(parameter)
    if not isinstance(parameter, DTensor):
        return parameter
    return parameter.full_tensor(grad_placements=[Partial("avg")] * parameter.device_mesh.ndim)


def head_of(model: PreTrainedModel, take: Callable[[Tensor], Tensor] = gathered_weight) -> Head:
    """The model's output layer, with the logit scale and soft-cap that its family applies.

    Read on every call: FSDP and peft replace the layer after the model is made.

    Args:
        take: what is taken of its weight and of its bias; by default all of them, from all ranks.
    """
    layer = output_layer(model)
    layer = getattr(layer, "token_adapter", layer)  # peft's wrapper of `trainable_token_indices`
    bias = getattr(getattr(layer, "base_layer", layer), "bias", None)
    config = model.config.get_text_config()
    return Head(take(_weight(layer)), None if bias is None else take(bias), logit_softcap(config), logit_scale(config))


def _weight(layer: Any) -> Tensor:
    """A layer's weight, with the rows in it that peft trains for single tokens."""
    if not trains_tokens(layer) or layer.disable_adapters or layer.merged:
        return layer.weight
    return layer.get_merged_weights(layer.active_adapters)


def trains_tokens(layer: Any) -> bool:
    """Whether a layer is peft's, for training single tokens of an embedding or output layer tied to it."""
    return hasattr(layer, "get_merged_weights")


def layer_rows(weight: Tensor) -> int:
    """Rows of an embedding or an output layer: all of them, also where ZeRO stage 3 keeps the weight in parts."""
    return getattr(weight, "ds_shape", weight.shape)[0]


def _gathered_by_deepspeed(parameter: Any) -> Tensor:
    """A parameter that ZeRO stage 3 keeps in parts, whole.

    While a model's forward runs, DeepSpeed gathers what is read of it, keeps it until that forward's backward pass, and
    reduces its gradient: there it is the parameter itself. Elsewhere, and without gradients, it is a copy.
    """
    import deepspeed  # pyright: ignore[reportMissingImports]

    is_whole = parameter.ds_status.name == "AVAILABLE"
    if torch.is_grad_enabled() and (is_whole or parameter.requires_grad):
        assert is_whole, "a weight that is trained is read outside of the forward of its model"
        return parameter
    with nullcontext() if is_whole else deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().clone()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode for a while, and every module back into its mode after it.

    Linear layers of bitsandbytes stay in training mode, in which they compute the same: on a CPU they would repack
    their weights for inference in eval mode, and pass on no gradient from then on.
    """
    before = [(module, module.training) for module in model.modules()]
    for module, training in before:
        module.training = training and _is_of_bitsandbytes(module)
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def keep_quantised_layout(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights of a model that is trained when it is evaluated on a CPU with
    AVX512-BF16: what is packed passes on no gradient, and unpacked again it is not what it was (seen with 0.50.2)."""
    for module in model.modules():
        if hasattr(module, _REPACKS):
            setattr(module, _REPACKS, False)


def _is_of_bitsandbytes(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and any(
        kind.__module__.split(".")[0] == "bitsandbytes" for kind in type(module).__mro__
    )


def input_device(model: PreTrainedModel) -> torch.device:
    """The device on which the model expects its token ids; the CPU where accelerate has offloaded its embeddings."""
    weight: Any = model.get_input_embeddings().weight
    return torch.device("cpu") if weight.is_meta else weight.device


def keep_head_input_contiguous(model: PreTrainedModel) -> RemovableHandle:
    """Have the output layer's input laid out without gaps from now on, until the handle is removed.

    Of the last position of several rows torch would otherwise make a batched product, with a copy of a frozen weight
    for each row.
    """
    return output_layer(model).register_forward_pre_hook(_contiguous)


def _contiguous(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(value.contiguous() if isinstance(value, Tensor) else value for value in inputs)


def hidden_states(
    model: PreTrainedModel, inputs: Mapping[str, Any], wrapper: Callable[..., Any] | None = None
) -> Tensor:
    """The hidden states that go into the output layer, `[B, S, H]`. Logits are built for one position a row only.

    The whole model is called, and a hook takes the output of its backbone. FSDP, DeepSpeed and device maps put hooks
    on the outermost module, which a call of the backbone alone would miss. Several threads may ask one model at once.

    Args:
        wrapper: called in the model's place: the peft model around it.
    """
    captured: list[Tensor] = []
    thread = get_ident()

    def capture(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        # Another thread's call of the same model runs this hook too. torch.compile cannot ask for the thread.
        if torch.compiler.is_compiling() or get_ident() == thread:
            captured.append(output.last_hidden_state)

    inputs = {**inputs, "use_cache": False}  # a cache would make packed documents see one another
    named = inspect.signature(type(model).forward).parameters
    if "logits_to_keep" in named:
        own = {"logits_to_keep": 1, **without_routers(named)}
        handles = backbone_of(model).register_forward_hook(capture), keep_head_input_contiguous(model)
        try:
            (wrapper or model)(**{**inputs, **own})
        finally:
            for handle in handles:
                handle.remove()
    # The backbone alone, for a model that would build all logits or calls only a part of its backbone (OPT).
    return captured[-1] if captured else backbone_of(model)(**inputs).last_hidden_state


def without_routers(parameters: Container[str]) -> dict[str, bool]:
    """The argument by which a mixture of experts leaves its balancing loss out; none for a forward without it.

    A model that is told to balance and has only dense layers fails (Granite with `num_local_experts: 0`).
    """
    return {"output_router_logits": False} if "output_router_logits" in parameters else {}
