"""Samples an hour of the transformers generator on answers of mixed lengths, and its memory in bf16 on a CPU.

    python benchmarks/sampling_rate.py [--json FILE] [--rounds 2] [--questions 16] [--memory-only]

The rate: the same requests are drawn batch by batch, as one `generate` call each, and with finished rows refilled, in
turn. Lengths are geometric (a few tokens of the vocabulary end an answer) and cut off at --most-tokens, so one answer
in a batch is long and most are short. The weights are random; how many samples are the same both ways is counted.
Seconds are the process's CPU seconds: what else runs on the machine counts little.
The memory: 16 prompts of a model of Qwen2.5-0.5B's shape with random weights in bf16, each answered with 32 tokens;
the peak of the resident memory above where it stood once the weights were loaded.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timing import fresh, growth_mib, in_turn, medians, processor, ratio, versions
from transformers import GenerationConfig, LogitsProcessorList, Qwen2Config, Qwen2ForCausalLM

from qtarget.disk.files import write_json
from qtarget.evaluate.generators import drawing
from qtarget.evaluate.generators.row_noise import RowNoise
from qtarget.evaluate.generators.sampled_rows import GumbelNoise
from qtarget.evaluate.nouns import SamplingProtocol
from qtarget.models.causal_lm import keep_head_input_contiguous

RATE_TARGET, MEMORY_TARGET_GIB = 1.5, 1.5
"""At least so many times the samples an hour; at most so much memory above the weights."""
MEAN_TOKENS = 96
PROMPT_TOKENS = (16, 192)
SMALL = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 8,
         "num_key_value_heads": 2, "vocab_size": 16384, "max_position_embeddings": 4096}  # fmt: skip
QWEN_HALF = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True}  # fmt: skip
MEMORY_PROMPTS, MEMORY_PROMPT_TOKENS, MEMORY_TOKENS = 16, 128, 32


class Tokenizer:
    """What drawing asks of a tokenizer."""

    pad_token_id, eos_token_id = 0, 1


class Row:
    """A row of the plain way: its noise, and how many tokens it has drawn."""

    def __init__(self, seed: int) -> None:
        self.noise, self.drawn = RowNoise(seed, torch.device("cpu")), -1


class CountedNoise(GumbelNoise):
    """Noise for `generate` alone, which draws a token of every row at each call."""

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        for row in self.rows:
            row.drawn += 1  # type: ignore[misc]
        return super().__call__(input_ids, scores)


def random_model(shape: dict[str, Any], dtype: torch.dtype) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        model = Qwen2ForCausalLM(Qwen2Config(**shape)).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)
    keep_head_input_contiguous(model)
    return model


def batch_by_batch(model: Any, prompts: Sequence[list[int]], most: int, batch_size: int) -> list[list[int]]:
    """One `generate` call a batch of prompts of like length, until the last of its rows has ended."""
    ends, drawn = drawing.ends_of(model, Tokenizer()), {}  # type: ignore[arg-type]
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        longest = len(prompts[places[0]])
        ids = torch.tensor([[0] * (longest - len(prompts[p])) + prompts[p] for p in places])
        noise = LogitsProcessorList([CountedNoise([Row(place) for place in places])])
        config = GenerationConfig(do_sample=False, max_new_tokens=most, eos_token_id=ends, pad_token_id=0)
        mask = torch.tensor([[0] * (longest - len(prompts[p])) + [1] * len(prompts[p]) for p in places])
        found = model.generate(ids, attention_mask=mask, generation_config=config, logits_processor=noise)
        for place, row in zip(places, found[:, longest:].tolist(), strict=True):
            end = next((i for i, token in enumerate(row) if token in ends), len(row))
            drawn[place] = row[: end + 1]
    return [drawn[place] for place in range(len(prompts))]


def refilled(model: Any, prompts: Sequence[list[int]], most: int, batch_size: int) -> list[list[int]]:
    """The generator's way."""
    ask = SamplingProtocol("plain", k=1, max_new_tokens=most)
    seeds = list(range(len(prompts)))
    return drawing.draw(model, Tokenizer(), prompts, seeds, ask, batch_size=batch_size)  # type: ignore[arg-type]


def rate(options: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turn, on the same requests."""
    model, rng = random_model(SMALL, torch.float32), random.Random(0)
    model.generation_config.eos_token_id = list(range(1, 1 + SMALL["vocab_size"] // MEAN_TOKENS))
    asked = [[rng.randrange(1000, 16000) for _ in range(rng.randint(*PROMPT_TOKENS))] for _ in range(options.questions)]
    prompts = [prompt for prompt in asked for _ in range(options.k)]
    if options.distinct:
        prompts = [[*prompt[:-1], rng.randrange(1000, 16000)] for prompt in prompts]
        rng.shuffle(prompts)
    found: dict[str, list[list[int]]] = {}
    ways = {"batch by batch": batch_by_batch, "refilled": refilled}

    def step(name: str) -> None:
        found[name] = ways[name](model, prompts, options.most_tokens, options.batch_size)

    times = in_turn({name: lambda name=name: step(name) for name in ways}, options.rounds)
    lengths = sorted(map(len, found["refilled"]))
    same = sum(a == b for a, b in zip(*found.values(), strict=True))
    return {
        "samples": len(prompts),
        "batch_size": options.batch_size,
        "samples_a_question": options.k,
        "tokens": {"mean": sum(lengths) / len(lengths), "median": lengths[len(lengths) // 2], "most": lengths[-1]},
        "same_samples": same,
        "samples_a_processor_hour": {name: 3600 * len(prompts) / of["cpu"] for name, of in medians(times).items()},
        "times_as_many": ratio(times, "batch by batch", "refilled"),
        "times_as_many_by_the_wall_clock": ratio(times, "batch by batch", "refilled", "wall"),
        "target": RATE_TARGET,
    }


def memory() -> dict[str, float]:
    """The peak above the weights of 16 prompts in bf16; run in a fresh process."""
    model, rng = random_model(QWEN_HALF, torch.bfloat16), random.Random(0)
    prompts = [[rng.randrange(1000, 150000) for _ in range(MEMORY_PROMPT_TOKENS)] for _ in range(MEMORY_PROMPTS)]
    gib = growth_mib(lambda: refilled(model, prompts, MEMORY_TOKENS, MEMORY_PROMPTS)) / 1024
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters()) / 2**30
    return {"prompts": MEMORY_PROMPTS, "prompt_tokens": MEMORY_PROMPT_TOKENS, "new_tokens": MEMORY_TOKENS,
            "weights_gib": weights, "peak_gib_above_weights": gib, "target": MEMORY_TARGET_GIB}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"rounds": 2, "questions": 16, "k": 4, "batch-size": 16, "most-tokens": 512}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--distinct", action="store_true", help="no two requests share a prompt")
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.memory_only:
        print(json.dumps(memory()))
        return 0
    found = {"rate": rate(options), "memory": fresh(Path(__file__), "--memory-only")}
    found["machine"] = {"processor": processor(), **versions("torch", "transformers")}
    times, gib = found["rate"]["times_as_many"]["median"], found["memory"]["peak_gib_above_weights"]
    print(f"{times:.2f} times the samples an hour, target at least {RATE_TARGET}")
    print(f"{gib:.2f} GiB above the weights, target at most {MEMORY_TARGET_GIB}")
    if options.json:
        write_json(options.json, found)
    return 0 if times >= RATE_TARGET and gib <= MEMORY_TARGET_GIB else 1


if __name__ == "__main__":
    sys.exit(main())
