"""`qtarget demo`: the main job on the embedded lab. The same student under five targets, scored side by side."""

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from io import StringIO
from pathlib import Path

import torch
import transformers
import trl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import qtarget as qt
from qtarget import lab
from qtarget.disk.files import replace_text, write_json
from qtarget.evaluate import paired_difference
from qtarget.study.picture import draw_scores
from qtarget.study.quiet import quiet
from qtarget.study.trainings import DemoArm, DemoBudget, Score, score_arm, world_fingerprint

DEMO_WORLDS = ("strong-prior", "weak-operator")
ARMS = (
    DemoArm("base"),
    DemoArm("sft", "sft"),
    DemoArm("dft", "dft"),
    DemoArm("kd", "kd"),
    DemoArm("target-sft η=0.2", "target-sft", {"eta": 0.2}),
    DemoArm("target-sft η=0.5", "target-sft", {"eta": 0.5}),
    DemoArm("teacher"),
)


def run_demo(out: Path, world: str | None = None, seed: int = 0, quick: bool = False) -> list[Score]:
    """Fine-tune, score, print the table, and save models, scores, table and picture under `out`, one folder a world.

    Arms already finished under `out` with the same settings are read, not run again.

    Args:
        world: a name in `lab.WORLDS`; `WORLDS` by default.
        quick: a tenth of the budget, to see that everything works.

    Raises:
        ValueError: no such world.
    """
    worlds = [lab.world(name) for name in ([world] if world else DEMO_WORLDS)]
    console, scores = Console(), []
    for one in worlds:
        scores += _run_world(one, DemoBudget.of(one, seed, quick=quick), out / one.name, console)
    console.print("On a model and rows of your own: [bold]qtarget train --help[/]")
    return scores


def _run_world(world: lab.World, budget: DemoBudget, out: Path, console: Console) -> list[Score]:
    started = time.monotonic()
    console.print(f"[bold]World {world.name}[/]: {world.description}")
    console.print(
        f"{budget.demonstrations} demonstrations, {budget.steps} steps of {budget.batch_size}; "
        f"{budget.questions} held-out questions, each answered {budget.samples} times at temperature 1."
    )
    with quiet():
        scores = _score_all(world, budget, out, console)
    console.print(score_table(scores))
    _save(scores, world, out, time.monotonic() - started)
    console.print(f"Models, scores and picture: [bold]{out}[/]  ({time.monotonic() - started:.0f} s)\n")
    return scores


def _score_all(world: lab.World, budget: DemoBudget, out: Path, console: Console) -> list[Score]:
    columns = (TextColumn("{task.description:32}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    scores = []
    with Progress(*columns, console=console) as progress:
        overall = progress.add_task("all arms", total=len(ARMS))
        for arm in ARMS:
            current = progress.add_task(arm.name)
            score = score_arm(arm, world, budget, out / folder_of(arm), partial(_show, progress, current))
            progress.update(current, description=f"{arm.name}: {100 * score.mean:.1f}", completed=1, total=1)
            progress.advance(overall)
            scores.append(score)
    return scores


def _show(progress: Progress, task: TaskID, done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)


def folder_of(arm: DemoArm) -> str:
    """A folder name for an arm."""
    return "-".join([arm.method or arm.name, *(f"{k}-{v}" for k, v in arm.hyperparameters.items())])


def score_table(scores: Sequence[Score]) -> Table:
    """Average@k by arm with its interval, the difference to sft on the same questions, and answers cut off."""
    sft = next((s for s in scores if s.arm.method == "sft"), None)
    k = scores[0].budget.samples
    table = Table(
        title=f"Average@{k}: per cent right, 95 % intervals by question", title_justify="left", box=SIMPLE_HEAD
    )
    table.add_column("arm", no_wrap=True)
    for name in ("Average (95 %)", "minus sft (95 %)", "cut off"):
        table.add_column(name, justify="right", no_wrap=True)
    for score in scores:
        table.add_row(
            score.arm.name,
            f"{100 * score.mean:5.1f} ({100 * score.low:4.1f}, {100 * score.high:5.1f})",
            "" if sft is None or score is sft else _difference(score, sft),
            f"{100 * score.truncated_share:.1f} %",
        )
    return table


def _difference(score: Score, other: Score) -> str:
    gap = paired_difference(score.correct, other.correct, score.budget.samples)
    return f"{100 * gap.mean:+.1f} ({100 * gap.low:+.1f}, {100 * gap.high:+.1f})"


def _save(scores: Sequence[Score], world: lab.World, out: Path, seconds: float) -> None:
    results = {
        "world": world.name,
        "models": world_fingerprint(world),
        "budget": asdict(scores[0].budget),
        "versions": {
            "qtarget": qt.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "trl": trl.__version__,
            "python": platform.python_version(),
        },
        "seconds": round(seconds, 1),
        "arms": [
            {key: value for key, value in asdict(s).items() if key not in ("budget", "log", "correct")} for s in scores
        ],
    }
    write_json(out / "results.json", results)
    table = StringIO()
    Console(file=table, width=110).print(score_table(scores))
    replace_text(out / "table.txt", table.getvalue())
    draw_scores(scores, world, out / "scores.png")
