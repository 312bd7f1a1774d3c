"""Sampling completions from any Hugging Face causal language model, each from random numbers of its own."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

SamplingProgress = Callable[[int, int], None]  # (prompts done, prompts in all)
NOISE_BLOCK = 4096
"""Random numbers that a completion draws at once, at least one step's."""


@dataclass(frozen=True)
class Sample:
    """One completion: its text without special tokens, its length (the end token counts), how it ended."""

    text: str
    num_tokens: int
    truncated: bool  # reached max_new_tokens before an end-of-sequence token


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. top_p 1 samples the whole softmax; nothing else ever cuts it."""

    k: int = 16
    temperature: float = 1.0
    max_new_tokens: int = 512
    batch_size: int = 64  # prompts at a time; the model sees batch_size * k sequences
    seed: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        for name in ("k", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} was given; write {name}=1 or more.")
        if not self.temperature >= 0:
            raise ValueError(
                f"temperature={self.temperature} was given; write one from 0 (greedy), as temperature=1.0."
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} was given; write one above 0 and up to 1, as top_p=1.0.")


def sample_completions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    sampling: Sampling,
    progress: SamplingProgress | None = None,
) -> list[list[Sample]]:
    """Draw ``sampling.k`` completions of every prompt: ``[Q][k]`` samples.

    Prompts are tokenized as they stand (add your chat template before). Each completion has random numbers of its
    own, made from the seed, the prompt's place and the sample's number, so a rerun on the same machine and versions
    repeats every completion, and the caller's random state is untouched. The model is put in evaluation mode for
    the duration.
    """
    drawn = []
    for start in range(0, len(prompts), sampling.batch_size):
        batch = range(start, min(start + sampling.batch_size, len(prompts)))
        ids = [cast(list[int], tokenizer(prompts[place])["input_ids"]) for place in batch for _ in range(sampling.k)]
        seeds = [seed_of(sampling.seed, str(place), sample) for place in batch for sample in range(sampling.k)]
        samples = _samples(tokenizer, draw(model, tokenizer, ids, seeds, sampling), ends_of(model, tokenizer))
        drawn += [samples[i : i + sampling.k] for i in range(0, len(samples), sampling.k)]
        if progress is not None:
            progress(batch.stop, len(prompts))
    return drawn


def seed_of(seed: int, question: str, sample: int) -> int:
    """The seed of one completion's random numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{question}/{sample}".encode()).digest()[:7], "big")


def ends_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The model's own end tokens, or else the tokenizer's."""
    own = model.generation_config
    ends = own.eos_token_id if own is not None and own.eos_token_id is not None else tokenizer.eos_token_id
    return cast(list[int], ends if isinstance(ends, list) else [ends])


def draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampling: Sampling,
) -> list[list[int]]:
    """One completion of each prompt, all in one batch: token ids up to and with the end token, where one came.

    Args:
        prompts: token ids, used as they stand.
        seeds: one a completion. The same seed gives the same draw whatever stands beside it in the batch, up to
            rounding of the logits, which depends on the batch's shape.
        sampling: its `k`, `batch_size` and `seed` are not looked at.
    """
    ends = ends_of(model, tokenizer)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    inputs = _left_padded(prompts, cast(int, padding), model.device)
    config = GenerationConfig(
        do_sample=False,  # `_OwnNoise` makes the largest logit a draw
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=ends,
        pad_token_id=padding,
    )
    with _evaluating(model), _nothing_else(model, config):
        output_NS = cast(Any, model).generate(
            **inputs, generation_config=config, logits_processor=_processors(sampling, seeds, model.device)
        )
    return [_until_end(ids, ends) for ids in output_NS[:, inputs["input_ids"].shape[1] :].tolist()]


def _left_padded(prompts: Sequence[Sequence[int]], padding: int, device: torch.device) -> dict[str, Tensor]:
    longest = max(map(len, prompts))
    ids = [[padding] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}


def _processors(sampling: Sampling, seeds: Sequence[int], device: torch.device) -> LogitsProcessorList:
    if sampling.temperature == 0:
        return LogitsProcessorList()
    found = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_p < 1:
        found.append(TopPLogitsWarper(sampling.top_p))
    found.append(_OwnNoise(seeds, device))
    return found


class _OwnNoise(LogitsProcessor):
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
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def _nothing_else(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """For a while the model has no generation settings of its own, such as a repetition penalty: transformers fills
    from them whatever a caller leaves open."""
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own


def _samples(tokenizer: PreTrainedTokenizerBase, completions: list[list[int]], ends: list[int]) -> list[Sample]:
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    return [Sample(text, len(ids), truncated=ids[-1] not in ends) for text, ids in zip(texts, completions, strict=True)]


def _until_end(ids: list[int], ends: list[int]) -> list[int]:
    """The ids up to and with the first end token; what follows it in a batch is padding."""
    end = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[: end + 1]
