"""Drawing completions in batches: where a row has ended, another request takes its place.

One call of transformers' `generate` draws until some rows have ended. Then these leave the batch, others enter it, and
the next call goes on from the cache. Models whose cache rows cannot leave are drawn batch by batch (see `row_cache`).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from transformers import (
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)

from qtarget.evaluate.generators.row_cache import batching_of, empty_cache, join_rows, keep_rows
from qtarget.evaluate.generators.row_noise import RowNoise
from qtarget.evaluate.generators.sampled_rows import (
    UNWATCHED,
    AtEachToken,
    SampledRow,
    Watch,
    left_padded,
    processors_of,
)
from qtarget.evaluate.nouns import SamplingProtocol

REFILL_SHARE = 8
"""A batch is refilled when one in so many of its rows has ended: each time costs a call for the new prompts."""


def ends_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens at which a completion ends: those of the model's generation configuration, and the tokenizer's own, as
    other engines have it."""
    config = model.generation_config
    given = None if config is None else config.eos_token_id
    ends = [*(given if isinstance(given, list) else [given]), tokenizer.eos_token_id]
    return list(dict.fromkeys(cast(int, end) for end in ends if end is not None))


def positions_of_model(model: PreTrainedModel) -> int | None:
    """How many positions a model has; None where its configuration sets no end to them."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    protocol: SamplingProtocol,
    watch: Watch = UNWATCHED,
    batch_size: int | None = None,
) -> list[list[int]]:
    """One completion of each prompt: token ids up to and with the end token, where one came.

    A completion without an end token is cut off at the protocol's limit, or where its own prompt and it have used up
    the model's positions. The caller's random state is untouched, and the model is in evaluation mode for the duration.

    Args:
        prompts: token ids, used as they stand.
        seeds: one a completion. The same seed gives the same draw whatever stands beside it in the batch, up to
            rounding of the logits, which depends on the batch's shape.
        protocol: only its temperature, top_p and max_new_tokens are looked at.
        watch: told how the drawing goes.
        batch_size: prompts at once, the longest first; None: all of them.

    Raises:
        ValueError: a prompt leaves no position for a token.
    """
    ends = ends_of(model, tokenizer)
    rows = [
        _row(model, place, ids, seed, protocol) for place, (ids, seed) in enumerate(zip(prompts, seeds, strict=True))
    ]
    batch = _Batch(model, protocol, ends, _padding(tokenizer, ends), watch, batch_size or len(rows))
    with _evaluation_mode(model):
        batch.draw(sorted(rows, key=lambda row: -len(row.ids)))
    return [row.completion for row in rows]


def _row(model: PreTrainedModel, place: int, ids: Sequence[int], seed: int, protocol: SamplingProtocol) -> SampledRow:
    most, positions = len(ids) + protocol.max_new_tokens, positions_of_model(model)
    if positions is not None and len(ids) >= positions:
        raise ValueError(f"Prompt {place} has {len(ids)} tokens, and the model has {positions} positions; shorten it.")
    return SampledRow(place, list(ids), len(ids), min(most, positions or most), RowNoise(seed, model.device))


def _padding(tokenizer: PreTrainedTokenizerBase, ends: Sequence[int]) -> int:
    return cast(int, tokenizer.pad_token_id if tokenizer.pad_token_id is not None else next(iter(ends), 0))


@dataclass
class _Batch:
    """The rows that are drawn together.

    Attributes:
        size: rows at once, at most.
        cache: of all ids of the rows but each one's last; None where rows cannot leave it.
    """

    model: PreTrainedModel
    protocol: SamplingProtocol
    ends: list[int]
    padding: int
    watch: Watch
    size: int
    rows: list[SampledRow] = field(default_factory=list)
    cache: DynamicCache | None = None

    def draw(self, rows: Sequence[SampledRow]) -> None:
        waiting, batching = deque(rows), batching_of(self.model)
        if batching == "refilled" and all(len(row.ids) > 1 for row in rows):
            self._draw_refilled(waiting)
        else:
            self._draw_by_batch(waiting, only_alike=batching == "alike")

    def _draw_refilled(self, waiting: deque[SampledRow]) -> None:
        while (self.rows or waiting) and not self.watch.is_stopped():
            if len(self.rows) <= self.size - self._share(self.size):
                self._admit(waiting)
            self._draw_until(self._share(len(self.rows)))
            self._drop_ended()

    def _draw_by_batch(self, waiting: deque[SampledRow], *, only_alike: bool) -> None:
        while (self.rows or waiting) and not self.watch.is_stopped():
            self.rows = self.rows or self._next_batch(waiting, only_alike)
            self._draw_until(len(self.rows))
            self._drop_ended()

    def _next_batch(self, waiting: deque[SampledRow], only_alike: bool) -> list[SampledRow]:
        rows = [waiting.popleft()]
        while waiting and len(rows) < self.size:
            if only_alike and len(waiting[0].ids) != len(rows[0].ids):
                break
            rows.append(waiting.popleft())
        return rows

    def _share(self, rows: int) -> int:
        return max(1, rows // REFILL_SHARE)

    def _admit(self, waiting: deque[SampledRow]) -> None:
        """Let rows enter the batch. A prompt that several of them have goes through the model once."""
        new = [waiting.popleft() for _ in range(min(self.size - len(self.rows), len(waiting)))]
        if not new:
            return
        prompts = [tuple(row.ids[:-1]) for row in new]
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
        cache = empty_cache(self.model)
        self._generate(list(places), cache, max_new_tokens=1)
        keep_rows(cache, [places[prompt] for prompt in prompts], max(map(len, prompts)))
        if self.cache is None:
            self.cache = cache
        else:
            join_rows(self.cache, cache)
        self.rows += new

    def _draw_until(self, ended: int) -> None:
        """Draw tokens until so many of the rows have ended, or one of them may have no more."""
        self._generate(
            [row.ids for row in self.rows],
            self.cache,
            max_new_tokens=min(row.most - len(row.ids) for row in self.rows),
            logits_processor=processors_of(self.protocol, self.rows),
            stopping_criteria=StoppingCriteriaList([AtEachToken(self.rows, self.ends, self.watch, ended)]),
        )

    def _generate(
        self, ids: Sequence[Sequence[int]], cache: DynamicCache | None, max_new_tokens: int, **more: Any
    ) -> None:
        config = GenerationConfig(
            do_sample=False,  # `GumbelNoise` makes the largest logit a draw
            max_new_tokens=max_new_tokens,
            eos_token_id=self.ends or None,
            pad_token_id=self.padding,
        )
        inputs = left_padded(ids, self.padding, self.model.device)
        if cache is not None:
            more["past_key_values"] = cache
        with _only_this_config(self.model, config):
            cast(Any, self.model).generate(**inputs, generation_config=config, **more)

    def _drop_ended(self) -> None:
        left = [place for place, row in enumerate(self.rows) if not row.has_ended]
        self.rows = [self.rows[place] for place in left]
        if not left:
            self.cache = None
        elif self.cache is not None:
            keep_rows(self.cache, left, max(len(row.ids) for row in self.rows) - 1)


@contextmanager
def _evaluation_mode(model: PreTrainedModel) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def _only_this_config(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Put the model's own generation settings, such as a repetition penalty, aside for the duration: transformers takes
    from them whatever a caller leaves open."""
    original = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = original
