"""Whether weights and optimizer states are finite: looked at before anything of them is kept."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor

from qtarget.models.sharding import is_sharded

NamedTensor = tuple[str, Tensor]
SHOWN = 3


class NonFiniteWeightsError(ValueError):
    """Weights or states of the optimizer are NaN or infinite, so they are written nowhere."""


def check_finite_weights(model: nn.Module, optimizer: Any = None) -> None:
    """Refuse weights, and states of the optimizer where one is given, that are NaN or infinite.

    The host waits for the device once. Where the model is cut over ranks, or an optimizer is given, every rank has to
    call it, and all raise together. Otherwise ranks hold the same weights, and each finds the same.

    Raises:
        NonFiniteWeightsError: names the first tensors of this rank that are not.
    """
    names = nonfinite_names([*model.named_parameters(), *_states(model, optimizer)])
    is_cut = is_sharded(model) or any(isinstance(part, FullyShardedDataParallel) for part in model.modules())
    is_shared = is_cut or optimizer is not None
    if _anywhere(bool(names)) if is_shared else names:
        raise NonFiniteWeightsError(_in_words(_of_all_ranks(names) if is_shared else names))


def check_before_writing(folder: Path, model: nn.Module, optimizer: Any = None) -> None:
    """As `check_finite_weights`, of weights that are about to be written to a folder, which its error names."""
    try:
        check_finite_weights(model, optimizer)
    except NonFiniteWeightsError as error:
        raise NonFiniteWeightsError(
            f"{error} {folder} was not written. Training has diverged: lower `learning_rate` or `max_grad_norm`."
        ) from error


def nonfinite_names(tensors: Iterable[NamedTensor]) -> list[str]:
    """The names of those that hold a NaN or an infinity. Integers, empty tensors and the meta device's hold none."""
    named = [(name, _local(tensor)) for name, tensor in tensors]
    named = [(name, tensor) for name, tensor in named if _can_be_looked_at(tensor)]
    if not named:
        return []
    device = named[0][1].device
    finite = torch.stack([_largest(tensor).isfinite().to(device) for _, tensor in named]).tolist()
    return [name for (name, _), is_finite in zip(named, finite, strict=True) if not is_finite]


def _local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor that FSDP2 or ZeRO-3 cuts over ranks."""
    tensor = getattr(tensor, "ds_tensor", tensor).detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _can_be_looked_at(tensor: Tensor) -> bool:
    return (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() > 0 and not tensor.is_meta


def _largest(tensor: Tensor) -> Tensor:
    """The largest size of a value, NaN where one is NaN: without a copy, but for formats of eight bits."""
    wide = tensor.float() if tensor.element_size() == 1 else tensor
    return torch.linalg.vector_norm(wide, math.inf)


def _states(model: nn.Module, optimizer: Any) -> Iterator[NamedTensor]:
    """What an optimizer keeps of each weight, as `weight: state`."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    kept = getattr(optimizer, "state", None)
    for weight, state in kept.items() if isinstance(kept, Mapping) else ():
        yield from _tensors(names.get(id(weight), "a weight"), state)


def _tensors(name: str, state: Any) -> Iterator[NamedTensor]:
    if isinstance(state, Tensor):
        yield name, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from _tensors(f"{name}: {key}", value)


def _anywhere(found: bool) -> bool:
    """Whether any rank has found something. All ranks ask together."""
    if not (dist.is_available() and dist.is_initialized()):
        return found
    device = None if dist.get_backend() in ("gloo", "mpi") else torch.accelerator.current_accelerator()
    flag = torch.full((), float(found), device=device or torch.device("cpu"))
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def _of_all_ranks(names: list[str]) -> list[str]:
    """What any rank has found, with the rank where they differ. All ranks ask together."""
    if not (dist.is_available() and dist.is_initialized()):
        return names
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, names)
    if all(each == names for each in found):
        return names
    return [f"{name} of rank {rank}" for rank, each in enumerate(found) for name in each]


def _in_words(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"NaN or infinite values stand in {', '.join(names[:SHOWN])}{more}."
