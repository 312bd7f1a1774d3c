"""The catalogue of tasks on a terminal, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.disk.pages import markdown
from qtarget.evaluate.nouns import RowSource, SamplingProtocol, Task
from qtarget.evaluate.tasks.catalogue import TASKS

_LEGEND = (
    "asked: prompt, samples of a question × temperature, tokens at the most; any of it is a run's to override. Rows "
    "are downloaded at first use and held to a lock file from then on, or given as --rows TASK=FILE.jsonl."
)


def task_facts() -> list[dict[str, Any]]:
    """Every task as plain JSON."""
    return [
        {
            "name": task.name,
            "version": task.version,
            "suite": task.suite,
            "questions": task.rows,
            "source": {"hub": task.source.hub, "config": task.source.config, "split": task.source.split},
            "files": list(task.source.files),
            "gated": task.source.gated,
            "ask": asdict(task.ask),
            "grader": task.grader,
            "citation": task.citation,
        }
        for task in TASKS.values()
    ]


def task_table(tasks: Sequence[Task], width: int) -> RenderableType:
    """All tasks, a row each. Under 100 columns without the source, which the JSON has."""
    narrow = width < 100
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("task", style="bold", no_wrap=True)
    table.add_column("questions", justify="right")
    table.add_column("asked")
    table.add_column("grader")
    if not narrow:
        table.add_column("rows from", style="dim")
    for task in tasks:
        row = [task.name, str(task.rows or ""), ask_text(task.ask), task.grader]
        table.add_row(*map(Text, row if narrow else [*row, source_text(task.source)]))
    return Group(table, Text(_LEGEND, style="dim"))


def task_parts() -> dict[str, str]:
    """What a page may mark: the table `tasks`."""
    rows = [
        (f"`{task.name}`", str(task.rows or ""), source_text(task.source), ask_text(task.ask), task.grader)
        for task in TASKS.values()
    ]
    return {"tasks": markdown(("task", "questions", "rows from", "asked", "grader"), rows)}


def ask_text(ask: SamplingProtocol) -> str:
    """A protocol in a few words: ``qwen-boxed, 16 × T 1, 4096``."""
    return f"{ask.prompt}, {ask.k} × T {ask.temperature:g}, {ask.max_new_tokens}"


def source_text(source: RowSource) -> str:
    """Where rows come from, in a few words."""
    if not source.hub:
        return "made here"
    parts = [source.hub, source.config or "", "" if source.files else source.split, "gated" if source.gated else ""]
    return ", ".join(part for part in parts if part)
