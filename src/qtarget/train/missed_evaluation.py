"""An evaluation that a stop left out is made up for when training is resumed, before the next step."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import DefaultFlowCallback


class EvaluatingTrainer(Protocol):
    """The part of a trainer that evaluates."""

    def evaluate_in_training(self) -> None: ...


class MissedEvaluation(TrainerCallback):
    """Evaluates at the first step of a resumed run, where its checkpoint was due for it and has none.

    The random numbers are drawn where an unbroken run draws them: after the checkpoint's state is read, and before
    the step.
    """

    def __init__(self, trainer: EvaluatingTrainer) -> None:
        self.trainer = trainer
        self._looked = True

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._looked = False

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        if not self._looked:
            self._looked = True
            if evaluation_missed(args, state):
                self.trainer.evaluate_in_training()
                if control.should_training_stop:
                    raise _NoStepLeftError


class _NoStepLeftError(Exception):
    """The missed evaluation ended the run, and the step that was about to begin is none of it."""


@contextmanager
def ended_by_evaluation() -> Iterator[None]:
    """The block, which takes steps, ends where a missed evaluation ends the run."""
    with suppress(_NoStepLeftError):
        yield


def evaluation_missed(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether the last step was one to evaluate after, and the log holds no evaluation of it."""
    if not state.global_step or is_evaluated(state):
        return False
    flow, control = DefaultFlowCallback(), TrainerControl()
    flow.on_step_end(args, state, control)
    if state.epoch is not None and state.epoch == int(state.epoch):
        flow.on_epoch_end(args, state, control)
    return control.should_evaluate


def is_evaluated(state: TrainerState) -> bool:
    """Whether the log holds an evaluation of the last step."""
    return any(_is_of_evaluation(logged, state) for logged in state.log_history)


def forget_evaluation(state: TrainerState) -> None:
    """Take what the log holds of a broken evaluation of the last step out of it: some of several sets."""
    state.log_history = [logged for logged in state.log_history if not _is_of_evaluation(logged, state)]


def _is_of_evaluation(logged: dict[str, float], state: TrainerState) -> bool:
    return logged.get("step") == state.global_step and any(name.startswith("eval_") for name in logged)
