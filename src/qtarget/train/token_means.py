"""What a trainer measures of its batches, and the means over tokens and ranks that it logs of them."""

from typing import Any, Protocol

import torch
from torch import Tensor

from qtarget.train.forward import TargetOutput
from qtarget.train.metrics import Meter
from qtarget.train.nonfinite_rows import UNSOUND, is_sound


class TrainerOverRanks(Protocol):
    """The part of a trainer that knows its ranks."""

    accelerator: Any

    def get_tp_size(self) -> int: ...


class TokenMeans:
    """Sums of a trainer's measures, and their means.

    Attributes:
        meters: what was summed since the last reading: of "train" and "eval", and "seen", the tokens of this rank.
        tokens_seen: how many tokens training has read by the last reading, over all ranks.
    """

    def __init__(self, trainer: TrainerOverRanks) -> None:
        self.trainer = trainer
        self.meters = {"train": Meter(), "eval": Meter(), "seen": Meter()}
        self.tokens_seen = 0

    def begin_evaluation(self) -> None:
        """Forget what an evaluation before has summed, if it was broken off."""
        self.meters["eval"] = Meter()

    def add(self, mode: str, out: TargetOutput, batch: dict) -> None:
        """Add what a forward pass of "train" or "eval" gave."""
        meter = self.meters[mode]
        meter.add("nll", out.nll * out.num_tokens, out.num_tokens)
        meter.add_tokens(out.diagnostics)
        if out.aux_loss is not None:
            meter.add("aux_loss", out.aux_loss, 1)
        if mode == "train":
            mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
            self.meters["seen"].add("num_tokens", mask.sum(), 1)
        else:
            labels = (batch["labels"][:, 1:] != -100).sum()
            meter.add("loss", out.loss * labels, labels)
            meter.add(UNSOUND, ~(is_sound(out.loss) & is_sound(out.nll)), 1)

    def read(self, mode: str) -> dict[str, float]:
        """Token means over ranks since the last reading, and how many tokens training has read by now. All ranks read
        together."""
        sums = self.meters[mode].read(self._over_ranks)
        new_tokens, _ = self.meters["seen"].read(self._over_ranks).get("num_tokens", (0, 0))
        self.tokens_seen += int(new_tokens) // self.trainer.get_tp_size()
        means = {name: total / count for name, (total, count) in sums.items() if count > 0}
        return {**means, "num_tokens": self.tokens_seen} if means else {}

    def _over_ranks(self, table: Tensor) -> Any:
        return self.trainer.accelerator.reduce(table, "sum")
