"""Collectives over the ranks of a process group. Every rank of the group must call, in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Key = TypeVar("Key")


def gathered(values: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Tensors of one shape from every rank, in order of rank, [R, ...]."""
    values = values.contiguous()
    out = values.new_empty(dist.get_world_size(group), *values.shape)
    dist.all_gather(list(out.unbind(0)), values, group=group)
    return out


def summed_(values: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The sum over ranks, in place of each rank's own."""
    dist.all_reduce(values, group=group)
    return values


def sizes(size: int, group: dist.ProcessGroup, device: torch.device) -> list[int]:
    """The `size` of every rank, in order of rank; a host synchronisation."""
    return gathered(torch.tensor(size, device=device), group).tolist()


def gather_tokens(values_T: Mapping[Key, Tensor], group: dist.ProcessGroup) -> tuple[dict[Key, Tensor], slice]:
    """Concatenate per-token values over the ranks, which may hold different numbers of tokens.

    Args:
        values_T: this rank's values by key, [T] each.

    Returns:
        the values of all ranks in order of rank, and the slice of them that is this rank's.
    """
    own = len(next(iter(values_T.values())))
    lengths = sizes(own, group, next(iter(values_T.values())).device)
    first = sum(lengths[: dist.get_rank(group)])
    padding = (0, max(lengths) - own)
    every = {key: gathered(torch.nn.functional.pad(values, padding), group) for key, values in values_T.items()}
    cut = {key: torch.cat([row[:n] for row, n in zip(rows, lengths, strict=True)]) for key, rows in every.items()}
    return cut, slice(first, first + own)
