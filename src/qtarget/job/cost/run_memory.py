"""The memory of a run at its peak, part by part: what one device, or on a CPU the process, holds."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import psutil
import torch
from transformers import AutoConfig
from transformers.training_args import OptimizerNames

from qtarget.job.config.checked_job import Job
from qtarget.job.cost.batch_shape import BatchShape
from qtarget.job.cost.loss_buffers import loss_bytes
from qtarget.job.cost.student_memory import StudentMemory, student_memory
from qtarget.job.rows.rendering import model_without_weights
from qtarget.models.named_kernels import refuse_named_kernels
from qtarget.teacher import SELF, SourceKind, SourceName
from qtarget.train.build_sources import as_teachers

STATE_BYTES = {"adafactor": 0.1, "sgd": 0, "8bit": 2, "4bit": 1, "lion": 4, "rmsprop": 4, "adagrad": 4}
"""Bytes that optimizers keep for each trained number, by what their names hold; Adam, and any other, keeps eight."""
ADAM_BYTES = 8
BETWEEN_TENSORS = 0.15
"""Of the tensors' bytes on a CPU, what the C library holds back between them (`benchmarks/run_cost.py`: 0 to 0.4)."""


@dataclass(frozen=True)
class RunMemory:
    """Bytes at the peak of a step, by part; on a CPU the libraries' own are among them.

    Attributes:
        libraries: torch, transformers and the rows, before any weight is read.
        loss: buffers of a chunk of logits.
        teacher: weights of live teachers, and what they said of the batch.
        reference: weights of a live reference, or of the copy that the student is compared with.
        allocator: on a CPU, what the C library holds back between tensors that were freed.
        loading: of the whole process while weights are read: they stand in memory twice for a moment.
    """

    libraries: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    loss: int
    teacher: int
    reference: int
    allocator: int
    loading: int

    @property
    def step(self) -> int:
        """Bytes at the peak of a step."""
        return sum(getattr(self, f.name) for f in fields(self) if f.name != "loading")

    @property
    def total(self) -> int:
        return max(self.step, self.loading)

    def parts(self) -> Mapping[str, int]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "loading"}


def own_bytes() -> int:
    """Bytes of memory that this process has now."""
    return int(psutil.Process().memory_info().rss)


def run_memory(job: Job, shape: BatchShape, device: str, libraries: int) -> tuple[RunMemory, StudentMemory]:
    """The memory of a run, and of its student alone.

    Args:
        device: "cpu" or "cuda"; libraries: bytes that they take, of a GPU none.
    """
    teachers, references = _live(job, "teacher"), _live(job, "reference")
    evidence = sum(_hidden_bytes(config, shape) for config in (*teachers, *references))
    student = student_memory(job, shape, loss_bytes(job, shape, device), evidence, device)
    of_teachers = sum(weight_bytes(config, job.args.teacher_dtype, job.args.trust_remote_code) for config in teachers)
    of_references = sum(
        weight_bytes(config, job.args.reference_dtype or "auto", job.args.trust_remote_code) for config in references
    )
    held_back = BETWEEN_TENSORS if device == "cpu" else 0.0
    parts = {
        "weights": student.weights,
        "gradients": student.gradients,
        "optimizer": int(_state_bytes(OptimizerNames(job.args.optim).value) * student.trained),
        "activations": student.activations,
        "loss": student.loss,
        "teacher": of_teachers + _self_teacher(job, student) + student.evidence,
        "reference": of_references + _kept_student(job, student),
    }
    allocator = int(held_back * sum(parts.values()))
    loading = libraries + int((1 + held_back) * 2 * student.weights)
    return RunMemory(libraries=libraries, **parts, allocator=allocator, loading=loading), student


def _state_bytes(optimizer: str) -> float:
    return next((size for name, size in STATE_BYTES.items() if name in optimizer), ADAM_BYTES)


def _kept_student(job: Job, student: StudentMemory) -> int:
    """Bytes of the copy that a method keeps of the student; with an adapter none, as it is switched off instead."""
    if "reference" not in job.method.needs or job.args.reference != "initial" or job.args.reference_cache is not None:
        return 0
    if job.method.refresh_every is not None:
        return student.trained_bytes
    return 0 if job.model_args.use_peft else student.weights


def _self_teacher(job: Job, student: StudentMemory) -> int:
    """Bytes of what `teacher: self` keeps of the student: a copy, or an average in float32 and, while it is in place,
    the trained weights; with an adapter that is switched off nothing."""
    if SELF not in as_teachers(job.args.teacher) or job.args.teacher_cache is not None:
        return 0
    if job.args.ema is not None:
        return 4 * student.trained + student.trained_bytes
    return 0 if job.model_args.use_peft else student.weights


def _live(job: Job, role: str) -> list[tuple[str, Any]]:
    """Sources and configurations of the models that are loaded beside the student."""
    if getattr(job.args, f"{role}_cache") is not None or role not in job.method.needs:
        return []
    names = [str(name) for name in as_teachers(getattr(job.args, role)) if name is not None]
    models = [name for name in names if SourceName.parse(name).kind is SourceKind.MODEL]
    for name in models:
        refuse_named_kernels(name, getattr(job.args, f"{role}_init_kwargs") or {})
    return [(name, AutoConfig.from_pretrained(name, trust_remote_code=job.args.trust_remote_code)) for name in models]


def weights_beside(job: Job, student: int) -> int:
    """Weights of the models that each token goes through beside the student: of those that are loaded, and again the
    student's where it is its own teacher or the initial model's.

    Args:
        student: weights of the student.
    """
    loaded = [*_live(job, "teacher"), *_live(job, "reference")]
    is_taught = "teacher" in job.method.needs and job.args.teacher_cache is None
    is_compared = "reference" in job.method.needs and job.args.reference_cache is None
    own = (is_taught and SELF in as_teachers(job.args.teacher)) + (is_compared and job.args.reference == "initial")
    return own * student + sum(_weights(source, job.args.trust_remote_code) for source in loaded)


def weight_bytes(source: tuple[str, Any], dtype: str, is_trusted: bool) -> int:
    """Bytes of a model's weights in memory.

    Args:
        source: its directory or hub name, and its configuration.
        dtype: a torch dtype's name, or "auto" for the checkpoint's own.
    """
    _, config = source
    own = getattr(config.get_text_config(), "dtype", None) or torch.float32
    wanted = own if dtype == "auto" else dtype
    kind = getattr(torch, wanted) if isinstance(wanted, str) else wanted
    return kind.itemsize * _weights(source, is_trusted)


def _weights(source: tuple[str, Any], is_trusted: bool) -> int:
    """How many a model has."""
    model = model_without_weights(source[0], {"trust_remote_code": is_trusted})
    return sum(weight.numel() for weight in model.parameters())


def _hidden_bytes(source: tuple[str, Any], shape: BatchShape) -> int:
    return 4 * shape.rows * shape.width * source[1].get_text_config().hidden_size
