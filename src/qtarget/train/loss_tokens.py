"""What the loss reads of each token, and that of all ranks together."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

import qtarget as qt
from qtarget.target.evidence import Evidence, evidence_rows
from qtarget.target.ranks import end_to_end, gathered, own_part
from qtarget.target.types import IGNORED


class LossTokens(NamedTuple):
    """Hidden states at t beside the labels at t + 1, and what else is known of these tokens.

    Attributes:
        hidden: [..., H].  labels: [...].  teachers, reference: [..., ...].
        token_weight, sequence_ids, position: [...].
    """

    hidden: Tensor
    labels: Tensor
    teachers: tuple[Evidence, ...]
    reference: Evidence | None
    token_weight: Tensor | None
    sequence_ids: Tensor | None
    position: Tensor | None

    def of_all_ranks(self, group: dist.ProcessGroup) -> "LossTokens":
        """The tokens [T, ...] with labels of every rank, in order of rank. Every rank has to call.

        Sequences of two ranks stay two. A gradient of the hidden states has to be the same on all ranks, and each
        passes on the part that is its own.
        """
        own = self._labelled()
        sources = [*own.teachers, *([] if own.reference is None else [own.reference])]
        counts = [len(own.labels), *(_width(source) for source in sources)]
        lengths, *widths = gathered(torch.tensor(counts, device=own.labels.device), group).T.tolist()
        join = _Join(lengths, group)
        found = [join.evidence(source, max(width)) for source, width in zip(sources, widths, strict=True)]
        return LossTokens(
            _OfAllRanks.apply(own.hidden, join),
            join(own.labels),
            tuple(found[: len(own.teachers)]),
            None if own.reference is None else found[-1],
            join.given(own.token_weight),
            join.sequences(own.sequence_ids),
            join.given(own.position),
        )

    def _labelled(self) -> "LossTokens":
        """The tokens that have a label, [T, ...]."""
        here = self.labels != IGNORED
        rows: Any = here  # an index of all axes that tokens lie on
        return LossTokens(
            self.hidden[here],
            self.labels[here],
            tuple(evidence_rows(teacher, rows) for teacher in self.teachers),
            None if self.reference is None else evidence_rows(self.reference, rows),
            *(None if each is None else each[here] for each in (self.token_weight, self.sequence_ids, self.position)),
        )


class _Join(NamedTuple):
    """Joins what every rank knows of its tokens. lengths: how many each has."""

    lengths: list[int]
    group: dist.ProcessGroup

    def __call__(self, values_T: Tensor) -> Tensor:
        return end_to_end(values_T, self.lengths, self.group)

    def given(self, values_T: Tensor | None) -> Tensor | None:
        return None if values_T is None else self(values_T)

    def sequences(self, ids_T: Tensor | None) -> Tensor | None:
        """Ids of sequences, told apart by rank."""
        if ids_T is None:
            return None
        ranks = torch.arange(len(self.lengths), device=ids_T.device)
        rank_N = ranks.repeat_interleave(torch.tensor(self.lengths, device=ids_T.device))
        return torch.stack([rank_N, self(ids_T)]).unique(dim=1, return_inverse=True)[1]

    def evidence(self, source: Evidence, width: int) -> Evidence:
        """Evidence of every rank's tokens. width: the most that a rank keeps of one, the others' slots being empty."""
        if isinstance(source, qt.Dense):
            return replace(source, hidden=self(source.hidden))
        if isinstance(source, qt.LabelOnly):
            return qt.LabelOnly(self(source.logprobs))
        assert isinstance(source, qt.Sparse), "logits as evidence of a trainer's"
        empty = (0, width - _width(source))
        kept = {"ids": self(pad(source.ids, empty, value=-1)), "logprobs": self(pad(source.logprobs, empty))}
        return replace(source, **kept, log_tail=self(source.log_tail), entropy=self.given(source.entropy))


class _OfAllRanks(torch.autograd.Function):
    """[T, H] of every rank, joined. Backward, where all ranks have the same gradient, needs no exchange."""

    @staticmethod
    def forward(ctx: Any, own_TH: Tensor, join: _Join) -> Tensor:
        ctx.own = own_part(join.lengths, join.group)
        return join(own_TH)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NH: Tensor) -> tuple[Tensor, None]:
        return gradient_NH[ctx.own], None


def _width(source: Evidence) -> int:
    """How many tokens are kept of a distribution; 1 where none are told apart."""
    return source.ids.shape[-1] if isinstance(source, qt.Sparse) else 1
