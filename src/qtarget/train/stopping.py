"""A run that is stopped by a signal ends with its step, leaves a checkpoint, and loses nothing."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerState

from qtarget.models.sharding import is_cut_as_read
from qtarget.outcomes import Interruption
from qtarget.train.missed_evaluation import forget_evaluation
from qtarget.train.resumption.whole_checkpoints import step_of
from qtarget.train.stop_signals import StopSignals, signal_name

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Signals that stop a run; where ranks have noted both, the first is named."""


class StoppableTrainer(Protocol):
    """The part of a trainer that stopping needs; `TargetSFTTrainer` has it."""

    args: Any
    accelerator: Any
    model: Any
    state: TrainerState
    is_in_train: bool

    def save_checkpoint(self) -> None: ...
    def last_checkpoint(self) -> Path | None: ...
    def add_callback(self, callback: Any) -> None: ...
    def remove_callback(self, callback: Any) -> Any: ...


@contextmanager
def stop_with_checkpoint(
    trainer: StoppableTrainer,
    go_on: Callable[[Path], str] = lambda folder: f"`trainer.train(resume_from_checkpoint={str(folder)!r})`",
    on_first: Callable[[str], None] | None = None,
) -> Iterator["StopAtStepEnd"]:
    """While the block runs, Ctrl-C or SIGTERM ends training with the step under way and a checkpoint of it.

        with stop_with_checkpoint(trainer):
            trainer.train()

    The checkpoint is written whatever `save_strategy` and `save_only_model` say, by all ranks at the same step; none of
    a model that transformers has cut over ranks as it read it, whose optimizer it does not save. An
    evaluation under way is broken off, and made up for when training is resumed. A second signal ends at once. The
    handlers that were there before come back at the end of the block.

    Args:
        go_on: the line that resumes from a checkpoint, for the message.
        on_first: called with "Ctrl-C" or "SIGTERM" when the first signal comes, inside its handler.

    Raises:
        Interruption: out of `trainer.train`, after the checkpoint was written.
        KeyboardInterrupt: at the second signal.
    """
    with StopSignals(on_first) as signals:
        stop = StopAtStepEnd(trainer, signals, go_on)
        trainer.add_callback(stop)
        try:
            yield stop
        finally:
            trainer.remove_callback(stop)


class StopAtStepEnd(TrainerCallback):
    """Ends training once a signal was noted on any rank; see `stop_with_checkpoint`.

    Ranks must stop at the same step. Each adds its signal to a sum over ranks at the end of each step, and reads the
    sum of the step before, which is there by then: nobody waits. So several ranks take one step more. The sum says
    which signals there were, so all ranks name the same one.

    Attributes:
        cause: the signal for which the run stops, on whichever rank it came; None as long as none did.
    """

    def __init__(self, trainer: StoppableTrainer, signals: StopSignals, go_on: Callable[[Path], str]) -> None:
        self.trainer, self.signals, self.go_on = trainer, signals, go_on
        self.stops = False
        self.cause: signal.Signals | None = None
        self._sum: Tensor | None = None
        self._began_at = 0
        self._random: list[Tensor] = []

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._sum, self._began_at = None, state.global_step

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self._is_agreed():
            self.stops = True
            if is_cut_as_read(self.trainer.model):
                raise self.interruption()
            args.save_only_model = False
            control.should_save, control.should_evaluate, control.should_training_stop = True, False, True
        self._note_random(control)

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        self._note_random(control)

    def on_save(self, args, state, control, **kwargs) -> None:
        """A checkpoint is written: the one of the stop, or one that was being written when the signal came."""
        if self.stops or (not args.save_only_model and self.is_asked_anywhere()):
            raise self.interruption()

    def on_prediction_step(self, args, state, control, **kwargs) -> None:
        if not self._is_agreed():
            return
        self.stops = True
        is_to_keep = self.trainer.is_in_train and not is_cut_as_read(self.trainer.model)
        if is_to_keep and state.global_step > self._began_at:
            args.save_only_model = False
            _set_random(self._random)
            forget_evaluation(state)
            self.trainer.save_checkpoint()
        raise self.interruption()

    def is_asked_anywhere(self) -> bool:
        """Whether a signal was noted on any rank by now. All ranks ask together, and wait for each other."""
        return self._is_noted(self._over_ranks())

    @property
    def name(self) -> str:
        """What stopped the run, in words: "Ctrl-C" or "SIGTERM"."""
        return signal_name(self.cause or self.signals.received)

    def interruption(self) -> Interruption:
        """The error that says where the run stopped, which checkpoint is of that step, and how to go on."""
        return Interruption(f"stopped by {self.name} {self._where()}.", self.cause or self.signals.received)

    def _where(self) -> str:
        step, last = self.trainer.state.global_step, self.trainer.state.max_steps
        if not self.trainer.is_in_train:
            return "while the loss on the evaluation rows was measured"
        if not step:
            return "before the first step, so there is nothing to keep"
        if step == self._began_at:
            return f"before a step was taken: the run is where it was, at step {step} of {last}"
        if is_cut_as_read(self.trainer.model):
            return (
                f"after step {step} of {last}. Nothing of it is kept: of a model that transformers cuts over ranks "
                "(`distributed_config`) there is no checkpoint to go on from"
            )
        folder = self.trainer.last_checkpoint()
        if folder is None or step_of(folder) != step:
            kept = self._kept(folder, step)
            return f"after step {step} of {last}, and its checkpoint could not be written. {kept}"
        return (
            f"after step {step} of {last}. Nothing is lost: {folder} holds all of it. Go on with {self.go_on(folder)}"
        )

    def _kept(self, newest: Path | None, step: int) -> str:
        if newest is None:
            return "No other was written, so nothing of it is kept"
        lost = step - step_of(newest)
        steps = "step after it is" if lost == 1 else f"{lost} steps after it are"
        return f"The last whole checkpoint is {newest}; the {steps} lost. Go on with {self.go_on(newest)}"

    def _is_agreed(self) -> bool:
        if self.trainer.accelerator.num_processes == 1:
            return self._is_noted(self._over_ranks())
        before, self._sum = self._sum, self._over_ranks()
        return before is not None and self._is_noted(before)

    def _is_noted(self, counts: Tensor) -> bool:
        """Whether any rank has a signal; the one that counts is then the cause, SIGTERM before Ctrl-C."""
        noted = [number for number, count in zip(SIGNALS, counts.tolist(), strict=True) if count]
        self.cause = self.cause or (noted[0] if noted else None)
        return bool(noted)

    def _over_ranks(self) -> Tensor:
        """How many ranks have noted each of `SIGNALS`."""
        accelerator, received = self.trainer.accelerator, self.signals.received
        if accelerator.num_processes == 1:
            return torch.tensor([float(received == number) for number in SIGNALS])
        mine = torch.tensor([float(received == number) for number in SIGNALS], device=accelerator.device)
        return accelerator.reduce(mine, "sum")

    def _note_random(self, control: Any) -> None:
        """Remember the random numbers' state before an evaluation: a broken one must leave no trace in it."""
        if control.should_evaluate:
            cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
            self._random = [torch.get_rng_state(), *cuda]


def _set_random(states: list[Tensor]) -> None:
    """Set what was noted: the CPU's state, then each CUDA device's. Nothing where nothing was noted."""
    if states:
        torch.set_rng_state(states[0])
        torch.cuda.set_rng_state_all(states[1:])
