"""From what an engine says at each token to what is kept of it: the K likeliest, the label among them, and the rest."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from qtarget.teacher.distributions import Keep, KeptLogprobs
from qtarget.teacher.documents import Document
from qtarget.teacher.engines.dialect import ScoredPrompt, TokenScores
from qtarget.teacher.served.wire import SLACK

MINUS_INFINITY = -9000.0
"""Nats at or below which vLLM writes −inf, which JSON cannot."""


class _Row(NamedTuple):
    ids: list[int]
    logprobs: list[float]
    log_tail: float
    label: float
    entropy: float


def kept_of_prompt(prompt: ScoredPrompt, document: Document, keep: Keep, vocab: int) -> KeptLogprobs:
    """What is kept about the asked tokens of one document, as `kept_logprobs` of a live model.

    The entropy is that of the kept tokens and the rest as one token more, which is a lower bound of the model's; with
    every token kept it is the model's own.

    Args:
        keep: its K likeliest tokens; at a temperature other than 1 every token.
        vocab: ids below this are tokens. Others, rows of the output layer that stand for none, get no mass.

    Raises:
        ValueError: the answer is about other tokens, or holds what is no log-probability.
    """
    check_tokens(prompt, document.ids)
    rows = []
    for place in document.asked.nonzero()[0].tolist():
        try:
            rows.append(_row(prompt.scores[place], int(document.ids[place]), keep, vocab))
        except ValueError as error:
            raise ValueError(f"at token {place + 1} of a document of {len(document.ids)}, {error}") from error
    width = min(keep.k, vocab)
    return KeptLogprobs(
        torch.tensor([row.ids for row in rows], dtype=torch.int32).view(len(rows), width),
        torch.tensor([row.logprobs for row in rows], dtype=torch.float64).view(len(rows), width).float(),
        *(torch.tensor(column) for column in zip(*(row[2:] for row in rows), strict=True)),
    )


def check_tokens(prompt: ScoredPrompt, ids: np.ndarray) -> None:
    """Refuse what an engine says about other tokens than it was sent."""
    sent, read = ids.tolist(), prompt.ids
    if read is not None and list(read) != sent:
        more = len(read) - len(sent)
        if more > 0 and list(read[more:]) == sent:
            raise ValueError(f"it puts {more} token(s) before what it is sent, first {read[0]} (a second beginning?)")
        raise ValueError(f"it has read the tokens {list(read[:8])}… where it was sent {sent[:8]}…")
    if len(prompt.scores) != len(sent):
        raise ValueError(f"it speaks of {len(prompt.scores)} tokens where it was sent {len(sent)}")
    if (shift := _shift(prompt.scores, sent)) is not None:
        raise ValueError(f"what it says of a token stands {abs(shift)} place(s) {'later' if shift > 0 else 'earlier'}")
    for place, (scores, token) in enumerate(zip(prompt.scores, sent, strict=True)):
        if place and scores is None:
            raise ValueError(f"it says nothing of token {place + 1} of {len(sent)}")
        if place and scores is not None and token not in scores:
            raise ValueError(f"it says nothing of {token}, which is token {place + 1}, but of other tokens there")


def _shift(scores: Sequence[TokenScores | None], sent: Sequence[int]) -> int | None:
    """By how many places an answer is out of step; None where it is not, or by more than one."""

    def holds(by: int) -> bool:
        pairs = [(scores[at + by], token) for at, token in enumerate(sent) if at and 0 < at + by < len(sent)]
        return bool(pairs) and all(each is not None and token in each for each, token in pairs)

    return None if holds(0) else next((by for by in (1, -1) if holds(by)), None)


def _row(scores: TokenScores | None, label: int, keep: Keep, vocab: int) -> _Row:
    assert scores is not None
    assert label in scores
    if len(scores) < min(keep.k, vocab):
        raise ValueError(f"{len(scores)} tokens are given where {min(keep.k, vocab)} were asked for")
    logprob = {token: value for token, value in scores.items() if 0 <= token < vocab}
    for token, value in logprob.items():
        if math.isnan(value):
            raise ValueError(f"the log-probability of {token} is NaN")
        if value <= MINUS_INFINITY:
            raise ValueError(f"the log-probability of {token} is −inf, as if tokens had been struck out")
        if value > SLACK:
            raise ValueError(f"the log-probability of {token} is {value:.4g}, above 0")
    outside = sum(math.exp(value) for token, value in scores.items() if token >= vocab)
    if outside >= 1:
        raise ValueError("all mass is on rows of the output layer that stand for no token")
    own = logprob[label] - math.log1p(-outside)
    pairs = sorted(
        ((token, value - math.log1p(-outside)) for token, value in logprob.items()), key=lambda p: (-p[1], p[0])
    )
    kept = pairs[: keep.k]
    if keep.k and all(token != label for token, _ in kept):
        kept[-1] = (label, dict(pairs)[label])
    mass = math.fsum(math.exp(value) for _, value in kept)
    if mass > 1 + SLACK:
        raise ValueError(f"its {len(kept)} likeliest tokens have mass {mass:.4f}, more than 1")
    tail = 1 - mass if len(kept) < vocab else 0.0
    kept, tail = _filled(kept, tail, min(keep.k, vocab), vocab)
    log_tail = math.log(tail) if tail > 0 else -math.inf
    entropy = -math.fsum(value * math.exp(value) for _, value in kept) - (tail * log_tail if tail > 0 else 0.0)
    if keep.temperature != 1:
        kept = _tempered(kept, keep.temperature, vocab)
    tokens, logprobs = [token for token, _ in kept], [min(value, 0.0) for _, value in kept]
    return _Row(tokens, logprobs, log_tail, min(own, 0.0), max(entropy, 0.0))


def _tempered(pairs: list[tuple[int, float]], temperature: float, vocab: int) -> list[tuple[int, float]]:
    assert len(pairs) >= vocab  # else the mass of the rest is not known at another temperature
    scaled = [value / temperature for _, value in pairs]
    norm = scaled[0] + math.log(math.fsum(math.exp(value - scaled[0]) for value in scaled))
    return [(token, value - norm) for (token, _), value in zip(pairs, scaled, strict=True)]


def _filled(
    kept: list[tuple[int, float]], tail: float, width: int, vocab: int
) -> tuple[list[tuple[int, float]], float]:
    """The kept tokens, as many as are wanted: where rows without a token took places of an answer, tokens of which
    nothing was said take an even share of the rest, and at most as much as the least likely that was."""
    if len(kept) >= width:
        return kept, tail
    share = min(max(tail, 1e-30) / (vocab - len(kept)), math.exp(kept[-1][1]))
    there = {token for token, _ in kept}
    unsaid = [token for token in range(width + len(kept)) if token not in there and token < vocab][: width - len(kept)]
    return [*kept, *((token, math.log(share)) for token in unsaid)], max(tail - share * len(unsaid), 0.0)
