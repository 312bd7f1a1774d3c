"""What a run takes: memory, hours, disk; and, where tasks are named, the hours of its evaluation."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from qtarget.fused.memory import free_bytes
from qtarget.job.build import remove_if_empty, unreachable_models
from qtarget.job.config.checked_job import Job
from qtarget.job.cost.batch_shape import BatchShape, batch_shape
from qtarget.job.cost.cache_cost import CacheCost, CountedRows, cache_costs
from qtarget.job.cost.disk_use import DiskUse, disk_use
from qtarget.job.cost.pilot import Pilot, run_pilot
from qtarget.job.cost.run_memory import RunMemory, own_bytes, run_memory, weights_beside
from qtarget.job.cost.run_time import (
    RunTime,
    WeightCounts,
    steps_of,
    time_by_operations,
    time_by_pilot,
    tokens_of_rows,
)
from qtarget.job.cost.task_time import TaskTime, check_tasks, task_times
from qtarget.job.rows.rendering import rows_trainer
from qtarget.job.rows.sources import FIRST_ROWS
from qtarget.job.surroundings.devices import product_speed
from qtarget.job.teacher_mass import folder_warnings


@dataclass(frozen=True)
class RunCost:
    """What a run takes on this machine, on one device.

    Attributes:
        device: "cpu" or "cuda".
        parameters, trained: numbers of the student, and of what is trained of it.
        is_rough: activations are by a rule of thumb, as the model cannot be rehearsed without numbers.
        free: bytes that are free now; None where nothing says so.
        pilot: None where none was run.
        sampled: the rows are a stream, and only the first were looked at.
        caches: of each teacher, were it cached; none for a stream, which cannot be.
        rounds: trainings of the run, of each of which the figures are; samples are drawn besides.
        thin_teachers: warnings of caches, and with a pilot of servers, that hold little of their teacher.
    """

    device: str
    parameters: int
    trained: int
    shape: BatchShape
    memory: RunMemory
    free: int | None
    time: RunTime
    disk: DiskUse
    pilot: Pilot | None
    tasks: tuple[TaskTime, ...]
    sampled: bool
    is_rough: bool = False
    caches: tuple[CacheCost, ...] = ()
    thin_teachers: tuple[str, ...] = ()
    rounds: int = 1

    def teacher_seconds(self, cache: CacheCost) -> tuple[float, float] | None:
        """Seconds of a teacher for its cache, and beside each run without one; None where it was not timed."""
        speed = None if self.pilot is None else self.pilot.teacher_speeds.get(cache.name)
        return None if speed is None else (cache.read / speed, cache.read_live / speed)

    def as_json(self) -> dict[str, Any]:
        """All of it, bytes and seconds, as values of JSON."""
        parts = {"shape": self.shape, "time": self.time, "disk": self.disk}
        named = {name: value._asdict() for name, value in parts.items()}
        named["time"]["total"], named["disk"]["run"] = self.time.total, self.disk.run
        memory = {**asdict(self.memory), "step": self.memory.step, "total": self.memory.total}
        plain = ("device", "parameters", "trained", "free", "sampled", "is_rough", "rounds")
        return {
            **{name: getattr(self, name) for name in plain},
            **named,
            "memory": memory,
            "pilot": None if self.pilot is None else _figures_of(self.pilot),
            "tasks": [each._asdict() for each in self.tasks],
            "caches": [each.as_json() for each in self.caches],
            "teacher_seconds": {each.name: self.teacher_seconds(each) for each in self.caches},
            "thin_teachers": list(self.thin_teachers),
        }


def _figures_of(pilot: Pilot) -> dict[str, Any]:
    return {name: value for name, value in pilot._asdict().items() if name not in ("thin_teachers", "teacher_speeds")}


def cost_of_run(job: Job, with_pilot: bool = True, tasks: Sequence[str] = ()) -> RunCost:
    """What a run takes. Nothing is left on disk.

    Args:
        with_pilot: load the weights and time a few steps; else operations are counted.
        tasks: names of `qtarget tasks`.

    Raises:
        ValueError: as `qtarget validate`, or no such task.
    """
    check_tasks(tasks)
    sampled = job.streaming or job.row_limit is not None
    looked = replace(job, streaming=False, row_limit=FIRST_ROWS) if sampled else job
    try:
        with remove_if_empty(job.output):
            trainer = rows_trainer(looked)
    except OSError as error:
        raise ValueError(unreachable_models(job, error)) from error
    rows: Any = trainer.train_dataset
    device = "cuda" if torch.cuda.is_available() and not job.args.use_cpu else "cpu"
    shape, steps = batch_shape(rows, job), steps_of(job, len(rows))
    memory, student = run_memory(job, shape, device, own_bytes() if device == "cpu" else 0)
    counted = CountedRows(rows, trainer.eval_dataset, trainer.text_tokenizer)
    caches = () if job.streaming else cache_costs(job, counted)
    disk = disk_use(job, memory, student, steps, sum(each.bytes for each in caches))
    held_out, free = tokens_of_rows(trainer.eval_dataset), free_bytes(torch.device(device))
    pilot = run_pilot(looked, bool(tasks)) if with_pilot else None
    if pilot is not None:
        time = time_by_pilot(job, shape, steps, pilot, disk, held_out)
    else:
        speed = product_speed(device, "bfloat16" if job.args.bf16 else "float32")
        counts = WeightCounts(student.parameters, student.trained, weights_beside(job, student.parameters))
        time = time_by_operations(job, shape, steps, counts, disk, speed, held_out)
    thin = tuple(folder_warnings(job, rows)) if pilot is None else pilot.thin_teachers
    speed = None if pilot is None else pilot.generation
    return RunCost(
        device, student.parameters, student.trained, shape, memory, free, time, disk, pilot,
        task_times(tasks, speed), sampled, student.is_rough, caches, thin, job.rounds.number if job.rounds else 1,
    )  # fmt: skip
