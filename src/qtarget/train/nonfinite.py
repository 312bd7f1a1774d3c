"""A loss or a gradient that is NaN or infinite is kept from the weights: the optimizer step is not taken."""

import warnings
from typing import Any, Protocol

import torch
from accelerate.utils import DistributedType
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from qtarget.data import Asker
from qtarget.train.finite_weights import NonFiniteWeightsError, check_finite_weights
from qtarget.train.nonfinite_rows import (
    MicroBatch,
    NonFiniteLossError,
    RowTrainer,
    is_sound,
    lost_weights,
    nonfinite_words,
)
from qtarget.train.optimizer_step import OptimizerStep
from qtarget.train.skipped_steps import SkippedSteps

ADVICE = (
    "If every row is named, training has diverged: lower `learning_rate` or `max_grad_norm`. If some are, look at "
    "their text and weights."
)

MOST_OVERFLOWS = 40
"""Steps in a row that a loss scaler may leave out: each halves its scale, which begins at 65,536."""


class SteppingTrainer(RowTrainer, Protocol):
    """The part of a trainer that takes optimizer steps."""

    args: Any
    asker: Asker
    gradient_norm: Tensor | float | None
    skipped_steps: SkippedSteps
    optimizer: Any


class FiniteStepCheck(TrainerCallback):
    """Looks at the losses of an optimizer step and at the norm of its gradient together, once, before the optimizer.

    A look makes the host wait for the device and each rank for the others, so there is one a step. Where weights
    change within the backward pass (DeepSpeed, LOMO, layer-wise optimizers) it comes before that pass, and sees the
    losses alone. Under fp16 the gradient is the loss scaler's, which leaves out a step of infinite gradients itself.

    The weights are looked at when training begins and when it ends.
    """

    def __init__(self, trainer: SteppingTrainer) -> None:
        self.trainer = trainer
        self.unread: list[MicroBatch] = []
        self.overflows = 0
        self._optimizer_step = OptimizerStep(trainer)

    def add(self, part: MicroBatch) -> None:
        """Note a micro-batch; look at all noted ones now if its backward pass changes weights.

        Raises:
            NonFiniteLossError: on every rank, if any rank's loss of any micro-batch was not finite.
        """
        self.unread.append(part)
        accelerator = self.trainer.accelerator
        is_deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED  # which steps with the last one
        if changes_weights_in_backward(self.trainer.args, accelerator) and (
            accelerator.sync_gradients or not is_deepspeed
        ):
            self._look(None)

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.unread, self.overflows = [], 0  # of a run that was broken off
        self._check_weights(
            "Training cannot begin with them: the model's files are damaged, or were saved by a run that had diverged."
        )

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.trainer.skipped_steps.begin_step(keeps=self.trainer.args.on_nonfinite == "skip")

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        if not changes_weights_in_backward(args, self.trainer.accelerator):
            self._look(None if self.trainer.accelerator.scaler is not None else self.trainer.gradient_norm)

    def on_optimizer_step(self, args, state, control, **kwargs) -> None:
        self._optimizer_step.take_again()
        accelerator = self.trainer.accelerator
        is_overflow = accelerator.scaler is not None and accelerator.optimizer_step_was_skipped
        self.overflows = self.overflows + 1 if is_overflow else 0
        if self.overflows > MOST_OVERFLOWS:
            raise NonFiniteLossError(
                f"The loss scaler of fp16 has left out {self.overflows} optimizer steps in a row, down to step "
                f"{state.global_step + 1}: the gradient is not finite at any scale. Lower `learning_rate`, or write "
                f"{self.trainer.asker.line('bf16', True)}."
            )

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self._check_weights(
            f"Training has diverged: the update of optimizer step {state.global_step}, the last one, was too large. "
            "Lower `learning_rate` or `max_grad_norm`."
        )

    def _check_weights(self, meaning: str) -> None:
        try:
            check_finite_weights(self.trainer.model)
        except NonFiniteWeightsError as error:
            raise NonFiniteWeightsError(f"{error} {meaning}") from error

    def _look(self, given: Tensor | float | None) -> None:
        parts, self.unread = self.unread, []
        norm = None if given is None else _whole_norm(given)
        if _all_sound(parts, norm, self.trainer.accelerator):
            return
        if lost := lost_weights(self.trainer):
            raise lost
        what, skipped = nonfinite_words(self.trainer, parts, norm), self.trainer.skipped_steps
        if self.trainer.args.on_nonfinite != "skip" or skipped.of_run >= self.trainer.args.max_skipped_steps:
            raise NonFiniteLossError(f"{what} {self._ending()}")
        skipped.leave_out()
        self._optimizer_step.leave_out()
        warnings.warn(f"{what} The step is left out, number {skipped.of_run} of this run.", stacklevel=2)

    def _ending(self) -> str:
        """How the run stands after the error, and what to write."""
        step, asker, args = self.trainer.state.global_step, self.trainer.asker, self.trainer.args
        keep = ", and `trainer.save_model('last_good')` keeps them" if asker is Asker.PYTHON else ""
        skip = f"{asker.line('on_nonfinite', 'skip')} leaves such steps out."
        if args.on_nonfinite == "skip":
            skip = f"{self.trainer.skipped_steps.of_run} steps were left out before it (`max_skipped_steps`)."
        return (
            f"Training stopped before the weights were touched: they are those after step {step}{keep}. {ADVICE} {skip}"
        )


def changes_weights_in_backward(args: Any, accelerator: Any) -> bool:
    """Whether there is no moment between the backward pass and the optimizer."""
    name = str(getattr(args.optim, "value", args.optim))
    in_hooks = accelerator.has_lomo_optimizer or "lomo" in name or "layerwise" in name
    return in_hooks or accelerator.distributed_type == DistributedType.DEEPSPEED


def refuse_skipping(args: Any, accelerator: Any, asker: Asker) -> None:
    """Refuse to leave steps out where the optimizer has taken them before anything could be looked at.

    Raises:
        ValueError: with the line to write.
    """
    if args.on_nonfinite == "skip" and changes_weights_in_backward(args, accelerator):
        name = "DeepSpeed" if accelerator.distributed_type == DistributedType.DEEPSPEED else f"`optim: {args.optim}`"
        raise ValueError(
            f"`on_nonfinite: skip` leaves out an optimizer step after its gradient is known, and {name} takes it "
            f"within the backward pass; write {asker.line('on_nonfinite', 'stop')}, or another `optim`."
        )


def _all_sound(parts: list[MicroBatch], norm: Tensor | None, accelerator: Any) -> bool:
    """Whether every loss of every rank is sound, and the norm finite: ranks stop together."""
    flags = [is_sound(part.loss) for part in parts]
    if norm is not None:
        flags.append(norm.isfinite().to(flags[0].device if flags else norm.device))
    return not flags or bool(accelerator.gather(torch.stack(flags).all().reshape(1)).all())


def _whole_norm(norm: Tensor | float) -> Tensor:
    """A gradient's norm as a scalar tensor, summed over ranks where the gradient is cut over them."""
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    return norm.detach() if isinstance(norm, Tensor) else torch.tensor(norm)
