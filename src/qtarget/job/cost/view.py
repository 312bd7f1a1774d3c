"""What `qtarget estimate` prints."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from qtarget.console import amount
from qtarget.disk.sizes import in_bytes
from qtarget.job.config.checked_job import Job
from qtarget.job.cost.cache_cost import CacheCost
from qtarget.job.cost.pilot import DRAWN
from qtarget.job.cost.printed import (
    break_even_remark,
    cost_heading,
    cost_table,
    in_gib,
    in_hours,
)
from qtarget.job.cost.run_cost import RunCost
from qtarget.job.cost.task_time import TaskTime

MEANINGS = {
    "libraries": "torch, transformers, the rows",
    "weights": "of the model",
    "gradients": "of what is trained",
    "optimizer": "what it keeps of each trained number",
    "activations": "what the backward pass needs of the forward pass",
    "loss": "a chunk of logits",
    "teacher": "weights, and what it said of the batch",
    "reference": "weights that the model is compared with",
    "allocator": "held back by the C library between tensors",
}

ALWAYS = ("weights", "gradients", "optimizer", "activations")


def cost_view(job: Job, cost: RunCost) -> RenderableType:
    """Memory by part, hours, disk, and what does not fit."""
    return Group(
        cost_heading("memory", _memory_remark(cost)),
        cost_table(
            [
                (name, in_gib(size), MEANINGS[name])
                for name, size in cost.memory.parts().items()
                if size or name in ALWAYS
            ]
        ),
        Text(),
        cost_table(list(_totals(cost))),
        cost_heading("time", cost.time.basis),
        cost_table(list(_times(cost))),
        cost_heading("disk"),
        cost_table(list(_disk(job, cost))),
        *_break_even(cost),
        *_tasks(cost),
        *[Text(f"\n{warning}", style="bold yellow") for warning in _warnings(cost)],
    )


def _memory_remark(cost: RunCost) -> str:
    shape = cost.shape
    return f"{cost.device}, at the peak of a step of {shape.rows} × {shape.width:,} tokens, by part; not measured"


def _totals(cost: RunCost) -> Iterator[tuple[str, str, str]]:
    free = "" if cost.free is None else f"{in_gib(cost.free)} are free"
    yield "at the peak", in_gib(cost.memory.step), free
    if cost.memory.loading > cost.memory.step:
        yield "loading", in_gib(cost.memory.loading), "while weights are read: they are there twice for a moment"
    if cost.pilot is not None and cost.pilot.peak is not None:
        yield "in the pilot", in_gib(cost.pilot.peak), "measured; its batches need not be the longest"


def _times(cost: RunCost) -> Iterator[tuple[str, str, str]]:
    time = cost.time
    of_model = f"{cost.trained:,} of {cost.parameters:,} weights are trained"
    yield "training", in_hours(time.training), f"{time.steps:,} steps; {of_model}"
    if time.evaluations:
        yield "evaluations", in_hours(time.evaluations), "of the loss on the evaluation rows"
    if time.checkpoints:
        yield "checkpoints", in_hours(time.checkpoints), f"{cost.disk.saves}, written at 400 MB/s"
    yield "together", in_hours(time.total), "" if cost.rounds == 1 else "of one training on the rows as they are"
    if cost.rounds > 1:
        yield (
            "all rounds",
            in_hours(cost.rounds * time.total),
            f"{cost.rounds} trainings; drawing samples is not counted",
        )


def _disk(job: Job, cost: RunCost) -> Iterator[tuple[str, str, str]]:
    disk = cost.disk
    if disk.saves:
        yield (
            "checkpoints",
            in_bytes(disk.kept * disk.checkpoint),
            f"{disk.kept} of {in_bytes(disk.checkpoint)} at once",
        )
    each = "" if cost.rounds == 1 else f", {cost.rounds} times"
    yield "result", in_bytes(disk.result), f"in {job.output}{each}"
    if disk.cache:
        kept, most = ", ".join(str(each.kept) for each in cost.caches), any(each.at_most for each in cost.caches)
        remark = f"{kept} tokens at each, were it written"
        by_mass = f"at most: {remark}; `qtarget teacher cache --dry-run` measures how many their mass takes"
        yield "teacher cache", in_bytes(disk.cache), by_mass if most else remark
    if disk.free is not None:
        yield "free", in_bytes(disk.free), ""


def _break_even(cost: RunCost) -> list[RenderableType]:
    if not cost.caches:
        return []
    basis = "runs of students from which on a cache costs less than a live teacher"
    rows = [row for each in cost.caches for row in _cached(cost, each)]
    return [cost_heading("break-even", basis), cost_table(rows)]


def _cached(cost: RunCost, each: CacheCost) -> Iterator[tuple[str, str, str]]:
    yield each.name, amount(each.pays_from, "run"), break_even_remark(each.read, each.read_live)
    if (seconds := cost.teacher_seconds(each)) is not None:
        once, live = map(in_hours, seconds)
        yield "teacher time", once, f"of {each.name} for the cache; live, {live} beside each run"


def _tasks(cost: RunCost) -> list[RenderableType]:
    if not cost.tasks:
        return []
    basis = f"at most: every answer at its longest, {DRAWN} at once"
    return [cost_heading("evaluation", basis), cost_table([_task(each) for each in cost.tasks])]


def _task(each: TaskTime) -> tuple[str, str, str]:
    answers = "how many questions it has is not fixed" if each.answers is None else f"{each.answers:,} answers"
    shown = "?" if each.seconds is None else in_hours(each.seconds)
    return each.task, shown, f"{answers}, of up to {each.tokens:,} tokens"


def _warnings(cost: RunCost) -> Iterator[str]:
    if cost.free is not None and cost.memory.total - cost.memory.libraries > cost.free:
        yield (
            f"{in_gib(cost.memory.total)} are needed and {in_gib(cost.free)} are free: take fewer rows at once "
            "(`per_device_train_batch_size`), cut them (`max_length`), or train an adapter (`use_peft: true`)."
        )
    if cost.disk.free is not None and cost.disk.run > cost.disk.free:
        yield (
            f"{in_bytes(cost.disk.run)} are written and {in_bytes(cost.disk.free)} are free: keep fewer checkpoints "
            "(`save_total_limit: 1`), or write elsewhere (`output_dir`)."
        )
    yield from cost.thin_teachers
    if cost.is_rough:
        yield "Activations are by a rule of thumb: this model cannot be rehearsed without numbers."
    if cost.sampled:
        yield "The rows are a stream: only the first were looked at."
