"""Hours of a run: from a pilot, or by counting operations."""

import math
from typing import Any, NamedTuple

from qtarget.job.config.checked_job import Job
from qtarget.job.cost.batch_shape import BatchShape
from qtarget.job.cost.disk_use import DiskUse, evaluations_of
from qtarget.job.cost.pilot import Pilot

REACHED = 0.5
"""Of the speed of a bare product of matrices, what a training step reaches."""
DISK_SPEED = 400e6
"""Bytes a second of writing and sealing a checkpoint, where no disk was looked at."""


class RunTime(NamedTuple):
    """Seconds of a run.

    Attributes:
        training, evaluations, checkpoints: of the parts.
        steps: optimizer steps.  basis: how it was found out, in words.
    """

    training: float
    evaluations: float
    checkpoints: float
    steps: int
    basis: str

    @property
    def total(self) -> float:
        return self.training + self.evaluations + self.checkpoints


class WeightCounts(NamedTuple):
    """Weights that the tokens of a run go through.

    Attributes:
        student: of the student, and `trained`, of it.
        beside: of all teachers and references that compute in the same process, forward alone.
    """

    student: int
    trained: int
    beside: int


def steps_of(job: Job, sequences: int) -> int:
    """Optimizer steps of a run on one device."""
    args = job.args
    if args.max_steps > 0:
        return args.max_steps
    batches = math.ceil(sequences / args.per_device_train_batch_size)
    return math.ceil(math.ceil(batches / args.gradient_accumulation_steps) * args.num_train_epochs)


def time_by_pilot(
    job: Job, shape: BatchShape, steps: int, pilot: Pilot, disk: DiskUse, evaluation_tokens: int
) -> RunTime:
    """Hours from seconds of a token, as a pilot measured them.

    Args:
        evaluation_tokens: of the evaluation rows, once.
    """
    batch = pilot.train_seconds * shape.tokens * job.args.gradient_accumulation_steps
    return RunTime(
        steps * (batch + pilot.optimizer_seconds),
        evaluations_of(job, steps) * pilot.evaluation_seconds * evaluation_tokens,
        _writing(disk),
        steps,
        f"a pilot of {pilot.steps} steps on this machine",
    )


def time_by_operations(
    job: Job, shape: BatchShape, steps: int, counts: WeightCounts, disk: DiskUse, speed: float, evaluation_tokens: int
) -> RunTime:
    """Hours by counting operations: two a weight and token forward, and again for each gradient and what is recomputed.

    Args:
        speed: operations a second of a bare product on this machine.
    """
    own = counts.student * (6 if job.args.gradient_checkpointing else 4) + 2 * counts.trained
    forward = 2 * (counts.student + counts.beside)
    tokens = steps * shape.tokens * job.args.gradient_accumulation_steps
    return RunTime(
        tokens * (own + 2 * counts.beside) / (REACHED * speed),
        evaluations_of(job, steps) * forward * evaluation_tokens / (REACHED * speed),
        _writing(disk),
        steps,
        "operations counted, at half the speed of a bare product; a pilot tells more",
    )


def _writing(disk: DiskUse) -> float:
    return (disk.saves * disk.checkpoint + disk.result) / DISK_SPEED


def tokens_of_rows(rows: Any) -> int:
    """Tokens of prepared rows."""
    return 0 if rows is None else sum(len(ids) for ids in rows.with_format("numpy")["input_ids"])
