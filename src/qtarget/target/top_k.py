"""The k largest of each row of a large vocabulary, quicker than by `topk`."""

from typing import NamedTuple

import torch
from torch import Tensor

GROUP = 16
"""Columns in a group; more would leave more candidates, fewer would leave more groups to rank."""


class Largest(NamedTuple):
    """Values and column ids, `[C, k]` each, in falling order."""

    values_CK: Tensor
    ids_CK: Tensor


def largest_values(values_CV: Tensor, k: int) -> Tensor:
    """The k largest values of each row in falling order, [C, k]; without the memory that their ids take."""
    groups = _groups(values_CV, k)
    return (_candidates(values_CV, k, groups)[0] if groups else values_CV).topk(k, -1).values


def largest(values_CV: Tensor, k: int) -> Largest:
    """The k largest of each row, as `torch.topk` gives them but for the choice among equal values."""
    groups = _groups(values_CV, k)
    if not groups:
        return Largest(*values_CV.topk(k, -1))
    candidates_CN, tops_CK = _candidates(values_CV, k, groups)
    values_CK, at_CK = candidates_CN.topk(k, -1)
    inside_CK = tops_CK.gather(1, at_CK % k) + at_CK // k * groups
    return Largest(values_CK, torch.where(at_CK < GROUP * k, inside_CK, at_CK + GROUP * (groups - k)))


def _groups(values_CV: Tensor, k: int) -> int:
    """How many groups rows are cut into; 0 where `topk` of the whole row is as quick."""
    groups = values_CV.shape[1] // GROUP
    return 0 if k == 0 or 4 * k > groups else groups


def _candidates(values_CV: Tensor, k: int, groups: int) -> tuple[Tensor, Tensor]:
    """The values among which the k largest of each row are, and the k groups that they come from, [C, k].

    Column j belongs to group j modulo the number of groups. The k largest of a row lie in the k groups of largest
    maxima, so only these and the columns that fill no group are ranked.
    """
    inside_CGM = values_CV[:, : groups * GROUP].unflatten(1, (GROUP, groups))
    tops_CK = inside_CGM.amax(1).topk(k, -1).indices
    chosen_CGK = inside_CGM.gather(2, tops_CK[:, None].expand(-1, GROUP, -1))
    return torch.cat([chosen_CGK.flatten(1), values_CV[:, groups * GROUP :]], 1), tops_CK
