"""A loss that is NaN or infinite stops training before it reaches the weights."""

from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainerState

from qtarget.train.repeats import batch_rows


class NonFiniteLossError(ValueError):
    """A training loss was NaN or infinite. The weights are those of the last good optimizer step."""


class Trains(Protocol):
    """The part of a trainer that can say which rows were at fault."""

    state: TrainerState
    accelerator: Any

    @property
    def text_tokenizer(self) -> PreTrainedTokenizerBase: ...

    def row_loss(self, texts: dict, batch: dict, row: int) -> Tensor: ...


def nonfinite_error(trainer: Trains, loss: Tensor, texts: dict, batch: dict) -> NonFiniteLossError:
    """The error that names the step and this rank's rows. Costs a forward pass per row."""
    rows = range(int(batch_rows(batch).max()) + 1)
    bad = [row for row in rows if not trainer.row_loss(texts, batch, row).isfinite()]
    step, rank = trainer.state.global_step + 1, trainer.accelerator.process_index
    return NonFiniteLossError(
        f"The loss of optimizer step {step} is not finite: {_where(trainer, loss, batch, bad, rank)}. "
        f"Training stopped before the weights were touched: they are those after step {step - 1}, and "
        "`trainer.save_model('last_good')` keeps them. If every row is named, training has diverged: lower "
        "`learning_rate` or `max_grad_norm`. If some are, look at their text and weights."
    )


def _where(trainer: Trains, loss: Tensor, batch: dict, bad: list[int], rank: int) -> str:
    if loss.isfinite():
        return f"rank {rank} has {loss.item():.4g}, another rank reports its own"
    shown = "; ".join(f"row {row} ({_excerpt(trainer.text_tokenizer, batch, row)!r})" for row in bad)
    return f"rank {rank} has {loss.item()}, from {shown or 'no row alone'} of its micro-batch"


def _excerpt(tokenizer: PreTrainedTokenizerBase, batch: dict, row: int, tokens: int = 16) -> str:
    ids = batch["input_ids"]
    return str(tokenizer.decode(ids[(batch_rows(batch) == row).expand(ids.shape)][:tokens].tolist()))
