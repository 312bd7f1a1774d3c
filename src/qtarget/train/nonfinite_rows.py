"""Which rows a loss or a gradient that is not finite came from: each is tried alone, and named in the error."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from accelerate.utils import DistributedType, gather_object
from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainerState

from qtarget.models.sharding import is_sharded
from qtarget.train.finite_weights import NonFiniteWeightsError, check_finite_weights, nonfinite_names
from qtarget.train.repeats import batch_rows
from qtarget.train.vocabulary_cut import VocabularyCut

IMPOSSIBLE = 1e15
"""A loss beyond it is that of an event of probability zero: logarithms stop at -1e30. No real loss comes near."""
UNSOUND = "unsound"
"""Name of the measure that counts evaluation batches whose loss is not sound."""
PROBABILITY_ZERO = (
    "that of a probability of zero (the model gives a label, or all that a teacher or reference expects, a logit of "
    "minus infinity)"
)


class NonFiniteLossError(ValueError):
    """A training loss or a gradient was NaN or infinite. The weights are those of the optimizer step before."""


class MicroBatch(NamedTuple):
    """One forward pass of an accumulated optimizer step.

    Attributes:
        loss: its share of the step's loss, a detached scalar.
        texts: the model's inputs.  batch: these, the labels and what else the loss reads.
    """

    loss: Tensor
    texts: dict[str, Any]
    batch: dict[str, Any]

    def of_row(self, row: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Inputs and batch of one row, without the others. What was read ahead for the whole batch is left out."""
        here = batch_rows(self.batch) == row
        is_flat = "row_ids" in self.batch
        return tuple(_cut(each, here, is_flat) for each in (self.texts, self.batch))  # pyright: ignore[reportReturnType]


def _cut(batch: dict[str, Any], here: Tensor, is_flat: bool) -> dict[str, Any]:
    """The tensors of a batch at one row: `here` is `[B, 1]`, or `[1, total]` where rows lie end to end."""
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor) and name != "row_ids"}
    if is_flat:
        return {name: value[here][None] for name, value in tensors.items() if value.shape == here.shape}
    return {name: value[here[:, 0]] for name, value in tensors.items() if value.shape[:1] == here.shape[:1]}


class Culprit(NamedTuple):
    """Rows of a micro-batch that are not sound alone.

    Attributes:
        at: the micro-batch, counted from 0.
    """

    at: int
    rows: list[int]


class Finding(NamedTuple):
    """What a rank found.

    Attributes:
        is_guilty: whether it is at fault.
        words: which rows, and the rank.
        kind: what is wrong.
    """

    is_guilty: bool
    words: str
    kind: str


def _said_by_all(own: Finding) -> str:
    """What the ranks at fault found, in the same words on every rank; where none is, what the first one has to say."""
    found = [Finding(*each) for each in gather_object([tuple(own)])]
    guilty = [each for each in found if each.is_guilty] or found[:1]
    return f"{guilty[0].kind}: {'; '.join(each.words for each in guilty)}"


class RowTrainer(Protocol):
    """The part of a trainer that can say which rows were at fault."""

    model: Any
    state: TrainerState
    accelerator: Any
    vocabulary_cut: VocabularyCut | None

    @property
    def text_tokenizer(self) -> PreTrainedTokenizerBase: ...

    def row_loss(self, texts: dict, batch: dict, row: int) -> Tensor: ...


def is_sound(loss: Tensor) -> Tensor:
    """Whether each loss is finite, and not that of an event that the model holds impossible."""
    return loss.isfinite() & (loss.abs() < IMPOSSIBLE)


def say_unsound(share: float, means: Mapping[str, float]) -> None:
    """Warn of an evaluation that holds losses that are not sound, as they decide its mean.

    Args:
        share: of the batches that hold one.
        means: of the evaluation, by name.
    """
    if share:
        loss = torch.tensor(means.get("loss", math.nan))
        warnings.warn(
            f"The loss on the evaluation rows is {loss.item():.3g}, as that of {100 * share:.3g} % of the batches is "
            f"{_kind(loss) if not is_sound(loss) else 'no number'}. It says nothing of the other rows; find these with "
            "`per_device_eval_batch_size: 1`, or look at their labels.",
            stacklevel=2,
        )


def lost_weights(trainer: RowTrainer) -> NonFiniteLossError | None:
    """The error to raise where the weights themselves are not finite, so that no row is at fault."""
    try:
        check_finite_weights(trainer.model)
    except NonFiniteWeightsError as error:
        step = trainer.state.global_step
        return NonFiniteLossError(
            f"Training has diverged: the update of optimizer step {step} was too large. {error} Lower `learning_rate` "
            "or `max_grad_norm`, and go on from a checkpoint before that step, or begin anew."
        )
    return None


def nonfinite_words(trainer: RowTrainer, parts: list[MicroBatch], norm: Tensor | None) -> str:
    """The sentence that names the step and this rank's rows. All ranks ask together.

    It costs a forward pass for each row of a micro-batch, and where every loss is sound forward and backward passes
    until a micro-batch with such a row is found. Gradients are gone afterwards.

    Args:
        norm: of the step's gradient; None where it was not looked at.
    """
    by_loss = not _on_all(trainer, all(bool(is_sound(part.loss)) for part in parts))
    with torch.random.fork_rng(_devices(trainer)):
        found = _by_loss(trainer, parts) if by_loss else _by_gradient(trainer, parts)
    step = trainer.state.global_step + 1
    rank, size = trainer.accelerator.process_index, "unknown" if norm is None else norm.item()
    if by_loss:
        loss, cut = parts[found.at].loss, trainer.vocabulary_cut
        is_guilty = not is_sound(loss) and (bool(found.rows) or cut is None or not cut.ranks_differ)
        own = Finding(is_guilty, f"rank {rank} has {loss.item()}, from {_rows(trainer, parts, found)}", _kind(loss))
        return f"The loss of optimizer step {step} is {_said_by_all(own)}."
    own = Finding(bool(found.rows), f"rank {rank} has it from {_rows(trainer, parts, found)}", f"its norm is {size}")
    return f"The gradient of optimizer step {step} is not finite, though its loss is: {_said_by_all(own)}."


def _by_loss(trainer: RowTrainer, parts: list[MicroBatch]) -> Culprit:
    """The first micro-batch of this rank whose loss is not sound, or the last, and its rows that are not."""
    at = next((i for i, part in enumerate(parts) if not is_sound(part.loss)), len(parts) - 1)

    def is_bad(row: int) -> bool:
        with torch.no_grad():
            return not is_sound(trainer.row_loss(parts[at].texts, parts[at].batch, row))

    return Culprit(at, _bad_rows(trainer, parts[at], is_bad))


def _by_gradient(trainer: RowTrainer, parts: list[MicroBatch]) -> Culprit:
    """The first micro-batch, of any rank, with a row whose gradient alone is not finite. Not where weights are cut
    over ranks: there a gradient is the sum of all ranks'."""
    if is_sharded(trainer.model) or trainer.accelerator.distributed_type == DistributedType.FSDP:
        return Culprit(len(parts) - 1, [])
    for at, part in enumerate(parts):

        def is_bad(row: int, part: MicroBatch = part) -> bool:
            trainer.model.zero_grad()
            trainer.row_loss(*part.of_row(row), 0).backward()
            return bool(nonfinite_names(_gradients(trainer.model)))

        rows = _bad_rows(trainer, part, is_bad)
        trainer.model.zero_grad()
        if not _on_all(trainer, not rows):
            return Culprit(at, rows)
    return Culprit(len(parts) - 1, [])


def _gradients(model: Any) -> list[tuple[str, Tensor]]:
    return [(name, weight.grad) for name, weight in model.named_parameters() if weight.grad is not None]


def _bad_rows(trainer: RowTrainer, part: MicroBatch, is_bad: Callable[[int], bool]) -> list[int]:
    """Ranks try as many rows each: a model that is cut over ranks runs on all of them at once."""
    own = int(batch_rows(part.batch).max()) + 1
    most = int(trainer.accelerator.gather(torch.tensor([own], device=trainer.accelerator.device)).max())
    return sorted({row for row in (min(i, own - 1) for i in range(most)) if _holds(is_bad, row)})


def _holds(is_bad: Callable[[int], bool], row: int) -> bool:
    """Whether a row is bad, as far as it can be tried alone: a search that fails must not hide what it is about."""
    try:
        return is_bad(row)
    except Exception:
        return False


def _on_all(trainer: RowTrainer, holds: bool) -> bool:
    flag = torch.tensor([holds], device=trainer.accelerator.device)
    return bool(trainer.accelerator.gather(flag).all())


def _devices(trainer: RowTrainer) -> list[torch.device]:
    device = trainer.accelerator.device
    return [device] if device.type == "cuda" else []


def _kind(loss: Tensor) -> str:
    return "not finite" if not loss.isfinite() or is_sound(loss) else PROBABILITY_ZERO


def _rows(trainer: RowTrainer, parts: list[MicroBatch], found: Culprit) -> str:
    if not parts:
        return "no row that is at hand"
    batch, which = parts[found.at].batch, f" {found.at + 1} of {len(parts)}" if len(parts) > 1 else ""
    shown = "; ".join(f"row {row + 1} ({_excerpt(trainer.text_tokenizer, batch, row)!r})" for row in found.rows)
    return f"{shown or 'no row alone'} of its micro-batch{which}"


def _excerpt(tokenizer: PreTrainedTokenizerBase, batch: dict, row: int, tokens: int = 16) -> str:
    ids = batch["input_ids"]
    return str(tokenizer.decode(ids[(batch_rows(batch) == row).expand(ids.shape)][:tokens].tolist()))
