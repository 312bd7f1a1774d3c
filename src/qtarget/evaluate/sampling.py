"""Sampling k completions per prompt from any Hugging Face causal language model."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[int, int], None]  # (prompts done, prompts in all)


@dataclass(frozen=True)
class Sample:
    """One completion: its text without special tokens, its length (the end token counts), how it ended."""

    text: str
    num_tokens: int
    truncated: bool  # reached max_new_tokens before an end-of-sequence token


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. The whole softmax is sampled: neither top-k nor top-p cuts it."""

    k: int = 16
    temperature: float = 1.0
    max_new_tokens: int = 512
    batch_size: int = 64  # prompts at a time; the model sees batch_size * k sequences
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("k", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} was given; write {name}=1 or more.")
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} was given; write one above 0, such as temperature=1.0.")


def sample_completions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    sampling: Sampling,
    progress: Progress | None = None,
) -> list[list[Sample]]:
    """Draw ``sampling.k`` completions of every prompt: ``[Q][k]`` samples.

    Prompts are tokenized as they stand (add your chat template before). Each batch draws from a generator
    state of its own, made from the seed and the batch's place, so a rerun on the same machine, versions and
    batch size repeats every completion, and the caller's random state is untouched. The model is put in
    evaluation mode for the duration.
    """
    was_training = model.training
    model.eval()
    try:
        return list(_batches(model, tokenizer, prompts, sampling, progress))
    finally:
        model.train(was_training)


def _batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    sampling: Sampling,
    progress: Progress | None,
) -> Iterable[list[Sample]]:
    config = _generation_config(model, tokenizer, sampling)
    for start in range(0, len(prompts), sampling.batch_size):
        batch = list(prompts[start : start + sampling.batch_size])
        with torch.random.fork_rng():
            torch.manual_seed(_batch_seed(sampling.seed, start))
            yield from _draw(model, tokenizer, batch, config)
        if progress is not None:
            progress(start + len(batch), len(prompts))


def _batch_seed(seed: int, start: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{start}".encode()).digest()[:7], "big")


def _generation_config(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sampling: Sampling
) -> GenerationConfig:
    """The model's own end tokens, and nothing else of its defaults (which may cut the distribution)."""
    own = model.generation_config
    ends = own.eos_token_id if own is not None and own.eos_token_id is not None else tokenizer.eos_token_id
    return GenerationConfig(
        do_sample=True,
        temperature=sampling.temperature,
        top_k=0,
        top_p=1.0,
        num_return_sequences=sampling.k,
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
    )


def _draw(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], config: GenerationConfig
) -> list[list[Sample]]:
    inputs = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt").to(model.device)
    output_NS = cast(Any, model).generate(**inputs, generation_config=config)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    completions = [_until_end(ids, ends) for ids in output_NS[:, inputs["input_ids"].shape[1] :].tolist()]
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    samples = [
        Sample(text, len(ids), truncated=ids[-1] not in ends) for text, ids in zip(texts, completions, strict=True)
    ]
    k = config.num_return_sequences
    return [samples[i : i + k] for i in range(0, len(samples), k)]


def _until_end(ids: list[int], ends: list[int]) -> list[int]:
    """The ids up to and with the first end token; what follows it in a batch is padding."""
    end = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[: end + 1]
