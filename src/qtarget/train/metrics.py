"""The measures a trainer logs: token-weighted means over batches and ranks, read from the device once a log."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from qtarget import Method

FREE = ("trust", "scale", "top1")
"""Diagnostics that the loss computes anyway, so they are measured at every step."""
NAMES = {"top1": "mean_token_accuracy"}
"""Our diagnostics that TRL logs under another name, and that name."""


@dataclass
class Meter:
    """Sums and counts by name since the last reading, kept on the device.

    Ranks read together, and have added the same names.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, total: Tensor, count: Tensor | float) -> None:
        wide = torch.float32 if total.device.type == "mps" else torch.float64
        pair = torch.stack([total.detach().to(wide), _on_device(count, total).to(wide)])
        self.sums[name] = self.sums[name] + pair if name in self.sums else pair

    def add_tokens(self, diagnostics: dict[str, Tensor]) -> None:
        """Per-token values, NaN where a token was not measured."""
        for name, values in diagnostics.items():
            measured = ~values.isnan()
            self.add(NAMES.get(name, name), values.nan_to_num().float().sum(), measured.sum())

    def read(self, over_ranks: Callable[[Tensor], Tensor]) -> dict[str, tuple[float, float]]:
        """The total and the count of each name; sums start again from 0.

        Args:
            over_ranks: sums a tensor over ranks.
        """
        names = sorted(self.sums)
        if not names:
            return {}
        table = over_ranks(torch.stack([self.sums[name] for name in names])).tolist()
        self.sums = {}
        return {name: (total, count) for name, (total, count) in zip(names, table, strict=True)}


def _on_device(count: Tensor | float, like: Tensor) -> Tensor:
    """A count beside a sum. A number is filled in there: copied over, it would make the host wait for the device."""
    return count.to(like.device) if isinstance(count, Tensor) else torch.full((), count, device=like.device)


def diagnostics_of_step(wanted: Sequence[str], method: Method, logs: bool) -> tuple[str, ...]:
    """Which of the wanted diagnostics to measure: all that apply if the step `logs`, else the free ones."""
    has_teacher = "teacher" in method.needs - method.label_only
    applicable = [name for name in wanted if name != "teacher_entropy" or has_teacher]
    return tuple(name for name in applicable if logs or name in FREE)


def logs_next(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether the optimizer step under way will be logged."""
    step = state.global_step + 1
    if args.logging_strategy == IntervalStrategy.STEPS:
        return step % max(state.logging_steps, 1) == 0 or (args.logging_first_step and step == 1)
    return args.logging_strategy == IntervalStrategy.EPOCH
