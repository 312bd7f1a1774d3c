"""Sampling from any Hugging Face causal language model: every completion has its own seed and random numbers."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Queue
from threading import Event
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from qtarget.evaluate.nouns import Completion, Finish, Request, SamplingProtocol

NOISE_BLOCK = 4096
"""Random numbers that a completion draws at once; where the vocabulary is larger, those of one step."""


def seed_of(seed: int, question: str, sample: int) -> int:
    """The seed of one completion's random numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{question}/{sample}".encode()).digest()[:7], "big")


def ends_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens at which a completion ends: those of the model's generation configuration, and the tokenizer's own, as
    other engines have it."""
    config = model.generation_config
    given = None if config is None else config.eos_token_id
    ends = [*(given if isinstance(given, list) else [given]), tokenizer.eos_token_id]
    return list(dict.fromkeys(cast(int, end) for end in ends if end is not None))


def complete(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[Request], protocol: SamplingProtocol
) -> list[Completion]:
    """The completions of some requests, in their order, all drawn in one batch; see `draw`."""
    place = {(request.qid, request.sample): index for index, request in enumerate(requests)}
    drawn = complete_as_they_end(model, tokenizer, requests, protocol)
    return sorted(drawn, key=lambda done: place[done.request.qid, done.request.sample])


def complete_as_they_end(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: Sequence[Request], protocol: SamplingProtocol
) -> Iterator[Completion]:
    """The completions of some requests, all drawn in one batch, each as soon as it has ended; see `draw`.

    The batch is drawn in a thread of its own, which stops at the next token when the iterator is closed.
    """
    ended: Queue[tuple[int, list[int]] | None] = Queue()
    stopped = Event()

    prompts, seeds = [request.prompt_ids for request in requests], [request.seed for request in requests]
    with ThreadPoolExecutor(1) as threads:
        drawing = threads.submit(draw, model, tokenizer, prompts, seeds, protocol, Watch(ended.put, stopped.is_set))
        drawing.add_done_callback(lambda _: ended.put(None))
        try:
            early = set()
            while (pair := ended.get()) is not None:
                early.add(pair[0])
                yield _completion(model, tokenizer, requests[pair[0]], pair[1])
        finally:
            stopped.set()
        for row, ids in enumerate(drawing.result()):
            if row not in early:
                yield _completion(model, tokenizer, requests[row], ids)


def _completion(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, request: Request, ids: list[int]
) -> Completion:
    finish: Finish = "stop" if ids and ids[-1] in ends_of(model, tokenizer) else "length"
    return Completion(request, cast(str, tokenizer.decode(ids, skip_special_tokens=True)), finish, len(ids), tuple(ids))


class Watch(NamedTuple):
    """Callbacks of `draw`.

    Attributes:
        ended: called with a completion's place in the batch and its token ids when its end token is drawn.
        is_stopped: asked at every token; True breaks the batch off.
    """

    ended: Callable[[tuple[int, list[int]]], None]
    is_stopped: Callable[[], bool]


class _AtEachToken(StoppingCriteria):
    """Tells a `Watch` of the completions that end."""

    def __init__(self, watch: Watch, ends: Sequence[int], prompt_tokens: int) -> None:
        self.watch, self.ends, self.prompt_tokens = watch, frozenset(ends), prompt_tokens
        self.told: set[int] = set()

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if token in self.ends and row not in self.told:
                self.told.add(row)
                self.watch.ended((row, input_ids[row, self.prompt_tokens :].tolist()))
        stops = torch.full((len(input_ids),), self.watch.is_stopped(), device=input_ids.device)
        return cast(torch.BoolTensor, stops)


def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    protocol: SamplingProtocol,
    watch: Watch | None = None,
) -> list[list[int]]:
    """One completion of each prompt, all in one batch: token ids up to and with the end token, where one came.

    The caller's random state is untouched, and the model is in evaluation mode for the duration.

    Args:
        prompts: token ids, used as they stand.
        seeds: one a completion. The same seed gives the same draw whatever stands beside it in the batch, up to
            rounding of the logits, which depends on the batch's shape.
        protocol: only its temperature, top_p and max_new_tokens are looked at.
        watch: told of each completion that ends before the batch does.
    """
    ends = ends_of(model, tokenizer)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else next(iter(ends), 0)
    inputs = _left_padded(prompts, cast(int, padding), model.device)
    config = GenerationConfig(
        do_sample=False,  # `_GumbelNoise` makes the largest logit a draw
        max_new_tokens=protocol.max_new_tokens,
        eos_token_id=ends or None,
        pad_token_id=padding,
    )
    with _evaluation_mode(model), _only_this_config(model, config):
        output_NS = cast(Any, model).generate(
            **inputs,
            generation_config=config,
            logits_processor=_processors(protocol, seeds, model.device),
            stopping_criteria=_criteria(watch, ends, inputs["input_ids"].shape[1]),
        )
    return [_until_end(ids, ends) for ids in output_NS[:, inputs["input_ids"].shape[1] :].tolist()]


def _criteria(watch: Watch | None, ends: Sequence[int], prompt_tokens: int) -> StoppingCriteriaList:
    return StoppingCriteriaList([] if watch is None else [_AtEachToken(watch, ends, prompt_tokens)])


def _left_padded(prompts: Sequence[Sequence[int]], padding: int, device: torch.device) -> dict[str, Tensor]:
    longest = max(map(len, prompts))
    ids = [[padding] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}


def _processors(protocol: SamplingProtocol, seeds: Sequence[int], device: torch.device) -> LogitsProcessorList:
    if protocol.temperature == 0:
        return LogitsProcessorList()
    processors = LogitsProcessorList([TemperatureLogitsWarper(float(protocol.temperature))])
    if protocol.top_p < 1:
        processors.append(TopPLogitsWarper(protocol.top_p))
    processors.append(_GumbelNoise(seeds, device))
    return processors


class _GumbelNoise(LogitsProcessor):
    """Turns greedy decoding into sampling: argmax_v (z_v − log E_v), E_v ~ Exp(1), is a draw from softmax(z).

    This is the Gumbel-max trick (Maddison et al. 2014, arXiv 1411.0030). Each sequence has a generator of its own.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.noise_NKV: Tensor | None = None
        self.step = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        block = max(1, NOISE_BLOCK // scores.shape[1])
        if self.noise_NKV is None:
            self.noise_NKV = scores.new_empty(len(self.generators), block, scores.shape[1], dtype=torch.float32)
        if self.step % block == 0:
            for noise_KV, generator in zip(self.noise_NKV, self.generators, strict=True):
                noise_KV.exponential_(generator=generator)
            self.noise_NKV.log_()
        noise_NV = self.noise_NKV[:, self.step % block]
        self.step += 1
        return cast(torch.FloatTensor, scores.float() - noise_NV)


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


def _until_end(ids: list[int], ends: list[int]) -> list[int]:
    """The ids up to and with the first end token; what follows it in a batch is padding."""
    end = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[: end + 1]
