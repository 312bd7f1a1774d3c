"""What a run measured since its last log is kept in checkpoints: a resumed run logs what an unbroken one does."""

from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerCallback

from qtarget.train.metrics import Meter


class LoggingTrainer(Protocol):
    """The part of a trainer that measures between two logs."""

    accelerator: Any
    meters: dict[str, Meter]
    tokens_seen: int

    @property
    def log_window(self) -> tuple[torch.Tensor, int]: ...

    @log_window.setter
    def log_window(self, window: tuple[torch.Tensor, int]) -> None: ...


class LogWindow(TrainerCallback):
    """Saves the sums since the last log of this rank beside a checkpoint, and puts them back when training begins."""

    def __init__(self, trainer: LoggingTrainer) -> None:
        self.trainer = trainer
        self._read: dict[str, Any] | None = None

    def save(self, folder: Path) -> None:
        loss, since = self.trainer.log_window
        meters = {name: self.trainer.meters[name].sums for name in ("train", "seen")}
        content = {"loss": loss, "since": since, "meters": meters, "tokens": self.trainer.tokens_seen}
        torch.save(content, folder / self._name)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, as far as this rank finds it: not under another number of ranks."""
        device, path = self.trainer.accelerator.device, folder / self._name
        self._read = torch.load(path, map_location=device, weights_only=True) if path.is_file() else None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if self._read is None:
            return
        self.trainer.log_window = self._read["loss"], self._read["since"]
        self.trainer.tokens_seen = self._read["tokens"]
        for name, sums in self._read["meters"].items():
            self.trainer.meters[name].sums = sums
        self._read = None

    @property
    def _name(self) -> str:
        accelerator = self.trainer.accelerator
        return f"log_window_{accelerator.process_index}_of_{accelerator.num_processes}.pt"
