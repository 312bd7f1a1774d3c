"""What `qtarget estimate` prints."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.job.config.checked_job import Job
from qtarget.job.cost.pilot import DRAWN
from qtarget.job.cost.run_cost import RunCost
from qtarget.job.cost.task_time import TaskTime

_GIB, _GB = 2**30, 10**9
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
        _heading("memory", _memory_remark(cost)),
        _table(
            [(name, _gib(size), MEANINGS[name]) for name, size in cost.memory.parts().items() if size or name in ALWAYS]
        ),
        Text(),
        _table(list(_totals(cost))),
        _heading("time", cost.time.basis),
        _table(list(_times(cost))),
        _heading("disk"),
        _table(list(_disk(job, cost))),
        *_tasks(cost),
        *[Text(f"\n{warning}", style="bold yellow") for warning in _warnings(cost)],
    )


def _memory_remark(cost: RunCost) -> str:
    shape = cost.shape
    return f"{cost.device}, at the peak of a step of {shape.rows} × {shape.width:,} tokens, by part; not measured"


def _totals(cost: RunCost) -> Iterator[tuple[str, str, str]]:
    free = "" if cost.free is None else f"{_gib(cost.free)} are free"
    yield "at the peak", _gib(cost.memory.step), free
    if cost.memory.loading > cost.memory.step:
        yield "loading", _gib(cost.memory.loading), "while weights are read: they are there twice for a moment"
    if cost.pilot is not None and cost.pilot.peak is not None:
        yield "in the pilot", _gib(cost.pilot.peak), "measured; its batches need not be the longest"


def _times(cost: RunCost) -> Iterator[tuple[str, str, str]]:
    time = cost.time
    of_model = f"{cost.trained:,} of {cost.parameters:,} weights are trained"
    yield "training", _duration(time.training), f"{time.steps:,} steps; {of_model}"
    if time.evaluations:
        yield "evaluations", _duration(time.evaluations), "of the loss on the evaluation rows"
    if time.checkpoints:
        yield "checkpoints", _duration(time.checkpoints), f"{cost.disk.saves}, written at 400 MB/s"
    yield "together", _duration(time.total), ""


def _disk(job: Job, cost: RunCost) -> Iterator[tuple[str, str, str]]:
    disk = cost.disk
    if disk.saves:
        yield "checkpoints", _gb(disk.kept * disk.checkpoint), f"{disk.kept} of {_gb(disk.checkpoint)} at once"
    yield "result", _gb(disk.result), f"in {job.output}"
    if disk.cache:
        yield "teacher cache", _gb(disk.cache), f"{job.args.teacher_top_k} tokens at each, were it written"
    if disk.free is not None:
        yield "free", _gb(disk.free), ""


def _tasks(cost: RunCost) -> list[RenderableType]:
    if not cost.tasks:
        return []
    basis = f"at most: every answer at its longest, {DRAWN} at once"
    return [_heading("evaluation", basis), _table([_task(each) for each in cost.tasks])]


def _task(each: TaskTime) -> tuple[str, str, str]:
    answers = "how many questions it has is not fixed" if each.answers is None else f"{each.answers:,} answers"
    shown = "?" if each.seconds is None else _duration(each.seconds)
    return each.task, shown, f"{answers}, of up to {each.tokens:,} tokens"


def _warnings(cost: RunCost) -> Iterator[str]:
    if cost.free is not None and cost.memory.total - cost.memory.libraries > cost.free:
        yield (
            f"{_gib(cost.memory.total)} are needed and {_gib(cost.free)} are free: take fewer rows at once "
            "(`per_device_train_batch_size`), cut them (`max_length`), or train an adapter (`use_peft: true`)."
        )
    if cost.disk.free is not None and cost.disk.run > cost.disk.free:
        yield (
            f"{_gb(cost.disk.run)} are written and {_gb(cost.disk.free)} are free: keep fewer checkpoints "
            "(`save_total_limit: 1`), or write elsewhere (`output_dir`)."
        )
    if cost.is_rough:
        yield "Activations are by a rule of thumb: this model cannot be rehearsed without numbers."
    if cost.sampled:
        yield "The rows are a stream: only the first were looked at."


def _heading(title: str, remark: str = "") -> Text:
    return Text.assemble("\n", (title, "bold"), "  ", (remark, "dim"))


def _table(rows: list[tuple[str, str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=13)
    table.add_column(justify="right", no_wrap=True, min_width=9)
    table.add_column(style="dim")
    for name, figure, remark in rows:
        table.add_row(Text(f"  {name}"), Text(figure), Text(remark))
    return table


def _gib(size: int) -> str:
    return f"{size / _GIB:.2f} GiB" if size >= _GIB / 10 else f"{size / 2**20:.1f} MiB"


def _gb(size: int) -> str:
    return f"{size / _GB:.1f} GB" if size >= _GB else f"{size / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    """Seconds in words: "40 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
