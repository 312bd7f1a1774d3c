"""What a caller passes besides labels: output layers, and the distributions of teachers and reference (evidence).

Everything is flattened to the T supervised tokens once (`inputs.py`); the mathematics never sees batch or sequence
axes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from qtarget.target.pool import FLOOR
from qtarget.target.ranks import summed_
from qtarget.target.rule import Moment
from qtarget.target.vocabulary import Axis, Shard, Whole


class Head(NamedTuple):
    """An output layer: logits = softcap·tanh(a/softcap) with a = scale·(h Wᵀ + b).

    Attributes:
        weight: [V, H].  bias: [V].  softcap: Gemma's final soft-cap.  scale: Cohere's logit scale, or Granite's
        1/scaling.  shard: which rows of the vocabulary weight and bias hold, where it is cut over a process group.
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None
    scale: float | None = None
    shard: Shard | None = None

    @property
    def axis(self) -> Axis:
        """The vocabulary axis: all of it on this rank, or cut over ranks."""
        return self.shard or Whole(len(self.weight))


@dataclass(frozen=True)
class Dense:
    """A whole distribution per token, as hidden states and an output layer; its logits are built chunk by chunk.

    Attributes:
        hidden: [..., H] aligned with `labels`.  head: the source's own.
        vocab: how many leading rows of the head are real tokens, when it is padded further than the student's.
    """

    hidden: Tensor
    head: Head
    vocab: int | None = None


Tail = Literal["student", "uniform", "none"]
"""The shape of the tail: how the mass of the tokens that were not kept is spread over them."""


@dataclass(frozen=True)
class Sparse:
    """K kept tokens of a distribution, and the mass of the rest.

    Attributes:
        ids: [..., K] int64, distinct within a token. Behind the first slot −1 is one that is empty, where fewer are
            kept of a token than of others; its logprob is not read.
        logprobs: [..., K] nats.  log_tail: [...] nats; −inf means none.
        entropy: [...] nats, of the whole distribution at temperature 1, where it was measured.
        tail: shape of the rest. "student": t_k = tail·p_k/p_tail, right for every pool. "uniform" and "none" (all mass
            on the K tokens, see `renormalised`) are right only for targets that are linear in the source, and refused
            elsewhere: in a geometric pool a zero would wipe out what the student knows.
        temperature: T, where the kept distribution is t^(1/T). A pool that takes t to the power a then takes it to a·T.
    """

    ids: Tensor
    logprobs: Tensor
    log_tail: Tensor
    entropy: Tensor | None = None
    tail: Tail = "student"
    temperature: float = 1.0

    def renormalised(self) -> Sparse:
        """The tail's mass given to the kept tokens in proportion: a biased estimate (arXiv 2503.16870)."""
        kept = self.logprobs.masked_fill(self.ids < 0, -torch.inf)
        logprobs = kept - kept.logsumexp(-1, keepdim=True)
        return replace(self, logprobs=logprobs, log_tail=torch.full_like(self.log_tail, -torch.inf), tail="none")


@dataclass(frozen=True)
class LabelOnly:
    """The label's log-probability, for methods that read no more. logprobs: [...] nats."""

    logprobs: Tensor


Evidence = Tensor | Dense | Sparse | LabelOnly


@dataclass(frozen=True)
class SupervisedTokens:
    """The T supervised tokens of a call, flattened.

    Attributes:
        where: [T] int64, their places in the flattened labels.
        teachers, reference: evidence of these tokens, [T, ...].
        progress: scalar, 0 to 1.  position_T: [T], 0 to 1.
        shape: of the labels.
        num_supervised: scalar, how many labels are not ignored, those of weight 0 included.
        counted_T: the tokens that `nll` averages: in training those of weight > 0.
        group: the ranks that hold other tokens of the same batch, if any.
    """

    where: Tensor
    labels_T: Tensor
    teachers: tuple[Evidence, ...]
    reference: Evidence | None
    token_weight_T: Tensor | None
    sequence_ids_T: Tensor | None
    shape: torch.Size
    num_supervised: Tensor
    counted_T: Tensor
    group: ProcessGroup | None = None
    progress: Tensor | None = None
    position_T: Tensor | None = None

    def source(self, name: str) -> Any:
        """The evidence of "reference" or "teacher i"; None where none was given. Its form was checked before."""
        if name == "reference":
            return self.reference
        index = int(name.split()[1])
        return self.teachers[index] if index < len(self.teachers) else None

    def column(self, name: str, dtype: torch.dtype) -> Tensor | None:
        """One of `rule.COLUMNS`, [T]: "sequence_ids" in its own dtype, the others in `dtype`; None where none was
        given.
        """
        if name == "sequence_ids":
            return self.sequence_ids_T
        given = {"token_weight": self.token_weight_T, "progress": self.progress, "position": self.position_T}[name]
        return None if given is None else given.to(self.labels_T.device, dtype).expand(self.labels_T.shape)

    def chunk(self, rows: slice) -> SupervisedTokens:
        """The tokens of one chunk."""
        pick = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("where", "labels_T", "token_weight_T", "sequence_ids_T", "position_T", "counted_T"):
            pick[name] = None if pick[name] is None else pick[name][rows]
        teachers = tuple(evidence_rows(t, rows) for t in self.teachers)
        reference = None if self.reference is None else evidence_rows(self.reference, rows)
        return SupervisedTokens(**{**pick, "teachers": teachers, "reference": reference})

    def multiplier(self, weight_is_trust: bool, dtype: torch.dtype) -> Tensor | float:
        """The factor of token weights in the scale, [T]; 1 without weights, or where the method reads them itself."""
        weight = self.token_weight_T
        return 1.0 if weight is None or weight_is_trust else weight.to(dtype)

    def denominator(self, num_items: int | Tensor | None) -> Tensor:
        """What the sum of the loss is divided by: `num_items`, or the count of supervised tokens; at least 1."""
        return item_count(num_items, self.num_supervised, self.group)

    def mean(self, values_T: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over the tokens that count, and their number: in training those of weight > 0, else all."""
        number = self.counted_T.sum()
        return values_T.masked_fill(~self.counted_T, 0.0).sum() / number.clamp(min=1), number

    def unflatten(self, values_T: Tensor, blank: float = float("nan")) -> Tensor:
        """Lay [T, ...] out as [*labels.shape, ...], with `blank` (False for bools) at the tokens left out."""
        blank = False if values_T.dtype == torch.bool else blank
        out = values_T.new_full((self.shape.numel(), *values_T.shape[1:]), blank)
        return out.index_copy(0, self.where, values_T).view(self.shape + values_T.shape[1:])


def stated_moment(evidence: Evidence, moment: Moment | None, dtype: torch.dtype) -> Tensor | None:
    """A moment that evidence states itself, [T], so that it need not be measured: a label's log-probability alone, or
    the entropy that was kept beside the likeliest tokens.
    """
    if isinstance(evidence, LabelOnly) and moment in (Moment.LABEL_LOGP, Moment.LABEL_PROBABILITY):
        logp_T = evidence.logprobs.to(dtype).clamp(min=FLOOR)
        return logp_T if moment is Moment.LABEL_LOGP else logp_T.exp()
    if isinstance(evidence, Sparse) and moment is Moment.ENTROPY and evidence.entropy is not None:
        return evidence.entropy.to(dtype)
    return None


def item_count(num_items: int | Tensor | None, num_supervised: Tensor, group: ProcessGroup | None) -> Tensor:
    """`num_items`, or how many tokens the ranks of `group` have supervised; 1 where a whole step has none."""
    if num_items is None:
        num_items = num_supervised if group is None else summed_(num_supervised.clone(), group)
    return torch.as_tensor(num_items).clamp(min=1)


def evidence_rows(evidence: Evidence, rows: Any) -> Evidence:
    """Index the evidence of some tokens: `rows` applies to the axes it shares with `labels`."""
    if isinstance(evidence, Dense):
        return replace(evidence, hidden=evidence.hidden[rows])
    if isinstance(evidence, Sparse):
        entropy = None if evidence.entropy is None else evidence.entropy[rows]
        picked = {"logprobs": evidence.logprobs[rows], "log_tail": evidence.log_tail[rows], "entropy": entropy}
        return replace(evidence, ids=evidence.ids[rows], **picked)
    return LabelOnly(evidence.logprobs[rows]) if isinstance(evidence, LabelOnly) else evidence[rows]


def exact(number: float | Tensor) -> Tensor:
    """A tensor as it is, a number with all its digits."""
    return number if isinstance(number, Tensor) else torch.tensor(number, dtype=torch.float64)


class CallInputs(NamedTuple):
    """The optional inputs of a loss call, as the caller gave them."""

    teacher: Evidence | tuple[Evidence, ...] | None = None
    reference: Evidence | None = None
    token_weight: Tensor | None = None
    sequence_ids: Tensor | None = None
    token_group: ProcessGroup | None = None
    progress: float | Tensor | None = None
    position: Tensor | None = None

    @property
    def teachers(self) -> tuple[Evidence, ...]:
        return self.teacher if isinstance(self.teacher, tuple) else () if self.teacher is None else (self.teacher,)
