"""A frozen causal language model in memory, which reads the student's batch and gives its hidden states as evidence."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from qtarget import Dense, Head
from qtarget.models.causal_lm import head_of, hidden_states, input_device
from qtarget.models.head_check import check_head, check_splits
from qtarget.models.loading import causal_lm_from, is_placed, split_over_ranks
from qtarget.models.loading_arguments import check_dtype, one_dtype
from qtarget.models.sharding import OverRanks, is_cut_as_read, shard


@dataclass(frozen=True, eq=False)
class LiveModel:
    """A frozen model in memory. Its evidence is hidden states and output layer; logits are not built here.

    The model may be on another device than the student, on several, or cut over ranks by FSDP2 or ZeRO-3; the evidence
    is on the device of the token ids.

    Args:
        model: from `frozen` or `load_live_model`.
        vocab: leading rows of its output layer that stand for tokens; None for all. The others get no mass.
    """

    model: PreTrainedModel
    vocab: int | None = None
    _heads: dict[torch.device, Head] = field(default_factory=dict, repr=False)

    @torch.no_grad()
    def evidence(self, inputs: Mapping[str, Any], labels: Tensor | None = None) -> Dense:
        device, own_device = inputs["input_ids"].device, input_device(self.model)
        moved = {name: value.to(own_device) if isinstance(value, Tensor) else value for name, value in inputs.items()}
        hidden = hidden_states(self.model, moved)
        return Dense(hidden.to(device), self._head(device), self.vocab)

    def _head(self, device: torch.device) -> Head:
        """The output layer on a device. A gathered or copied one is kept, as the model does not change."""
        if device in self._heads:
            return self._heads[device]
        layer: Any = self.model.get_output_embeddings()
        head = head_of(self.model)
        bias = None if head.bias is None else head.bias.to(device)
        head = head._replace(weight=head.weight.to(device), bias=bias)
        if head.weight is not layer.weight:
            self._heads[device] = head
        return head


def load_live_model(
    source: str | PreTrainedModel,
    name: str,
    *,
    device: torch.device,
    dtype: str = "auto",
    init_kwargs: Mapping[str, Any] | None = None,
    over_ranks: OverRanks | None = None,
) -> PreTrainedModel:
    """A frozen model from a path, a hub name, or the model itself (frozen in place).

    Args:
        source: a LoRA adapter's folder stands for the adapter on its base.
        name: "teacher" or "reference", for errors.
        dtype: a torch dtype's name, or "auto" for the checkpoint's. A model given as an object keeps its dtype.
        init_kwargs: more for `AutoModelForCausalLM.from_pretrained`. A `device_map` of "fsdp" or "zero3" cuts the model
            over the ranks of the run; settings of bitsandbytes (`load_in_4bit`, ...) may stand among the rest.
        over_ranks: how a model that no `device_map` places is cut over ranks; None for a copy on each.
    """
    placed = not isinstance(source, str) and is_placed(source)
    if isinstance(source, str):
        check_dtype(dtype)
        wanted, rest = split_over_ranks(init_kwargs or {})
        placed, over_ranks = "device_map" in rest, wanted or over_ranks
        source = causal_lm_from(source, {"dtype": dtype, **one_dtype(rest)})
        placed = placed or is_placed(source)
    check_splits(source, name)
    _check_head_is_here(source, name)
    source.requires_grad_(False).eval()
    if not placed:
        source = frozen(source, device) if over_ranks is None else shard(source, device, over_ranks)
    check_head(source, name)
    return source


def frozen(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """The model without gradients, in eval mode, on `device` (where it was not placed already)."""
    model.requires_grad_(False).eval()
    return model if is_placed(model) else model.to(device)  # type: ignore[arg-type]


def frozen_copy(
    model: PreTrainedModel, device: torch.device, dtype: str | None = None, over_ranks: OverRanks | None = None
) -> PreTrainedModel:
    """A frozen copy of a model. A `forward` that was set on the instance is not copied; the class's own is used."""
    if any(weight.is_meta for weight in model.parameters()):
        raise ValueError(
            "The initial model is to be copied as a reference, and this rank has no weights of it yet: it gets them "
            "from the first one when training starts. Write `reference: path/or/hub-name` of the initial model, or "
            "`fsdp_config: {cpu_ram_efficient_loading: false}`."
        )
    if is_cut_as_read(model):
        raise ValueError(
            "The initial model is to be copied, and transformers has cut its layers over the ranks "
            "(`distributed_config`): a copy of them would compute with the student's own weights. Write `reference: "
            "path/or/hub-name` of the initial model (`teacher: path/or/hub-name` in the place of `teacher: self`)."
        )
    twin = copy.deepcopy(model)
    twin.__dict__.pop("forward", None)
    twin.requires_grad_(False).eval()
    twin = twin if dtype is None else twin.to(getattr(torch, dtype))
    return frozen(twin, device) if over_ranks is None or is_placed(twin) else shard(twin, device, over_ranks)


def _check_head_is_here(model: PreTrainedModel, name: str) -> None:
    layer: Any = model.get_output_embeddings()
    if not layer.weight.is_meta:
        return
    path = next(path for path, module in model.named_modules() if module is layer)
    raise ValueError(
        f"The {name}'s output layer ({path}) is offloaded, and the loss reads all of it at every step; keep it on a "
        f"device, as in `{name}_init_kwargs: {{device_map: {{..., {path}: {_some_device(model)}}}}}`."
    )


def _some_device(model: PreTrainedModel) -> Any:
    places = getattr(model, "hf_device_map", {}).values()
    return next((place for place in places if place not in ("cpu", "disk")), "cpu")
