"""A loss that is NaN or infinite stops training before the optimizer step that would apply it."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerState

from qtarget.data import Asker
from qtarget.train.repeats import batch_rows


class NonFiniteLossError(ValueError):
    """A training loss was NaN or infinite. The weights are those of the last good optimizer step."""


class MicroBatch(NamedTuple):
    """One forward pass of an accumulated optimizer step.

    Attributes:
        loss: its share of the step's loss, a detached scalar.
        texts: the model's inputs.  batch: these, the labels and what else the loss reads.
    """

    loss: Tensor
    texts: dict[str, Any]
    batch: dict[str, Any]


IMPOSSIBLE = 1e15
"""A loss beyond it is that of an event of probability zero: logarithms stop at -1e30. No real loss comes near."""


def is_sound(loss: Tensor) -> Tensor:
    """Whether each loss is finite, and not that of an event that the model holds impossible."""
    return loss.isfinite() & (loss.abs() < IMPOSSIBLE)


class LossReader(Protocol):
    """The part of a trainer that can say which rows were at fault."""

    state: TrainerState
    accelerator: Any
    asker: Asker

    @property
    def text_tokenizer(self) -> PreTrainedTokenizerBase: ...

    def row_loss(self, texts: dict, batch: dict, row: int) -> Tensor: ...


class FiniteLossCheck(TrainerCallback):
    """Looks at the losses of an optimizer step together, before the backward pass of its last micro-batch.

    A look makes the host wait for the device and each rank for the others, so there is one a step. It comes before
    that backward pass because DeepSpeed steps at the end of it.
    """

    def __init__(self) -> None:
        self.unread: list[MicroBatch] = []

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.unread = []  # of a run that was broken off

    def add(self, part: MicroBatch, trainer: LossReader) -> None:
        """Note a micro-batch; look at all noted ones if an optimizer step follows it.

        Raises:
            NonFiniteLossError: on every rank, if any rank's loss of any micro-batch was not finite.
        """
        self.unread.append(part)
        if _steps_after_backward(trainer.accelerator):
            parts, self.unread = self.unread, []
            if not _all_finite(parts, trainer.accelerator):
                raise nonfinite_error(trainer, parts)


def _steps_after_backward(accelerator: Any) -> bool:
    """Whether weights change before the next forward pass. LOMO changes them inside every backward pass."""
    return accelerator.sync_gradients or accelerator.has_lomo_optimizer


def _all_finite(parts: list[MicroBatch], accelerator: Any) -> bool:
    """Whether every loss of every rank is finite: ranks stop together, none waits for another's gradient."""
    finite = is_sound(torch.stack([part.loss for part in parts])).all()
    return bool(accelerator.gather(finite.reshape(1)).all())


def nonfinite_error(trainer: LossReader, parts: list[MicroBatch]) -> NonFiniteLossError:
    """The error that names the step and this rank's rows. Costs a forward pass for each row of a micro-batch."""
    at = next((i for i, part in enumerate(parts) if not is_sound(part.loss)), len(parts) - 1)
    _, texts, batch = parts[at]
    rows = range(int(batch_rows(batch).max()) + 1)
    bad = [row for row in rows if not is_sound(trainer.row_loss(texts, batch, row))]
    step = trainer.state.global_step + 1
    keep = ", and `trainer.save_model('last_good')` keeps them" if trainer.asker is Asker.PYTHON else ""
    return NonFiniteLossError(
        f"The loss of optimizer step {step} is {_kind(parts[at].loss)}: {_where(trainer, parts, at, bad)}. "
        f"Training stopped before the weights were touched: they are those after step {step - 1}{keep}. If every row "
        "is named, training has diverged: lower `learning_rate` or `max_grad_norm`. If some are, look at their text "
        "and weights."
    )


def _kind(loss: Tensor) -> str:
    if not loss.isfinite() or is_sound(loss):
        return "not finite"
    return (
        "that of a probability of zero (the model gives a label, or all that a teacher or reference expects, a logit "
        "of minus infinity)"
    )


def _where(trainer: LossReader, parts: list[MicroBatch], at: int, bad: list[int]) -> str:
    loss, _, batch = parts[at]
    rank, which = trainer.accelerator.process_index, f" {at + 1} of {len(parts)}" if len(parts) > 1 else ""
    if is_sound(loss):
        return f"rank {rank} has {sum(part.loss.item() for part in parts):.4g}, another rank reports its own"
    shown = "; ".join(f"row {row} ({_excerpt(trainer.text_tokenizer, batch, row)!r})" for row in bad)
    return f"rank {rank} has {loss.item()}, from {shown or 'no row alone'} of its micro-batch{which}"


def _excerpt(tokenizer: PreTrainedTokenizerBase, batch: dict, row: int, tokens: int = 16) -> str:
    ids = batch["input_ids"]
    return str(tokenizer.decode(ids[(batch_rows(batch) == row).expand(ids.shape)][:tokens].tolist()))
