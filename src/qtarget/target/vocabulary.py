"""Operations across the vocabulary: all of it on this rank, or cut over a process group.

The fused loss works on chunks of C tokens. Every operation of it that reads across the vocabulary, such as a softmax or
a gather by token id, is a method of the two classes here. `Whole` is plain torch. `Shard` works on this rank's columns
and exchanges tensors of size [C] with the other ranks, so no rank holds a whole row of logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from qtarget.target.pool import FLOOR
from qtarget.target.ranks import gathered, sizes, summed_
from qtarget.target.top_k import largest_values


class Peak(NamedTuple):
    """By-products of a softmax over logits z, [C] each: max z, log Σ e^(z − max z), and the label's logit."""

    top_C: Tensor
    log_sum_C: Tensor
    label_C: Tensor

    @property
    def log_norm_C(self) -> Tensor:
        return self.top_C + self.log_sum_C

    @property
    def label_logp_C(self) -> Tensor:
        """The label's log-probability; exactly −log Σ where the label is the likeliest token."""
        return (self.label_C - self.top_C - self.log_sum_C).clamp(min=FLOOR)


def filled_slots(ids_CK: Tensor) -> tuple[Tensor, Tensor]:
    """Ids to gather from and scatter to, and which slots are empty (−1): in these the row's first id stands again, so
    what is written to it twice must be alike.
    """
    is_empty_CK = ids_CK < 0
    return torch.where(is_empty_CK, ids_CK[:, :1], ids_CK), is_empty_CK


@dataclass(frozen=True)
class Whole:
    """The vocabulary of `total` tokens, all of it on this rank."""

    total: int
    start = 0

    @property
    def widest(self) -> int:
        return self.total

    @property
    def bounds(self) -> tuple[int, ...]:
        return (0, self.total)

    def softmax(self, values_CV: Tensor, out: Tensor) -> Tensor:
        return torch.softmax(values_CV, -1, out=out)

    def measured_softmax(self, values_CV: Tensor, labels_C: Tensor, out: Tensor) -> tuple[Tensor, Peak]:
        """The softmax over the vocabulary, written to `out` (the logits themselves, maybe); and its by-products."""
        top_C, label_C = values_CV.amax(-1), self.pick(values_CV, labels_C[:, None]).squeeze(1)
        prob_CV = torch.softmax(values_CV, -1, out=out)
        return prob_CV, Peak(top_C, -prob_CV.amax(-1).log(), label_C)

    def sum(self, values: Tensor) -> Tensor:
        """Sum partial sums over columns across the ranks."""
        return values

    def largest(self, values_CV: Tensor, k: int) -> Tensor:
        return largest_values(values_CV, k)

    def pick(self, values_CV: Tensor, ids_CK: Tensor) -> Tensor:
        """The values at some token ids, [C, K]."""
        return values_CV.gather(1, ids_CK)

    def put_(self, values_CV: Tensor, ids_CK: Tensor, new_CK: Tensor) -> Tensor:
        """New values at some ids; nothing of a slot that is empty."""
        at_CK, is_empty_CK = filled_slots(ids_CK)
        return values_CV.scatter_(1, at_CK, torch.where(is_empty_CK, new_CK[:, :1], new_CK))

    def add_(self, values_CV: Tensor, ids_CK: Tensor, more_CK: Tensor) -> Tensor:
        return values_CV.scatter_add_(1, ids_CK, more_CK)

    def apart(self, values_CV: Tensor, ids_CK: Tensor) -> tuple[Tensor, Tensor]:
        """The values at some ids, [C, K], 0 in a slot that is empty, and the sum of all others, [C].

        The others are added up, not subtracted from the whole, so their sum is exact where it is tiny.
        """
        at_CK, is_empty_CK = filled_slots(ids_CK)
        own_CK = values_CV.gather(1, at_CK)
        others_C = values_CV.scatter_(1, at_CK, 0.0).sum(-1)
        values_CV.scatter_(1, at_CK, own_CK)
        return own_CK.masked_fill(is_empty_CK, 0.0), others_C

    def whole(self, values_CV: Tensor) -> Tensor:
        """Gather the columns of every rank, [C, V]."""
        return values_CV

    def cut(self, values_CV: Tensor) -> Tensor:
        """This rank's columns of whole rows [C, V]."""
        return values_CV

    def least(self, number: int, device: torch.device) -> int:
        """The smallest `number` of all ranks."""
        return number


@dataclass(frozen=True)
class Shard:
    """The vocabulary cut over the ranks of a group: rank i of it holds rows `bounds[i]` to `bounds[i + 1]`.

    `qt.Head(weight, shard=qt.Shard.of(weight, group))` is then a part of an output layer. All ranks of the group call
    the loss together, with the same tokens, hidden states and labels (ids of the whole vocabulary), and all get the
    same loss, diagnostics and gradient of the hidden states: summed over the group already, so a model's own reduction
    of that gradient (Megatron's copy to the tensor-parallel region) must be left out. Gradients of weight and bias are
    those of the rank's own rows.

    What the fused loss measures by its definition (see `fused/torch_engine.py`) gathers the logits of a chunk on each
    rank.
    """

    bounds: tuple[int, ...]
    group: dist.ProcessGroup

    @staticmethod
    def of(weight: Tensor, group: dist.ProcessGroup | None = None) -> Shard:
        """How a weight's rows are cut: each rank of `group` holds those that follow the rank's before it.

        Of a `DTensor` the group is the mesh dimension that cuts its rows; write
        `qt.Head(weight.to_local(), shard=qt.Shard.of(weight))`. Every rank must call; once is enough.

        Raises:
            ValueError: a rank without rows, no group, or a DTensor that is cut otherwise than by rows over one mesh
                dimension.
        """
        from torch.distributed.tensor import DTensor

        if isinstance(weight, DTensor):
            return Shard.of(weight.to_local(), _mesh_group(weight))
        if group is None:
            raise ValueError("a plain tensor does not say over which ranks it is cut; write qt.Shard.of(weight, group)")
        rows = sizes(len(weight), group, weight.device)
        if not all(rows):
            raise ValueError(
                f"the ranks of the group hold {rows} rows of the output layer; each must hold at least one: "
                f"cut the vocabulary evenly, or over fewer ranks"
            )
        return Shard((0, *accumulate(rows)), group)

    @property
    def rank(self) -> int:
        return dist.get_rank(self.group)

    @property
    def start(self) -> int:
        return self.bounds[self.rank]

    @property
    def stop(self) -> int:
        return self.bounds[self.rank + 1]

    @property
    def total(self) -> int:
        return self.bounds[-1]

    @property
    def widest(self) -> int:
        return max(b - a for a, b in pairwise(self.bounds))

    def softmax(self, values_CV: Tensor, out: Tensor) -> Tensor:
        anything_C = torch.zeros(len(values_CV), dtype=torch.long, device=values_CV.device)
        return self.measured_softmax(values_CV, anything_C, out)[0]

    def measured_softmax(self, values_CV: Tensor, labels_C: Tensor, out: Tensor) -> tuple[Tensor, Peak]:
        """Softmax of this rank's columns, scaled by its share of Σ e^z over all ranks; and its by-products."""
        top_C, label_C = values_CV.amax(-1), self._own(values_CV, labels_C[:, None]).squeeze(1)
        prob_CV = torch.softmax(values_CV, -1, out=out)
        own = torch.stack([top_C, prob_CV.amax(-1).reciprocal(), label_C])
        top_RC, sum_RC, label_RC = gathered(own, self.group).unbind(1)
        top_C = top_RC.amax(0)
        sum_RC = sum_RC * (top_RC - top_C).exp()
        sum_C = sum_RC.sum(0)
        prob_CV.mul_((sum_RC[self.rank] / sum_C)[:, None])
        return prob_CV, Peak(top_C, sum_C.log(), label_RC.sum(0))

    def sum(self, values: Tensor) -> Tensor:
        return summed_(values, self.group)

    def largest(self, values_CV: Tensor, k: int) -> Tensor:
        own = largest_values(values_CV, min(k, values_CV.shape[1]))
        own = torch.nn.functional.pad(own, (0, k - own.shape[1]), value=-torch.inf)
        return gathered(own, self.group).movedim(0, 1).flatten(1).topk(k, -1).values

    def pick(self, values_CV: Tensor, ids_CK: Tensor) -> Tensor:
        return self.sum(self._own(values_CV, ids_CK))

    def put_(self, values_CV: Tensor, ids_CK: Tensor, new_CK: Tensor) -> Tensor:
        at_CK, is_own_CK, order_CK = self._scatter_columns(ids_CK)
        new_CK = torch.where(is_own_CK, new_CK.gather(1, order_CK), values_CV.gather(1, at_CK))
        return values_CV.scatter_(1, at_CK, new_CK)

    def add_(self, values_CV: Tensor, ids_CK: Tensor, more_CK: Tensor) -> Tensor:
        at_CK, is_own_CK = self._at(ids_CK)
        return values_CV.scatter_add_(1, at_CK, more_CK.masked_fill(~is_own_CK, 0.0))

    def apart(self, values_CV: Tensor, ids_CK: Tensor) -> tuple[Tensor, Tensor]:
        at_CK, is_own_CK, _ = self._scatter_columns(ids_CK)
        before_CK = values_CV.gather(1, at_CK)
        own_CK = self._own(values_CV, ids_CK)
        self_C = values_CV.scatter_(1, at_CK, torch.where(is_own_CK, 0.0, before_CK)).sum(-1)
        values_CV.scatter_(1, at_CK, before_CK)
        both = self.sum(torch.cat([own_CK, self_C[:, None]], 1))
        return both[:, :-1], both[:, -1]

    def whole(self, values_CV: Tensor) -> Tensor:
        missing = self.widest - values_CV.shape[-1]
        every = gathered(torch.nn.functional.pad(values_CV, (0, missing)), self.group)
        return torch.cat([part[..., : b - a] for part, (a, b) in zip(every, pairwise(self.bounds), strict=True)], -1)

    def cut(self, values_CV: Tensor) -> Tensor:
        return values_CV[..., self.start : self.stop]

    def least(self, number: int, device: torch.device) -> int:
        return min(sizes(number, self.group, device))

    def _at(self, ids_CK: Tensor) -> tuple[Tensor, Tensor]:
        """Column of each id on this rank, clamped into range, and whether this rank holds it; no rank an empty slot."""
        is_own_CK = (ids_CK >= self.start) & (ids_CK < self.stop)
        return (ids_CK - self.start).clamp(0, self.stop - self.start - 1), is_own_CK

    def _own(self, values_CV: Tensor, ids_CK: Tensor) -> Tensor:
        """The values at this rank's ids, and 0 at those of other ranks, [C, K]."""
        at_CK, is_own_CK = self._at(ids_CK)
        return values_CV.gather(1, at_CK).masked_fill(~is_own_CK, 0.0)

    def _scatter_columns(self, ids_CK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Column indices that are safe to scatter to, which of them hold an id of this rank, and whose value to write.

        Ids held by other ranks are replaced by this rank's first id of the row, so duplicate writes carry the same
        value; a row with no id here writes a column back to itself.
        """
        at_CK, is_own_CK = self._at(ids_CK)
        first_C1 = is_own_CK.byte().argmax(1, keepdim=True)
        order_CK = torch.where(is_own_CK, torch.arange(ids_CK.shape[1], device=ids_CK.device), first_C1)
        return at_CK.gather(1, order_CK), is_own_CK.gather(1, order_CK), order_CK


Axis = Whole | Shard


def _mesh_group(weight: Tensor) -> dist.ProcessGroup:
    """The ranks over which the rows of a DTensor are cut."""
    mesh, placements = weight.device_mesh, weight.placements  # type: ignore[attr-defined]
    cut = [i for i, placement in enumerate(placements) if not placement.is_replicate()]
    if len(cut) != 1 or not placements[cut[0]].is_shard(0):
        raise ValueError(
            f"the output layer is placed as {placements}; its rows must be cut over one mesh dimension, Shard(0) there "
            f"and Replicate() elsewhere, as weight.redistribute(placements=...) makes it"
        )
    return mesh.get_group(cut[0])
