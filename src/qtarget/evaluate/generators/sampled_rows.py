"""The rows of a batch while `generate` draws them: what they hold, what is added to their logits, who is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    TemperatureLogitsWarper,
)

from qtarget.evaluate.generators.nucleus import Nucleus
from qtarget.evaluate.generators.row_noise import RowNoise
from qtarget.evaluate.nouns import SamplingProtocol


class Watch(NamedTuple):
    """Callbacks of `draw`.

    Attributes:
        ended: called with a completion's place among the prompts and its token ids when it has ended.
        is_stopped: asked at every token; True breaks the drawing off.
        drawn: called with the number of tokens that one call of the model brought.
    """

    ended: Callable[[int, list[int]], None]
    is_stopped: Callable[[], bool]
    drawn: Callable[[int], None]


UNWATCHED = Watch(lambda place, ids: None, lambda: False, lambda tokens: None)
"""Callbacks that do nothing."""


@dataclass(eq=False)
class SampledRow:
    """A prompt and what was drawn of its completion.

    Attributes:
        ids: of both.  most: ids that it ends with, unless an end token comes before.
    """

    place: int
    ids: list[int]
    prompt_tokens: int
    most: int
    noise: RowNoise
    has_ended: bool = False

    @property
    def drawn(self) -> int:
        return len(self.ids) - self.prompt_tokens

    @property
    def completion(self) -> list[int]:
        return self.ids[self.prompt_tokens :]


class GumbelNoise(LogitsProcessor):
    """Subtracts each row's noise from its logits, so that the largest is a draw."""

    def __init__(self, rows: Sequence[SampledRow]) -> None:
        self.rows = rows

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        noise = [row.noise.at(row.drawn, scores.shape[1]) for row in self.rows]
        return cast(torch.FloatTensor, scores.float() - torch.stack(noise))


class AtEachToken(StoppingCriteria):
    """Gives the rows their tokens, tells a `Watch` of them, and ends the call when enough rows have ended."""

    def __init__(self, rows: Sequence[SampledRow], ends: Sequence[int], watch: Watch, enough: int) -> None:
        self.rows, self.ends, self.watch, self.enough = rows, frozenset(ends), watch, enough
        self.is_over = False

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        if not self.is_over:  # on some devices `generate` takes back a token that it drew after the end
            self._take(input_ids[:, -1].tolist())
        return cast(torch.BoolTensor, torch.full((len(input_ids),), self.is_over, device=input_ids.device))

    def _take(self, tokens: Sequence[int]) -> None:
        open_rows = [(row, token) for row, token in zip(self.rows, tokens, strict=True) if not row.has_ended]
        self.watch.drawn(len(open_rows))
        for row, token in open_rows:
            row.ids.append(token)
            row.has_ended = token in self.ends or len(row.ids) == row.most
            if row.has_ended:
                self.watch.ended(row.place, row.completion)
        self.is_over = self.watch.is_stopped() or sum(row.has_ended for row in self.rows) >= self.enough


def processors_of(protocol: SamplingProtocol, rows: Sequence[SampledRow]) -> LogitsProcessorList:
    """What makes the largest logit of each row a draw by a protocol; nothing at temperature 0."""
    if protocol.temperature == 0:
        return LogitsProcessorList()
    processors = LogitsProcessorList([TemperatureLogitsWarper(float(protocol.temperature))])
    if protocol.top_p < 1:
        processors.append(Nucleus(protocol.top_p))
    processors.append(GumbelNoise(rows))
    return processors


def left_padded(rows: Sequence[Sequence[int]], padding: int, device: torch.device) -> dict[str, Tensor]:
    """Ids and attention mask `[N, S]`, padding before the shorter rows."""
    longest = max(map(len, rows))
    ids = [[padding] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}
