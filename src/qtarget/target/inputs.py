"""The inputs of a loss call: checked against what the method needs, and flattened to the T supervised tokens."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from qtarget.target.evidence import CallInputs, Dense, Evidence, Head, LabelOnly, Sparse, SupervisedTokens, exact
from qtarget.target.kept_tokens import check_kept_tokens
from qtarget.target.rule import COLUMNS
from qtarget.target.types import Method


def supervised_tokens(
    labels: Tensor, method: Method, vocab: int, given: CallInputs, ignore_index: int, drop_weightless: bool
) -> SupervisedTokens:
    """Check the inputs against what the method needs, and keep the supervised tokens: those whose label is not ignored.

    Args:
        labels: [...] token ids.  vocab: how many tokens the student has.
        drop_weightless: leave out tokens of weight 0 too, which get no gradient; kept where a rule looks beyond its
            token, since the others' statistics depend on them.

    Raises:
        ValueError: something the method needs is missing or unusable, shapes disagree, or a label is no token id.
    """
    _check_needs(method, given)
    check_kept_tokens(method, given, vocab)
    for name in ("token_weight", "sequence_ids", "position"):
        extra = getattr(given, name)
        if extra is not None and not isinstance(extra, Tensor):
            one = repr(extra) if isinstance(extra, int | float) else f"… of type {type(extra).__name__}"
            raise ValueError(f"{name}={one} is no tensor, and each label has its own; {_FIX[name]}")
        if extra is not None and extra.shape != labels.shape:
            raise ValueError(f"{name} has shape {list(extra.shape)}, labels {list(labels.shape)}; they must be equal")
    flat = labels.reshape(-1)
    keep = flat != ignore_index
    _check_labels(flat, keep, vocab, ignore_index)
    num_supervised = keep.sum()
    weight = None if given.token_weight is None else _checked_weight(given.token_weight.reshape(-1), keep, method)
    counted, position = keep, _checked_share("position", given.position, keep)
    if weight is not None and drop_weightless:
        counted = keep & (weight > 0)
        keep = keep & (weight != 0) if method.scope == "token" else keep
    where, reference, sequences = keep.nonzero().squeeze(-1), given.reference, given.sequence_ids
    return SupervisedTokens(
        where=where,
        labels_T=flat[where].long(),
        teachers=tuple(_flatten(t, where, labels.shape, vocab, "teacher") for t in given.teachers),
        reference=None if reference is None else _flatten(reference, where, labels.shape, vocab, "reference"),
        token_weight_T=None if weight is None else weight[where],
        sequence_ids_T=None if sequences is None else sequences.reshape(-1)[where],
        shape=labels.shape,
        num_supervised=num_supervised,
        counted_T=counted[where],
        group=given.token_group,
        progress=_checked_share("progress", given.progress),
        position_T=None if position is None else position.reshape(-1)[where],
    )


def method_to_run(method: Method, given: CallInputs) -> Method:
    """The method to run: its `without_reference`, where it has one and token weights are given but no reference."""
    in_place = given.reference is None and given.token_weight is not None
    return method.without_reference or method if in_place else method


_FIX = {
    "teacher": "pass teacher=qt.Dense(hidden, head), qt.Sparse(ids, logprobs, log_tail) or, in the dense call, logits; "
    "several as a tuple",
    "reference": "pass reference=qt.Dense(hidden, head), or in the dense call the logits of the model to stay near",
    "token_weight": "pass token_weight=mask, shaped like labels",
    "sequence_ids": "pass sequence_ids=ids, shaped like labels, equal within a sequence",
    "progress": "pass progress=step / steps, the share of the run's optimizer steps that are done, 0 to 1",
    "position": "pass position=share, shaped like labels, from 0 at a completion's first token to 1 at its last",
}


def _check_needs(method: Method, given: CallInputs) -> None:
    for need in sorted(method.needs):
        if getattr(given, need) is None or (need == "teacher" and not given.teachers):
            raise ValueError(
                f'"{method.name}" needs {_article(need)}, and none was given; {_alternative(method, need)}'
            )
    if method.num_teachers_read and not method.num_teachers_read <= len(given.teachers) <= method.num_teachers:
        raise ValueError(
            f'"{method.name}" is set up for {method.num_teachers} teacher(s) and got {len(given.teachers)}; '
            f"give one exponent or weight per teacher, and as many teachers"
        )
    for name, sources in (("teacher", given.teachers), ("reference", (given.reference,))):
        reads_all = name in method.needs - method.label_only
        if reads_all and any(isinstance(source, LabelOnly) for source in sources):
            raise ValueError(
                f'"{method.name}" reads the whole {name} distribution, and LabelOnly holds the label\'s '
                f"log-probability only; {_FIX[name]}"
            )


def _article(need: str) -> str:
    return need if need in COLUMNS else f"a {need}"


def _alternative(method: Method, need: str) -> str:
    if need == "sequence_ids" and method.scope != "token":
        return f"it looks at whole sequences: {_FIX[need]}"
    return _FIX[need]


def _check_labels(labels: Tensor, keep: Tensor, vocab: int, ignore_index: int) -> None:
    if labels.is_floating_point():
        raise ValueError(f"labels must be token ids (int64), got {labels.dtype}")
    if labels.device.type == "cuda":  # a check here would make the host wait for the device on every step
        return
    labels = labels[keep]
    if labels.numel() and not (int(labels.min()) >= 0 and int(labels.max()) < vocab):
        bad = labels[(labels < 0) | (labels >= vocab)][0].item()
        raise ValueError(
            f"label {bad} is outside the vocabulary of {vocab} tokens; "
            f"mask tokens that are not supervised with {ignore_index}, and check that tokenizer and model match"
        )


def _checked_share(name: str, given: float | Tensor | None, keep: Tensor | None = None) -> Tensor | None:
    """A number from 0 to 1, or one for each label, of which those that `keep` marks are read."""
    if given is None:
        return None
    share = exact(given).detach()
    if keep is None and share.dim():
        raise ValueError(f"{name} has shape {list(share.shape)}, and is one number for the whole call: {name}=0.5")
    kept = share if keep is None else share.reshape(-1)[keep]
    if share.device.type != "cuda" and not bool(((kept >= 0) & (kept <= 1)).all()):
        raise ValueError(f"{name} must be from 0 to 1 at every supervised token; {_FIX[name]}")
    return share


def _checked_weight(weight: Tensor, keep: Tensor, method: Method) -> Tensor:
    if weight.device.type == "cuda":
        return weight.detach()
    if not bool(weight[keep].isfinite().all()):
        raise ValueError("token_weight must be finite and >= 0 at every supervised token")
    if not method.signed_weights and bool((weight < 0)[keep].any()):
        raise ValueError(
            f'token_weight must be finite and >= 0 at every supervised token; "{method.name}" has no meaning for a '
            f'negative one. To move away from such tokens, take qtarget.method("unlikelihood")'
        )
    return weight.detach()


def _flatten(evidence: Evidence, where: Tensor, shape: torch.Size, vocab: int, name: str) -> Evidence:
    """The evidence of the supervised tokens, [T, ...], detached. `where`: their places in the flattened labels."""
    if isinstance(evidence, Dense):
        hidden = _token_rows(evidence.hidden, where, shape, 1, f"{name}.hidden")
        _check_width(evidence, vocab, name)
        return replace(evidence, hidden=hidden, head=_detached(evidence.head))
    if isinstance(evidence, Sparse):
        ids = _token_rows(evidence.ids, where, shape, 1, f"{name}.ids")
        logprobs = _token_rows(evidence.logprobs, where, shape, 1, f"{name}.logprobs")
        if ids.shape != logprobs.shape:
            raise ValueError(
                f"{name}: ids have shape {list(ids.shape)}, logprobs {list(logprobs.shape)}; they must be equal"
            )
        if ids.device.type == "cpu" and bool(((ids < -1) | (ids >= vocab)).any() or (ids[:, :1] < 0).any()):
            raise ValueError(
                f"{name}: ids must be tokens of the student's {vocab}, 0 to {vocab - 1}, or −1 in an empty slot behind "
                "the first"
            )
        log_tail = _token_rows(evidence.log_tail, where, shape, 0, f"{name}.log_tail")
        entropy = evidence.entropy
        entropy = None if entropy is None else _token_rows(entropy, where, shape, 0, f"{name}.entropy")
        return replace(evidence, ids=ids, logprobs=logprobs, log_tail=log_tail, entropy=entropy)
    if isinstance(evidence, LabelOnly):
        return LabelOnly(_token_rows(evidence.logprobs, where, shape, 0, f"{name}.logprobs"))
    if not isinstance(evidence, Tensor):
        raise ValueError(f"{name} is a {type(evidence).__name__}; {_FIX[name]}")
    return _token_rows(evidence, where, shape, 1, name)


def _token_rows(values: Tensor, where: Tensor, shape: torch.Size, trailing: int, name: str) -> Tensor:
    if values.shape[: values.dim() - trailing] != shape:
        raise ValueError(
            f"{name} has shape {list(values.shape)}; "
            f"it must be {[*shape, '...'][: len(shape) + trailing]} to match labels"
        )
    rows = values.detach().reshape(shape.numel(), *values.shape[len(shape) :])
    return rows if len(where) == len(rows) else rows[where]


def _check_width(source: Dense, vocab: int, name: str) -> None:
    rows, width = source.head.axis.total, source.head.weight.shape[1]
    if source.hidden.shape[-1] != width:
        raise ValueError(
            f"{name}.hidden is {source.hidden.shape[-1]} wide, its head.weight [{rows}, {width}]; "
            f"pass the last hidden states and the output layer of one model"
        )
    if rows > vocab and source.vocab is None:
        raise ValueError(
            f"{name} has {rows} rows in its output layer, the student {vocab}; if they share a tokenizer and differ in "
            f"padding, write qt.Dense(hidden, head, vocab=<number of shared tokens>)"
        )


def _detached(head: Head) -> Head:
    bias = None if head.bias is None else head.bias.detach()
    return head._replace(weight=head.weight.detach(), bias=bias)
