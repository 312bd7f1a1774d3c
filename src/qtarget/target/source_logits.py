"""What a source says of every token of the student's vocabulary: logits and log-probabilities, from its evidence."""

import torch
from torch import Tensor

from qtarget.target.evidence import Dense, Evidence, Head, LabelOnly, Sparse
from qtarget.target.pool import FLOOR
from qtarget.target.vocabulary import filled_slots


def log_distribution(evidence: Evidence, logp_TV: Tensor) -> Tensor:
    """A source's log-probabilities over the student's vocabulary, [T, V]; tokens it lacks get no mass."""
    if isinstance(evidence, Sparse):
        return _spread_out(evidence, logp_TV)
    assert not isinstance(evidence, LabelOnly)
    logits = dense_logits(evidence).to(logp_TV.dtype) if isinstance(evidence, Dense) else evidence
    missing = logp_TV.shape[-1] - logits.shape[-1]
    if missing < 0:
        raise ValueError(
            f"evidence covers {logits.shape[-1]} tokens, the student's vocabulary has {logp_TV.shape[-1]}; "
            f"pass logits[..., :{logp_TV.shape[-1]}] if the further columns are padding"
        )
    logits = logits.to(logp_TV.dtype)
    if missing:
        logits = torch.nn.functional.pad(logits, (0, missing), value=-torch.inf)
    return logits.log_softmax(-1).clamp(min=FLOOR)


def dense_logits(source: Dense) -> Tensor:
    """A dense source's logits, [T, V], in the wider of its two dtypes."""
    dtype = torch.promote_types(source.hidden.dtype, source.head.weight.dtype)
    bias = None if source.head.bias is None else source.head.bias.to(dtype)
    head = source.head._replace(weight=source.head.weight.to(dtype), bias=bias)
    return head.axis.whole(head_logits(source.hidden.to(dtype), head))[..., : source.vocab]


def head_logits(hidden: Tensor, head: Head) -> Tensor:
    """The logits an output layer gives, [..., V]."""
    logits = torch.nn.functional.linear(hidden, head.weight, head.bias)
    logits = logits if head.scale is None else logits * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def _spread_out(evidence: Sparse, logp_TV: Tensor) -> Tensor:
    """The K kept tokens as they are, and the tail over the others in its shape."""
    shape_TV = (
        logp_TV if evidence.tail == "student" else torch.zeros_like(logp_TV).masked_fill(logp_TV <= FLOOR / 2, FLOOR)
    )
    at_TK, is_empty_TK = filled_slots(evidence.ids)
    logprobs_TK = torch.where(is_empty_TK, evidence.logprobs[:, :1], evidence.logprobs)
    log_rest = shape_TV.scatter(-1, at_TK, -torch.inf).logsumexp(-1).clamp(min=FLOOR)
    tail_TV = (shape_TV + (evidence.log_tail.to(logp_TV.dtype) - log_rest)[:, None]).clamp(min=FLOOR)
    return tail_TV.scatter(-1, at_TK, logprobs_TK.to(logp_TV.dtype).clamp(min=FLOOR))


def temperature_of(evidence: Evidence | None) -> float:
    """The temperature that a source's distribution was kept at: t to the power a is that one to a·T."""
    return evidence.temperature if isinstance(evidence, Sparse) else 1.0
