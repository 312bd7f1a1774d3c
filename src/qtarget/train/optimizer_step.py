"""The optimizer step of a trainer, which can be left out."""

from collections.abc import Callable
from typing import Any, Protocol


class OptimizingTrainer(Protocol):
    """The part of a trainer that an optimizer belongs to."""

    accelerator: Any
    model: Any
    optimizer: Any


class OptimizerStep:
    """Keeps a trainer's optimizer from a step."""

    def __init__(self, trainer: OptimizingTrainer) -> None:
        self.trainer = trainer
        self._taken: Callable | None = None

    def leave_out(self) -> None:
        """The optimizer does nothing when it is next asked for a step: weights and its state stay as they are. The
        schedule goes on. A loss scaler is asked, as it has to know, and finds no gradients."""
        optimizer = self.trainer.optimizer
        self.trainer.model.zero_grad(set_to_none=True)
        if self.trainer.accelerator.scaler is None:
            self._taken, optimizer.step = optimizer.step, _no_step

    def take_again(self) -> None:
        """End what `leave_out` began."""
        if self._taken is not None:
            self.trainer.optimizer.step, self._taken = self._taken, None


def _no_step(closure: Any = None) -> None:
    """In the place of an optimizer's step that is left out."""
