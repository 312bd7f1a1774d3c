"""What the student, the teachers and the reference of a run say about one document: a forward pass of each."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

import qtarget as qt
from qtarget.data import TEACHER_BATCH, TEACHER_IDS, positions, teacher_batch
from qtarget.job.inspection.trained_rows import TrainedRow
from qtarget.models.causal_lm import hidden_states
from qtarget.target.evidence import CallInputs, Evidence, SupervisedTokens, evidence_rows
from qtarget.target.inputs import supervised_tokens
from qtarget.target.source_logits import head_logits
from qtarget.target.types import IGNORED
from qtarget.teacher import eval_mode, head_of
from qtarget.train import TargetSFTTrainer
from qtarget.train.build_sources import causal_lm
from qtarget.train.forward import WITH_NEXT
from qtarget.train.run_sources import batch_evidence

PROGRESS_SHOWN = 0.0
"""At which progress of the run schedules are read: the models are those that training starts with."""


class RowForward(NamedTuple):
    """What is known of a document's T learned tokens before any distribution is built.

    Attributes:
        hidden: [T, H] the student's last hidden states before each learned token.  head: its output layer.
        tokens: the learned tokens, with what teachers and reference say of each, when training starts.
        is_student_reference: the reference is the student itself, as it is when training starts.
    """

    hidden: Tensor
    head: qt.Head
    tokens: SupervisedTokens
    is_student_reference: bool


class ForwardReader:
    """Asks a trainer's models about documents, one at a time.

    Teachers, and a reference that is a model of its own, are those that the trainer has opened: live, cached or served.
    A reference that is the initial model is the student itself, or the student with its adapter off.
    """

    def __init__(self, trainer: TargetSFTTrainer) -> None:
        self.trainer = trainer
        self.student = causal_lm(trainer.model)
        is_named = trainer.args.reference_cache is not None or trainer.args.reference != "initial"
        self.sources = {name: source for name, source in trainer.sources.items() if name != "reference" or is_named}
        self.teachers = len(trainer.teachers)

    @property
    def wrapper(self) -> Any:
        """The peft model around the student; None where there is none."""
        return None if self.trainer.model is self.student else self.trainer.model

    @torch.no_grad()
    def logprobs(self, row: TrainedRow) -> Tensor:
        """The student's log-probabilities alone, [T, V] nats."""
        hidden, head = self._student(self._inputs(row))
        where = torch.as_tensor(row.learned - 1, device=hidden.device)
        return head_logits(hidden[0, where], head).float().log_softmax(-1)

    @torch.no_grad()
    def read(self, row: TrainedRow) -> RowForward:
        """A forward pass of every model over a document."""
        texts, labels = self._inputs(row), torch.as_tensor(row.labels, device=self.student.device)[None]
        hidden, head = self._student(texts)
        with self._precision():
            batch = {**texts, "labels": labels, **self._read_by_teacher(row, texts)}
            found: dict[str, Evidence] = dict(batch_evidence(self.sources, texts, batch))
        reference = found.pop("reference", None) or self._without_adapter(texts)
        given = CallInputs(
            tuple(evidence_rows(each, WITH_NEXT) for each in found.values()) or None,
            None if reference is None else evidence_rows(reference, WITH_NEXT),
            None if row.weight is None else torch.as_tensor(row.weight, device=labels.device)[None, 1:],
            torch.zeros_like(labels[:, 1:]),
            progress=PROGRESS_SHOWN,
            position=positions(labels, torch.zeros_like(labels))[:, 1:],
        )
        vocab = head.weight.shape[0]
        tokens = supervised_tokens(labels[:, 1:], qt.method("sft"), vocab, given, IGNORED, drop_weightless=False)
        return RowForward(hidden[:, :-1].flatten(0, 1)[tokens.where], head, tokens, reference is None)

    def _student(self, texts: dict[str, Tensor]) -> tuple[Tensor, qt.Head]:
        with eval_mode(self.trainer.model), self._precision():
            hidden = hidden_states(self.student, texts, self.wrapper)
        return hidden[:, -texts["input_ids"].shape[1] :], head_of(self.student)

    def _without_adapter(self, texts: dict[str, Tensor]) -> Evidence | None:
        """The initial model where it is the student with its adapter off; None where it is the student as it is."""
        wrapper = self.wrapper
        if wrapper is None or wrapper.active_peft_config.is_prompt_learning:
            return None
        with wrapper.disable_adapter():
            hidden, head = self._student(texts)
        return qt.Dense(hidden, head)

    def _inputs(self, row: TrainedRow) -> dict[str, Tensor]:
        ids = torch.as_tensor(row.ids, device=self.student.device)[None]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def _read_by_teacher(self, row: TrainedRow, texts: dict[str, Tensor]) -> dict[str, Any]:
        """The part of a batch that says what the teacher reads, where that is something else."""
        given = {"input_ids": row.ids, "labels": row.labels, TEACHER_IDS: row.teacher_ids}
        theirs = None if row.teacher_ids is None else teacher_batch([given], [(0, 0)], texts)
        if theirs is None:
            return {}
        return {TEACHER_BATCH: {name: value.to(self.student.device) for name, value in theirs.items()}}

    def _precision(self) -> Any:
        return self.trainer.accelerator.autocast()
