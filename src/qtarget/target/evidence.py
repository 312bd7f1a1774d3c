"""What a caller brings: the output layer, and what teachers and reference say.

Everything is flattened to the T supervised tokens once (`supervise.py`); the mathematics never sees batch or sequence
axes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from qtarget.target.ranks import summed_
from qtarget.target.types import FLOOR, Method, Moment
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
        """The vocabulary as this rank has it."""
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
"""How the mass of the tokens that were not kept is spread over them."""


@dataclass(frozen=True)
class Sparse:
    """K kept tokens of a distribution, and the mass of the rest.

    Attributes:
        ids: [..., K] int64, distinct within a token.  logprobs: [..., K] nats.  log_tail: [...] nats; −inf means none.
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
        """The mass of the rest given to the kept tokens, in proportion: biased towards them (arXiv 2503.16870)."""
        logprobs = self.logprobs - self.logprobs.logsumexp(-1, keepdim=True)
        return replace(self, logprobs=logprobs, log_tail=torch.full_like(self.log_tail, -torch.inf), tail="none")


@dataclass(frozen=True)
class LabelOnly:
    """The label's log-probability, for methods that read no more. logprobs: [...] nats."""

    logprobs: Tensor


Evidence = Tensor | Dense | Sparse | LabelOnly


@dataclass(frozen=True)
class SupervisedTokens:
    """The T supervised tokens of a call, flattened. `where` are their places in the flattened labels; `group`, the
    ranks that hold the others.
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

    def source(self, name: str) -> Evidence | None:
        """What "reference" or "teacher i" brought; None for nothing."""
        if name == "reference":
            return self.reference
        index = int(name.split()[1])
        return self.teachers[index] if index < len(self.teachers) else None

    def column(self, name: str) -> Tensor:
        """The column "token_weight" or "sequence_ids", [T]."""
        values_T = self.token_weight_T if name == "token_weight" else self.sequence_ids_T
        assert values_T is not None
        return values_T

    def chunk(self, rows: slice) -> SupervisedTokens:
        """The tokens of one chunk."""
        pick = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("where", "labels_T", "token_weight_T", "sequence_ids_T", "counted_T"):
            pick[name] = None if pick[name] is None else pick[name][rows]
        teachers = tuple(evidence_rows(t, rows) for t in self.teachers)
        reference = None if self.reference is None else evidence_rows(self.reference, rows)
        return SupervisedTokens(**{**pick, "teachers": teachers, "reference": reference})

    def multiplier(self, method: Method, dtype: torch.dtype) -> Tensor | float:
        """What token weights multiply the scale by: 1 for a method that reads the weight itself."""
        weight = self.token_weight_T
        return 1.0 if weight is None or method.weight_is_trust else weight.to(dtype)

    def denominator(self, num_items: int | Tensor | None) -> Tensor:
        """What the sum of the loss is divided by; 1 where a whole step has nothing supervised."""
        if num_items is None:
            num_items = self.num_supervised if self.group is None else summed_(self.num_supervised.clone(), self.group)
        return torch.as_tensor(num_items).clamp(min=1)

    def mean(self, values_T: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over the tokens that count, and their number: in training those of weight > 0, else all."""
        number = self.counted_T.sum()
        return values_T.masked_fill(~self.counted_T, 0.0).sum() / number.clamp(min=1), number

    def unflatten(self, values_T: Tensor, blank: float = float("nan")) -> Tensor:
        """[T, ...] back to [*labels.shape, ...], `blank` (False) at the tokens left out."""
        blank = False if values_T.dtype == torch.bool else blank
        out = values_T.new_full((self.shape.numel(), *values_T.shape[1:]), blank)
        return out.index_copy(0, self.where, values_T).view(self.shape + values_T.shape[1:])


def stated_moment(evidence: Evidence, moment: Moment | None, dtype: torch.dtype) -> Tensor | None:
    """A moment that evidence states itself, [T], so that it need not be measured: a label's log-probability alone, or
    the entropy that was kept beside the likeliest tokens.
    """
    if isinstance(evidence, LabelOnly) and moment is Moment.LABEL_LOGP:
        return evidence.logprobs.to(dtype).clamp(min=FLOOR)
    if isinstance(evidence, Sparse) and moment is Moment.ENTROPY and evidence.entropy is not None:
        return evidence.entropy.to(dtype)
    return None


def evidence_rows(evidence: Evidence, rows: Any) -> Evidence:
    """The evidence of some tokens: `rows` indexes the axes it shares with `labels`."""
    if isinstance(evidence, Dense):
        return replace(evidence, hidden=evidence.hidden[rows])
    if isinstance(evidence, Sparse):
        entropy = None if evidence.entropy is None else evidence.entropy[rows]
        picked = {"logprobs": evidence.logprobs[rows], "log_tail": evidence.log_tail[rows], "entropy": entropy}
        return replace(evidence, ids=evidence.ids[rows], **picked)
    return LabelOnly(evidence.logprobs[rows]) if isinstance(evidence, LabelOnly) else evidence[rows]


class CallInputs(NamedTuple):
    """What a call brought beside student and labels, as the caller gave it."""

    teacher: Evidence | tuple[Evidence, ...] | None
    reference: Evidence | None
    token_weight: Tensor | None
    sequence_ids: Tensor | None
    token_group: ProcessGroup | None = None

    @property
    def teachers(self) -> tuple[Evidence, ...]:
        return self.teacher if isinstance(self.teacher, tuple) else () if self.teacher is None else (self.teacher,)
