"""Sampling from any Hugging Face causal language model: every completion has its own seed and random numbers."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from threading import Event
from typing import cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from qtarget.evaluate.generators.drawing import draw, ends_of
from qtarget.evaluate.generators.sampled_rows import Watch
from qtarget.evaluate.nouns import Completion, Finish, Request, SamplingProtocol


def seed_of(seed: int, question: str, sample: int) -> int:
    """The seed of one completion's random numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{question}/{sample}".encode()).digest()[:7], "big")


def complete(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[Request], protocol: SamplingProtocol
) -> list[Completion]:
    """The completions of some requests, in their order, all drawn in one batch; see `draw`."""
    prompts, seeds = [request.prompt_ids for request in requests], [request.seed for request in requests]
    drawn, ends = draw(model, tokenizer, prompts, seeds, protocol), ends_of(model, tokenizer)
    return [_completion(tokenizer, ends, *pair) for pair in zip(requests, drawn, strict=True)]


def complete_as_they_end(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    protocol: SamplingProtocol,
    batch_size: int | None = None,
    on_tokens: Callable[[int], None] = lambda tokens: None,
) -> Iterator[Completion]:
    """The completions of some requests, each as soon as it has ended; see `draw`.

    They are drawn in a thread of its own, which stops at the next token when the iterator is closed.

    Args:
        on_tokens: called, in the reader's thread, with the number of tokens that one call of the model brought.
    """
    events: Queue[int | tuple[int, list[int]] | None] = Queue()
    stopped, ends = Event(), ends_of(model, tokenizer)
    watch = Watch(lambda place, ids: events.put((place, ids)), stopped.is_set, events.put)
    prompts, seeds = [request.prompt_ids for request in requests], [request.seed for request in requests]
    with ThreadPoolExecutor(1) as threads:
        drawing = threads.submit(draw, model, tokenizer, prompts, seeds, protocol, watch, batch_size)
        drawing.add_done_callback(lambda _: events.put(None))
        try:
            while (event := events.get()) is not None:
                if isinstance(event, int):
                    on_tokens(event)
                else:
                    yield _completion(tokenizer, ends, requests[event[0]], event[1])
        finally:
            stopped.set()
        drawing.result()


def _completion(
    tokenizer: PreTrainedTokenizerBase, ends: Sequence[int], request: Request, ids: list[int]
) -> Completion:
    finish: Finish = "stop" if ids and ids[-1] in ends else "length"
    return Completion(request, cast(str, tokenizer.decode(ids, skip_special_tokens=True)), finish, len(ids), tuple(ids))
