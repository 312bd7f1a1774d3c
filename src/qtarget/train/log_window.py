"""What a run measured since its last log is kept in checkpoints: a resumed run logs what an unbroken one does."""

from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback

from qtarget.train.skipped_steps import SkippedSteps
from qtarget.train.token_means import TokenMeans

LOSS, TOTAL = "loss", "loss_total"
METERS = ("train", "seen")


class LoggingTrainer(Protocol):
    """The part of a trainer that measures between two logs."""

    accelerator: Any
    token_means: TokenMeans
    skipped_steps: SkippedSteps

    @property
    def log_window(self) -> tuple[torch.Tensor, int]: ...

    @log_window.setter
    def log_window(self, window: tuple[torch.Tensor, int]) -> None: ...
    @property
    def loss_total(self) -> float: ...
    @loss_total.setter
    def loss_total(self, total: float) -> None: ...


class LogWindow(TrainerCallback):
    """Saves the sums since the last log of this rank beside a checkpoint, and puts them back when training begins."""

    def __init__(self, trainer: LoggingTrainer) -> None:
        self.trainer = trainer
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._total: float | None = None

    def save(self, folder: Path) -> None:
        loss, since = self.trainer.log_window
        skipped, means = self.trainer.skipped_steps, self.trainer.token_means
        sums = {f"{meter}/{name}": pair for meter in METERS for name, pair in means.meters[meter].sums.items()}
        counts = {
            "since": since,
            "tokens": means.tokens_seen,
            "skipped_of_run": skipped.of_run,
            "skipped_of_window": skipped.of_window,
            **({TOTAL: self.trainer.loss_total} if skipped.is_total_known else {}),
        }
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in {LOSS: loss, **sums}.items()}
        save_file(tensors, folder / self._name, metadata={name: str(count) for name, count in counts.items()})

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, as far as this rank finds it: not under another number of ranks."""
        path = folder / self._name
        self._sums, self._counts, self._total = {}, {}, None
        if path.is_file():
            device = self.trainer.accelerator.device  # which safetensors does not know where it is `cpu:0`
            self._sums = {name: tensor.to(device) for name, tensor in load_file(path).items()}
            with safe_open(path, "pt") as file:
                counts = dict(file.metadata() or {})
            self._total = float(counts.pop(TOTAL)) if TOTAL in counts else None
            self._counts = {name: int(count) for name, count in counts.items()}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        skipped, means = self.trainer.skipped_steps, self.trainer.token_means
        skipped.begin_run()
        if LOSS not in self._sums or "since" not in self._counts:
            return
        self.trainer.log_window = self._sums.pop(LOSS), self._counts["since"]
        means.tokens_seen = self._counts["tokens"]
        skipped.of_run, skipped.of_window = self._counts["skipped_of_run"], self._counts["skipped_of_window"]
        if self._total is not None:
            self.trainer.loss_total, skipped.is_total_known = self._total, True
        for meter in METERS:
            own = {name: pair for name, pair in self._sums.items() if name.startswith(f"{meter}/")}
            means.meters[meter].sums = {name.removeprefix(f"{meter}/"): pair for name, pair in own.items()}
        self._sums = {}

    @property
    def _name(self) -> str:
        accelerator = self.trainer.accelerator
        return f"log_window_{accelerator.process_index}_of_{accelerator.num_processes}.safetensors"
