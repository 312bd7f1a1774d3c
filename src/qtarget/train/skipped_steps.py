"""Optimizer steps that were left out because loss or gradient was not finite: counted, and kept out of the figures."""

import math
from typing import Any, Protocol

from torch import Tensor
from transformers import TrainerState

from qtarget.train.token_means import TokenMeans


class MeasuringTrainer(Protocol):
    """The part of a trainer that sums what it logs."""

    state: TrainerState
    token_means: TokenMeans

    @property
    def log_window(self) -> tuple[Tensor, int]: ...

    @log_window.setter
    def log_window(self, window: tuple[Tensor, int]) -> None: ...
    @property
    def loss_total(self) -> float: ...


class SkippedSteps:
    """How many steps of a run were left out, and what was summed before the step under way.

    Attributes:
        of_run: since the run began, also before it was resumed.
        of_window: since the last log.
        is_total_known: whether the trainer's sum of losses is over the whole run, also before it was resumed.
    """

    def __init__(self, trainer: MeasuringTrainer) -> None:
        self.trainer = trainer
        self.of_run = self.of_window = 0
        self.is_total_known = True
        self._logged_at = 0
        self._before: tuple[Tensor, dict[str, Tensor]] | None = None

    def begin_run(self) -> None:
        """Count anew; what a checkpoint says is set afterwards."""
        self.of_run = self.of_window = 0
        self.is_total_known = self.trainer.state.global_step == 0

    def begin_step(self, keeps: bool) -> None:
        """Note when the last log was and, with `keeps`, the sums before a step, so that it can be left out."""
        loss, self._logged_at = self.trainer.log_window
        self._before = (loss.clone(), dict(self.trainer.token_means.meters["train"].sums)) if keeps else None

    def leave_out(self) -> None:
        """Count the step under way, and take what it added out of the sums again."""
        assert self._before is not None
        loss, self.trainer.token_means.meters["train"].sums = self._before
        self.trainer.log_window = loss, self._logged_at
        self.of_run, self.of_window = self.of_run + 1, self.of_window + 1

    def mend(self, logs: dict[str, Any]) -> None:
        """The Trainer divides sums of losses by all steps: divide by those that were taken. A number that no step
        gave is removed."""
        step = self.trainer.state.global_step
        if "learning_rate" in logs:  # a log of steps
            self._scale(logs, "loss", step - self._logged_at, self.of_window)
            self.of_window = 0
        if not math.isfinite(logs.get("grad_norm", 0.0)):
            del logs["grad_norm"]
        if self.of_run:
            logs["skipped_steps"] = self.of_run

    def mend_mean(self, logs: dict[str, Any]) -> None:
        """The mean loss at the end becomes the one over all steps that were taken, also before the run was resumed; it
        is removed where their losses are not known."""
        taken = self.trainer.state.global_step - self.of_run
        if logs.pop("train_loss", None) is not None and self.is_total_known and taken > 0:
            logs["train_loss"] = self.trainer.loss_total / taken

    @staticmethod
    def _scale(logs: dict[str, Any], name: str, steps: int, skipped: int) -> None:
        if name in logs and skipped:
            if steps > skipped:
                logs[name] *= steps / (steps - skipped)
            else:
                del logs[name]
