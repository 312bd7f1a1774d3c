"""Collectives over the ranks of a process group. Every rank of the group must call, in the same order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    return {key: end_to_end(values, lengths, group) for key, values in values_T.items()}, own_part(lengths, group)


def end_to_end(values: Tensor, lengths: Sequence[int], group: dist.ProcessGroup) -> Tensor:
    """Tensors [T, ...] of every rank, one behind the other in order of rank.

    Args:
        lengths: the T of every rank.
    """
    missing = values.new_zeros(max(lengths) - len(values), *values.shape[1:])
    every = gathered(torch.cat([values, missing]), group)
    return torch.cat([part[:length] for part, length in zip(every, lengths, strict=True)])


def own_part(lengths: Sequence[int], group: dist.ProcessGroup) -> slice:
    """Where this rank's own stand among them."""
    rank = dist.get_rank(group)
    first = sum(lengths[:rank])
    return slice(first, first + lengths[rank])
