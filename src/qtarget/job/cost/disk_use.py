"""Bytes that a run leaves on disk: checkpoints, the result, and the cache of a teacher."""

import math
import shutil
from pathlib import Path
from typing import NamedTuple

from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from qtarget.job.config.checked_job import Job
from qtarget.job.cost.run_memory import RunMemory
from qtarget.job.cost.student_memory import StudentMemory


class DiskUse(NamedTuple):
    """Bytes on disk.

    Attributes:
        checkpoint: of one.  saves: how many are written.  kept: how many are there at once, at the most.
        result: of the model in `output_dir`.
        cache: what `qtarget teacher cache` would write of the teachers; 0 for a method without one, and for a stream.
        free: where the run writes; None where that cannot be found out.
    """

    checkpoint: int
    saves: int
    kept: int
    result: int
    cache: int
    free: int | None

    @property
    def run(self) -> int:
        """Bytes of a run at the most."""
        return self.checkpoint * self.kept + self.result


def disk_use(job: Job, memory: RunMemory, student: StudentMemory, steps: int, cache: int) -> DiskUse:
    """What a run writes.

    Args:
        steps: optimizer steps of the run.  cache: bytes of the teachers' caches.
    """
    args = job.args
    result = student.trained_bytes if job.model_args.use_peft else student.weights
    checkpoint = result + (0 if args.save_only_model else memory.optimizer + _beside(job, student))
    saves = saves_of(job, steps)
    kept = min(saves, args.save_total_limit + 1 if args.save_total_limit else saves)
    return DiskUse(checkpoint, saves, kept, result, cache, free_on_disk(job.output))


def _beside(job: Job, student: StudentMemory) -> int:
    """Bytes of what a checkpoint keeps of the student besides itself: the average that teaches it, in float32, and the
    snapshot of an old policy."""
    average = 0 if job.args.ema is None else 4 * student.trained
    has_snapshot = job.method.refresh_every is not None and job.args.reference == "initial"
    return average + (student.trained_bytes if has_snapshot and job.args.reference_cache is None else 0)


def saves_of(job: Job, steps: int) -> int:
    """How many checkpoints a run writes."""
    return _times(SaveStrategy(job.args.save_strategy).value, job.args.save_steps, job, steps)


def evaluations_of(job: Job, steps: int) -> int:
    """How often a run measures the loss on its evaluation rows, the last time at its end."""
    if job.evaluation is None:
        return 0
    times = _times(
        IntervalStrategy(job.args.eval_strategy).value, job.args.eval_steps or job.args.logging_steps, job, steps
    )
    return max(1, times)


def _times(strategy: str, every: float, job: Job, steps: int) -> int:
    if strategy == "no":
        return 0
    if strategy == "epoch":
        return math.ceil(job.args.num_train_epochs)
    interval = max(1, math.ceil(steps * every)) if every < 1 else int(every)
    return math.ceil(steps / interval)


def free_on_disk(folder: Path) -> int | None:
    """Bytes that are free where a folder is or will be; None where nothing is."""
    there = next((each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir()), None)
    return None if there is None else shutil.disk_usage(there).free
