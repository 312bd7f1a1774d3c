"""The load-balancing loss of a mixture of experts, by the model family's own function."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from qtarget.models.causal_lm import backbone_of, eval_mode, input_device

FUNCTION = "load_balancing_loss_func"
"""The name under which the modules of model families define it."""


def load_balancing_loss(model: PreTrainedModel, outputs: Any, attention_mask: Tensor | None) -> Tensor | None:
    """The balancing loss of a forward pass, as the model's own forward computes it.

    Args:
        outputs: of the backbone.
        attention_mask: `[B, S]`.

    Returns:
        None where it is switched off, the pass went through no router, or the family has no such loss.
    """
    function = balancing_function(model)
    routers = _routers(outputs)
    if function is None or not routers or not getattr(model.config.get_text_config(), "output_router_logits", False):
        return None
    by_name = {"attention_mask": attention_mask, "top_k": _experts_per_token(model), **_experts(function, routers[0])}
    return function(routers, **by_name)


@torch.no_grad()
def can_balance(model: PreTrainedModel) -> bool:
    """Whether the family has a balancing loss and the model routers, which a dense one of that family has not."""
    if balancing_function(model) is None:
        return False
    if any(weight.is_meta for weight in model.parameters()):  # this rank gets its weights later
        return True
    tokens = torch.arange(2, device=input_device(model))[None]
    with eval_mode(model):
        outputs = backbone_of(model)(input_ids=tokens, use_cache=False, output_router_logits=True)
    return bool(_routers(outputs))


def balancing_function(model: PreTrainedModel) -> Callable[..., Any] | None:
    """The balancing loss that the module of the model's class, or of a class it derives from, defines."""
    for kind in type(model).__mro__:
        function = getattr(sys.modules.get(kind.__module__), FUNCTION, None)
        if function is not None:
            return function
    return None


def _routers(outputs: Any) -> tuple[Tensor, ...]:
    """The router logits of the layers that have a router."""
    return tuple(logits for logits in getattr(outputs, "router_logits", None) or () if logits is not None)


def _experts(function: Callable[..., Any], router_logits: Tensor) -> dict[str, int]:
    """How many experts there are: the width of the router logits, or its square where experts have keys (Doge)."""
    width = router_logits.shape[-1]
    has_keys = "num_keys" in inspect.signature(function).parameters
    return {"num_experts": width * width, "num_keys": width} if has_keys else {"num_experts": width}


def _experts_per_token(model: PreTrainedModel) -> int:
    own = getattr(model, "num_experts_per_tok", None)
    return model.config.get_text_config().num_experts_per_tok if own is None else own
