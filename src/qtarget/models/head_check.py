"""Whether a model's logits are what its output layer makes of its last hidden states."""

import inspect
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from qtarget import Head
from qtarget.models.causal_lm import (
    backbone_of,
    eval_mode,
    head_of,
    hidden_states,
    input_device,
    output_layer,
    trains_tokens,
    without_routers,
)
from qtarget.target.source_logits import head_logits

TRIED_TOKENS = 4
EXACT, HALF_PRECISION = 1e-3, 0.05
"""Largest difference of two logits, as a share of the largest; in half precision two ways of rounding differ more."""
LARGE_LOGIT = 100.0
"""Well beyond the soft-caps of model families (5 to 50)."""


class Logits(NamedTuple):
    """Logits of a few tokens `[1, T, V]` as a model makes them and as its output layer alone would."""

    own: Tensor
    ours: Tensor

    def agree(self, tolerance: float) -> bool:
        """Whether they differ by no more than this share of the largest logit."""
        if self.own.shape != self.ours.shape:
            return False
        own, ours = self.own.double(), self.ours.double()
        return bool((own - ours).abs().max() <= tolerance * own.abs().max())

    def are_finite(self) -> bool:
        return bool(self.own.isfinite().all() and self.ours.isfinite().all())


def check_splits(model: PreTrainedModel, name: str) -> None:
    """Refuse a model that is not a backbone and an output layer, or whose output layer carries an adapter."""
    layer = output_layer(model)
    if backbone_of(model) is model or layer is None:
        raise ValueError(
            f"The {name} ({type(model).__name__}) does not split into a backbone and an output layer, which the fused "
            f"loss needs. {_causal_class(model)}"
        )
    if hasattr(layer, "base_layer") and not trains_tokens(layer):
        raise ValueError(
            f"The {name}'s output layer carries an adapter ({type(layer).__name__}), and the loss is computed from its "
            "weight directly, so the adapter would not be trained. Take it out of `lora_target_modules` (peft: "
            "`target_modules`), or train the layer whole: `lora_modules_to_save` (peft: `modules_to_save`)."
        )


def _causal_class(model: PreTrainedModel) -> str:
    """The sentence that says how to load the model, or that no other way of loading helps."""
    if "CausalLM" in type(model).__name__ or "LMHead" in type(model).__name__:
        return "Models of this class cannot be trained here; choose another."
    return "Load it with `AutoModelForCausalLM.from_pretrained(...)`."


@torch.no_grad()
def check_head(model: PreTrainedModel, name: str) -> None:
    """Refuse a model whose logits are not `head_of(model)` applied to its last hidden states; tried on four tokens.

    Raises:
        ValueError: the model does not split, does more to its logits, or has weights that are not finite.
    """
    check_splits(model, name)
    if output_layer(model).weight.is_meta:  # this rank gets its weights later
        return
    with eval_mode(model):
        tried = _tried(model, name)
    for logits in tried:
        _check_finite(model, name, logits)
        if not logits.agree(_tolerance(model)):
            raise ValueError(_does_more(model, name))


def _tried(model: PreTrainedModel, name: str) -> tuple[Logits, Logits]:
    """The logits of a few tokens, and the same where the output layer's are made as large as a soft-cap's bend.

    An untrained or a small model's logits are too small for a soft-cap to show.
    """
    inputs = {"input_ids": torch.arange(TRIED_TOKENS, device=input_device(model))[None]}
    hidden, head = hidden_states(model, inputs), head_of(model)
    if hidden.shape[-1] != head.weight.shape[1]:
        raise ValueError(_does_more(model, name))
    straight = head_logits(hidden.to(head.weight), head._replace(softcap=None)).float()
    factor = max(1.0, LARGE_LOGIT / max(float(straight.abs().max()), 1e-6))
    return _compared(model, inputs, straight, head, 1.0), _compared(model, inputs, straight, head, factor)


def _compared(model: PreTrainedModel, inputs: dict, straight: Tensor, head: Head, factor: float) -> Logits:
    """The model's own logits, with its output layer's multiplied by a factor, beside ours."""
    enlarged: list[bool] = []
    with _enlarging(output_layer(model), factor, enlarged):
        own = model(**inputs, use_cache=False, **without_routers(_parameters(model))).logits.float()
    ours = straight * factor if enlarged else straight
    return Logits(own, (ours if head.softcap is None else head.softcap * torch.tanh(ours / head.softcap)).to(own))


@contextmanager
def _enlarging(layer: Any, factor: float, calls: list[bool]) -> Iterator[None]:
    """Multiply what a layer gives; each call is noted in `calls`."""

    def enlarge(module: Any, given: Any, output: Tensor) -> Tensor:
        calls.append(True)
        return output * factor

    handle = layer.register_forward_hook(enlarge)
    try:
        yield
    finally:
        handle.remove()


def _parameters(model: PreTrainedModel) -> Container[str]:
    return inspect.signature(type(model).forward).parameters


def _tolerance(model: PreTrainedModel) -> float:
    """`EXACT` where everything is computed in single precision or better, as far as the weights say."""
    kinds = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    is_single = all(torch.finfo(kind).bits >= 32 for kind in kinds) and not getattr(model, "is_quantized", False)
    return EXACT if is_single and not (torch.cuda.is_available() and rounds_products()) else HALF_PRECISION


def rounds_products() -> bool:
    """Whether products of float32 matrices may be rounded (TF32) on CUDA.

    torch 2.9 and later have a setting for each kind of operation. Setting the older one for all sets these too, and it
    cannot be read once one of these was set, as transformers does under `tf32: true`.
    """
    own: str | None = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
    if own is None:
        return torch.get_float32_matmul_precision() != "highest"
    of_all = getattr(torch.backends, "fp32_precision", "none")
    return (of_all if own == "none" else own) not in ("none", "ieee")


def _check_finite(model: PreTrainedModel, name: str, logits: Logits) -> None:
    if logits.are_finite():
        return
    bad = [path for path, weight in model.named_parameters() if not _is_finite(weight)]
    where = f"{', '.join(bad[:3])} hold such numbers" if bad else "all its weights are finite, so a layer overflows"
    remedy = "load or copy the weights again" if bad else "load it in another precision, as in `dtype: float32`"
    raise ValueError(
        f"The {name} ({type(model).__name__}) gives logits that are NaN or infinite before any training: {where}; "
        f"{remedy}."
    )


def _is_finite(weight: Tensor) -> bool:
    return weight.is_meta or not weight.is_floating_point() or bool(weight.isfinite().all())


def _does_more(model: PreTrainedModel, name: str) -> str:
    return (
        f"The {name} ({type(model).__name__}) does more between its hidden states and its logits than a linear layer, "
        "a scale and a soft-cap, so the fused loss would be wrong for it; use a model without that step."
    )
