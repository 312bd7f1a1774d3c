"""A frozen causal language model that reads the student's batch and says what it expects next."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from qtarget import Dense
from qtarget.teacher.causal_lm import check_head, head_of


@dataclass(frozen=True, eq=False)
class LiveModel:
    """A frozen model in memory; its logits are never built.

    Args:
        model: from `frozen` or `load_live_model`.
        vocab: leading rows of its head that the student can say too, where it has more; None for all.
    """

    model: PreTrainedModel
    vocab: int | None = None

    @torch.no_grad()
    def evidence(self, inputs: Mapping[str, Any], labels: Tensor | None = None) -> Dense:
        # A cache would make packed documents see one another.
        outputs = self.model.base_model(**{**inputs, "use_cache": False})
        return Dense(outputs.last_hidden_state, head_of(self.model), self.vocab)


def load_live_model(
    source: str | PreTrainedModel,
    name: str,
    *,
    device: torch.device,
    dtype: str = "auto",
    init_kwargs: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """A frozen model from a path, a hub name, or the model itself (frozen in place).

    Args:
        name: "teacher" or "reference", for errors.
        dtype: a torch dtype's name, or "auto" for the checkpoint's own. A model given as an object keeps its
            own.
        init_kwargs: more for `AutoModelForCausalLM.from_pretrained`.
    """
    if isinstance(source, str):
        source = AutoModelForCausalLM.from_pretrained(source, **{"dtype": dtype, **(init_kwargs or {})})
    check_head(source, name)
    return frozen(source, device)


def frozen(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """The model without gradients, in eval mode, on `device` (where it was not placed by a device map)."""
    model.requires_grad_(False).eval()
    placed = getattr(model, "hf_device_map", None) or getattr(model, "is_quantized", False)
    return model if placed else model.to(device)  # type: ignore[arg-type]


def frozen_copy(model: PreTrainedModel, device: torch.device, dtype: str | None = None) -> PreTrainedModel:
    """A frozen copy of a model whose forward may have been replaced on the instance; the copy's is the
    class's own."""
    twin = copy.deepcopy(model)
    twin.__dict__.pop("forward", None)
    twin = frozen(twin, device)
    return twin if dtype is None else twin.to(getattr(torch, dtype))
