"""Cutting a frozen model over the ranks of a run, so that each rank holds a part of every layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.integrations import deepspeed as zero_of_transformers

from qtarget.models.causal_lm import backbone_of

OverRanks = Literal["fsdp", "zero3"]
OVER_RANKS: tuple[OverRanks, ...] = ("fsdp", "zero3")
LAUNCHES: dict[OverRanks, str] = {"fsdp": "FSDP", "zero3": "DeepSpeed ZeRO stage 3"}
"""What a launch is called that cuts the student so."""


def zero_stage(state: Any) -> int:
    """The stage of DeepSpeed's ZeRO that a launch uses, of accelerate's state; 0 without DeepSpeed."""
    plugin = getattr(state, "deepspeed_plugin", None)
    return 0 if plugin is None else int(plugin.zero_stage)


def is_sharded(model: nn.Module) -> bool:
    """Whether ranks hold parts of the model, by FSDP2, ZeRO-3 or tensor parallelism."""
    is_cut = any(hasattr(weight, "ds_id") or isinstance(weight, DTensor) for weight in model.parameters())
    return is_cut or any(isinstance(module, FSDPModule) for module in model.modules())


def is_cut_as_read(model: Any) -> bool:
    """Whether transformers has cut a model over ranks as it read it (`distributed_config`: tensor parallelism, ...)."""
    return bool(getattr(model, "is_distributed_loading_by_transformers", False))


@contextmanager
def read_whole() -> Iterator[None]:
    """While the block runs, a model is read whole on every rank, though the student's launch cuts it as it is read
    (`zero3_init_flag` of accelerate, `deepspeed:` of transformers): it is looked at first, and cut when it is wrapped.
    """
    before = zero_of_transformers._hf_deepspeed_config_weak_ref
    zero_of_transformers.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        zero_of_transformers._hf_deepspeed_config_weak_ref = before


def shard(model: PreTrainedModel, device: torch.device, how: OverRanks) -> PreTrainedModel:
    """Cut a frozen model over all ranks, in place. Every rank has to call it, and then the model, equally often.

    Args:
        how: "fsdp" for torch's `fully_shard`, "zero3" for DeepSpeed's inference under ZeRO stage 3.
    """
    if not dist.is_initialized():
        raise ValueError(
            f"device_map is {how!r}, which cuts a model over the ranks of a run, and this run is one process; start it "
            "with `accelerate launch`, or remove `device_map`."
        )
    return _fully_sharded(model, device) if how == "fsdp" else _zero3(model)


def _fully_sharded(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """Shard layer by layer. The output layer stays whole on every rank, as the loss reads all of it at every step."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    head: Any = model.get_output_embeddings()
    whole = set(head.to(device).parameters())
    for block in _blocks(backbone_of(model)):
        fully_shard(block, mesh=mesh, ignored_params=whole)
    fully_shard(model, mesh=mesh, ignored_params=whole, reshard_after_forward=True)
    return model


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of a backbone: the members of its outermost lists."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _blocks(child)


def _zero3(model: PreTrainedModel) -> PreTrainedModel:
    import deepspeed  # pyright: ignore[reportMissingImports]

    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3},
        "bf16": {"enabled": model.dtype == torch.bfloat16},
        "fp16": {"enabled": model.dtype == torch.float16},
    }
    deepspeed.initialize(model=model, config=config)
    return model.eval()
