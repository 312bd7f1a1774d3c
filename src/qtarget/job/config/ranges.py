"""Which numbers a key may hold: what makes no sense is refused before a file is opened."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from qtarget.console import shortened
from qtarget.data import Asker


class NumberRange(NamedTuple):
    """Numbers from `least` to `most`; with `open_` neither of the two; besides them those in `also`.

    Attributes:
        example: a number to write.
    """

    least: float
    most: float
    example: float
    open_: bool = False
    also: tuple[float, ...] = ()

    def has(self, number: float) -> bool:
        inside = self.least < number < self.most if self.open_ else self.least <= number <= self.most
        return (inside or number in self.also) and abs(number) <= LARGEST_NUMBER

    def words(self, number: float = 0) -> str:
        """What it has; of a number that is too large for it, how large one may be."""
        has_end = self.most not in (LARGEST_COUNT, math.inf)
        if number > min(LARGEST_NUMBER, self.most) and not has_end:
            return f"at most {min(LARGEST_NUMBER, self.most):g}"
        if self.open_:
            return "a number above 0" if math.isinf(self.most) else f"a number between {self.least:g} and {self.most:g}"
        if self.most > LARGEST_COUNT - 1:
            return " or ".join([f"{self.least:g} or more", *(f"{number:g}" for number in self.also)])
        return f"{self.least:g} or more, and less than 1" if self.most < 1 else f"{self.least:g} to {self.most:,.0f}"


LARGEST_NUMBER = 1e38
"""What arithmetic in 32 bits takes, with a little room."""
LARGEST_COUNT = 2**31 - 1
"""What counts are held in, by libraries: 31 bits."""
COUNT = NumberRange(1, LARGEST_COUNT, 8)
BELOW_ONE = math.nextafter(1, 0)
SHARE = NumberRange(0, BELOW_ONE, 0.9)
SEED_RANGE = NumberRange(0, 2**32 - 1, 42)
STEPS = NumberRange(0, math.inf, 100, open_=True)
NUMBER_RANGES = {
    "learning_rate": NumberRange(0, math.inf, 2e-5, open_=True),
    "num_train_epochs": NumberRange(0, math.inf, 3, open_=True),
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
    "adam_epsilon": NumberRange(0, math.inf, 1e-8, open_=True),
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
    "lora_dropout": NumberRange(0, BELOW_ONE, 0.05),
    "train_rows": COUNT,
    "rounds": NumberRange(1, LARGEST_COUNT, 2),
    "cache_missing_mass": NumberRange(0, 1, 0.01, open_=True),
    "cache_min_k": NumberRange(1, LARGEST_COUNT, 4),
    "cache_max_k": NumberRange(1, LARGEST_COUNT, 256),
    "cache_batch_tokens": NumberRange(1, LARGEST_COUNT, 8192),
    "cache_shard_tokens": NumberRange(1, LARGEST_COUNT, 65536),
}
"""Keys that hold a number, and which."""


def range_complaints(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each key whose number is out of its range, or that stands without one, with what may be written."""
    for key, allowed in NUMBER_RANGES.items():
        value = values.get(key)
        if value is True:
            line = Asker.COMMAND_LINE.line(key, allowed.example)
            yield key, f"`{key}` stands without a number; write {line}."
        elif (number := _number(value)) is not None and not allowed.has(number):
            line = Asker.COMMAND_LINE.line(key, allowed.example)
            yield (
                key,
                f"`{key}: {shortened(str(value))}` is out of range; expected {allowed.words(number)}, as in {line}.",
            )


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except ValueError:
        return None
    except OverflowError:  # an integer beyond every float
        return math.inf
