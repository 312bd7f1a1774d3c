"""What the model's forward is told about each batch, so that it computes the loss of the method."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import TrainerState

import qtarget as qt
from qtarget.data import WEIGHT, positions, sequence_ids
from qtarget.teacher import EvidenceSource
from qtarget.train.forward import TargetCall
from qtarget.train.metrics import diagnostics_of_step, logs_next
from qtarget.train.run_progress import RunProgress
from qtarget.train.run_sources import batch_evidence
from qtarget.train.vocabulary_cut import VocabularyCut


class TargetTrainer(Protocol):
    """The part of a trainer that decides the loss of a batch."""

    method: qt.Method
    adapter_off: Callable | None
    args: Any
    accelerator: Any
    model: Any
    state: TrainerState
    run_progress: RunProgress
    vocabulary_cut: VocabularyCut | None

    @property
    def sources(self) -> Mapping[str, EvidenceSource]: ...


class TargetCalls:
    """Makes the `TargetCall` of each batch of a trainer."""

    def __init__(self, trainer: TargetTrainer) -> None:
        self.trainer = trainer

    def of(self, texts: dict, batch: dict, num_items: Tensor | None) -> TargetCall:
        """The method, and the evidence and weights about this batch that the forward needs.

        Args:
            texts: the model's inputs.  batch: these, the labels and what else the loss reads.
            num_items: labels over ranks and accumulation steps; None for the batch's own count.
        """
        trainer, method = self.trainer, self.trainer.method
        with trainer.accelerator.autocast():
            evidence = batch_evidence(trainer.sources, texts, batch)
        reference = evidence.pop("reference", None)
        ids = sequence_ids(texts["input_ids"], texts.get("position_ids"))
        return TargetCall(
            method,
            tuple(evidence.values()),
            reference,
            trainer.adapter_off,
            token_weight(batch, method),
            ids if "sequence_ids" in method.needs else None,
            num_items,
            diagnostics_of_step(trainer.args.diagnostics, method, self._is_logged()),
            width=texts["input_ids"].shape[1],
            progress=torch.tensor(trainer.run_progress.now, dtype=torch.float64)
            if "progress" in method.needs
            else None,
            position=positions(batch["labels"], ids) if "position" in method.needs else None,
            cut=trainer.vocabulary_cut,
        )

    def _is_logged(self) -> bool:
        return not self.trainer.model.training or logs_next(self.trainer.args, self.trainer.state)


def token_weight(batch: dict, method: qt.Method) -> Tensor | None:
    """The batch's weights; 1 for rows without any (an evaluation set's) under a method that reads them."""
    if WEIGHT not in batch and "token_weight" in method.needs:
        return torch.ones_like(batch["input_ids"], dtype=torch.float32)
    return batch.get(WEIGHT)
