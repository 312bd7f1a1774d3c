"""Trainers of tiny models, and what inspection reads through them."""

from functools import cache
from pathlib import Path
from typing import Any

import tiny_models
import torch
from scratch import scratch_folder
from train.parity import common_args

import qtarget as qt
from qtarget.job.inspection.measured_rows import MeasuredSet, measure
from qtarget.job.inspection.row_forward import ForwardReader
from qtarget.job.inspection.trained_rows import TrainedRow, TrainedRows
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

BATCH_ROWS = 3
SCRATCH = Path(scratch_folder())


def trainer(
    method: str = "target-sft",
    data: Any = None,
    tokenizer: Any = None,
    vocabulary: int = tiny_models.VOCAB,
    **changes: Any,
) -> TargetSFTTrainer:
    """A trainer that was built and has not trained."""
    needs = method in ("kd", "kd-hybrid", "target-sft")
    return TargetSFTTrainer(
        tiny_models.tiny_model(seed=1, vocab=vocabulary),
        TargetSFTConfig(method=method, **common_args(**changes)),
        train_dataset=tiny_models.token_rows(8, weights=True) if data is None else data,
        processing_class=tokenizer or tiny_models.tiny_tokenizer(),
        teacher=tiny_models.tiny_model(seed=2, width=48, vocab=vocabulary) if needs else None,
    )


@cache
def plain() -> tuple[TargetSFTTrainer, list[TrainedRow], MeasuredSet]:
    """Weighted rows under Target-SFT with a live teacher: the trainer, the rows and what is measured of them."""
    return read(trainer())


@cache
def with_reference() -> tuple[TargetSFTTrainer, list[TrainedRow], MeasuredSet]:
    """Likewise under SFT with a KL to a reference that is a model of its own."""
    return read(reference_trainer())


def reference_trainer() -> TargetSFTTrainer:
    folder = scratch_folder()
    tiny_models.tiny_model(seed=5).save_pretrained(folder)
    tiny_models.tiny_tokenizer().save_pretrained(folder)
    return trainer("sft-kl", reference=folder)


def read(built: TargetSFTTrainer) -> tuple[TargetSFTTrainer, list[TrainedRow], MeasuredSet]:
    rows = list(TrainedRows(built.train_dataset))
    return built, rows, measure(ForwardReader(built), rows, built.method, BATCH_ROWS)


def logits_of(model: Any, row: TrainedRow) -> torch.Tensor:
    """A model's logits before each learned token, [T, V], by its own forward."""
    with torch.no_grad():
        return model.eval()(torch.as_tensor(row.ids)[None]).logits[0, row.learned - 1].double()


def defined(
    built: TargetSFTTrainer, rows: list[TrainedRow], method: qt.Method
) -> tuple[qt.LossOutput, torch.Tensor, qt.Target]:
    """What the definition says of rows that are one micro-batch: the loss, ‖gradient of each token‖ and the target."""
    student = torch.cat([logits_of(built.model, row) for row in rows]).requires_grad_()
    evidence: dict[str, Any] = {}
    if "teacher" in method.needs:
        evidence["teacher"] = torch.cat([logits_of(built.teachers[0].model, row) for row in rows])
    if "reference" in method.needs:
        own = built.reference is None or built.method.name != "sft-kl"
        evidence["reference"] = (
            student.detach() if own else torch.cat([logits_of(built.reference.model, row) for row in rows])
        )
    labels = torch.cat([torch.as_tensor(row.ids[row.learned]) for row in rows])
    evidence["token_weight"] = torch.cat([torch.as_tensor(row.weight[row.learned]) for row in rows])
    evidence["sequence_ids"] = torch.cat([torch.full((len(row.learned),), row.number) for row in rows])
    evidence["progress"] = 0.0
    out = qt.q_target_loss(student, labels, method, num_items=1, **evidence)
    out.loss.backward()
    return out, student.grad.norm(dim=-1), qt.target_distribution(student.detach(), labels, method, **evidence)
