"""Which numbers a key may hold: what makes no sense is refused before a file is opened."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from qtarget.console import shortened
from qtarget.data import Asker
from qtarget.evaluate.nouns import DRAWING_RANGES
from qtarget.evaluate.number_range import COUNT, LARGEST_COUNT, NumberRange

SHARE = NumberRange(0, 1, 0.9, below=True)
SEED_RANGE = NumberRange(0, 2**32 - 1, 42)
STEPS = NumberRange(0, math.inf, 100, above=True)
NUMBER_RANGES = {
    "learning_rate": NumberRange(0, math.inf, 2e-5, above=True),
    "num_train_epochs": NumberRange(0, math.inf, 3, above=True),
    "max_steps": NumberRange(1, LARGEST_COUNT, 1000, also=(-1,)),
    "schedule_steps": NumberRange(1, LARGEST_COUNT, 1000),
    "per_device_train_batch_size": COUNT,
    "per_device_eval_batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "eval_accumulation_steps": COUNT,
    "warmup_steps": NumberRange(0, math.inf, 0.03),
    "weight_decay": NumberRange(0, math.inf, 0.01),
    "ema": SHARE,
    "adam_beta1": SHARE,
    "adam_beta2": SHARE,
    "adam_epsilon": NumberRange(0, math.inf, 1e-8, above=True),
    "max_grad_norm": NumberRange(0, math.inf, 1.0),
    "max_skipped_steps": NumberRange(0, LARGEST_COUNT, 10),
    "max_length": NumberRange(2, LARGEST_COUNT, 2048),
    "pad_to_multiple_of": COUNT,
    "logging_steps": STEPS,
    "save_steps": STEPS,
    "eval_steps": STEPS,
    "eval_delay": NumberRange(0, math.inf, 0),
    "save_total_limit": COUNT,
    "torch_empty_cache_steps": COUNT,
    "seed": SEED_RANGE,
    "data_seed": SEED_RANGE,
    "train_rows_seed": SEED_RANGE,
    "dataloader_num_workers": NumberRange(0, LARGEST_COUNT, 4),
    "dataloader_prefetch_factor": COUNT,
    "dataset_num_proc": COUNT,
    "ddp_timeout": COUNT,
    "ddp_bucket_cap_mb": COUNT,
    "neftune_noise_alpha": NumberRange(0, math.inf, 5),
    "router_aux_loss_coef": NumberRange(0, math.inf, 0.001),
    "unspanned_weight": NumberRange(0, math.inf, 1.0),
    "teacher_top_k": NumberRange(1, LARGEST_COUNT, 64),
    "teacher_timeout": NumberRange(0, math.inf, 600),
    "lora_r": NumberRange(1, LARGEST_COUNT, 16),
    "lora_alpha": NumberRange(1, math.inf, 32),
    "lora_dropout": NumberRange(0, 1, 0.05, below=True),
    "train_rows": COUNT,
    "rounds": NumberRange(1, LARGEST_COUNT, 2),
    "cache_missing_mass": NumberRange(0, 1, 0.01, above=True, below=True),
    "cache_min_k": NumberRange(1, LARGEST_COUNT, 4),
    "cache_max_k": NumberRange(1, LARGEST_COUNT, 256),
    "cache_batch_tokens": NumberRange(1, LARGEST_COUNT, 8192),
    "cache_shard_tokens": NumberRange(1, LARGEST_COUNT, 65536),
}
"""The keys of a run that hold a number, each with its range."""
SAMPLE_RANGES = {
    **DRAWING_RANGES,
    "seed": SEED_RANGE,
    "limit": NumberRange(1, LARGEST_COUNT, 100),
    "batch_size": COUNT,
}
"""The keys of the section `sample` that hold a number, each with its range."""


IN_A_RUN, IN_SAMPLE = "`{}`", "`sample: {{{}}}`"
"""How a key is written in its place."""


def range_complaints(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each key of a run whose number is out of its range, or that has no number, with what may be written."""
    for key, allowed in NUMBER_RANGES.items():
        line = Asker.COMMAND_LINE.line(key, allowed.example)
        if fault := _fault(key, values.get(key), allowed, IN_A_RUN, line):
            yield key, fault


def sample_range_complaints(section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The same of the keys of the section `sample`."""
    for key, allowed in SAMPLE_RANGES.items():
        line = Asker.COMMAND_LINE.line("sample", {key: allowed.example})
        if fault := _fault(key, section.get(key), allowed, IN_SAMPLE, line):
            yield key, fault


def _fault(key: str, value: Any, allowed: NumberRange, place: str, line: str) -> str:
    """What is wrong with a number, in a sentence that ends with the line to write; "" where nothing is."""
    if value is True:
        return f"{place.format(key)} stands without a number; write {line}."
    number = _number(value)
    if number is None or allowed.has(number):
        return ""
    written = place.format(f"{key}: {shortened(str(value))}")
    return f"{written} is out of range; expected {allowed.words(number)}, as in {line}."


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except ValueError:
        return None
    except OverflowError:  # an integer beyond every float
        return math.inf
