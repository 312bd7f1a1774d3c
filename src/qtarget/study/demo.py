"""`qtarget demo`: the main job on the embedded lab. The same student under five targets, scored side by side."""

import hashlib
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

import qtarget as qt
from qtarget import lab
from qtarget.console import SafeConsole
from qtarget.disk.files import replace_text, write_json
from qtarget.disk.one_writer import one_writer
from qtarget.evaluate.compare.tables import ONE_SEED
from qtarget.evaluate.compare.view import average_text, difference_cells, legend
from qtarget.evaluate.confidence import BaselineDifference, baseline_differences
from qtarget.lab import World
from qtarget.study.experiment import LabModels, conduct_run
from qtarget.study.fine_tuning import StepCallback
from qtarget.study.picture import draw_scores
from qtarget.study.quiet import quiet
from qtarget.study.run_record import Budget, Outcome, Run, save_outcome, saved_outcome

DEMO_WORLDS = ("strong-prior", "weak-operator")
ARMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("base", {}),
    ("sft", {}),
    ("dft", {}),
    ("kd", {}),
    ("target-sft", {"eta": 0.2}),
    ("target-sft", {"eta": 0.5}),
    ("teacher", {}),
)
"""Methods and their hyperparameters; "base" and "teacher" are models as they come."""
BASELINE = "sft"


def demo_budget(world: World, quick: bool = False) -> Budget:
    """The world's own budget, with 120 questions answered 16 times; `quick` is a tenth of it, answered 4 times."""
    part = 10 if quick else 1
    return Budget(
        demonstrations=world.demonstrations // part,
        steps=max(world.fine_tuning_steps // part, 2),
        batch_size=world.batch_size,
        learning_rate=world.learning_rate,
        test=120 // part,
        samples=4 if quick else 16,
        max_new_tokens=world.max_new_tokens,
    )


def run_demo(out: Path, world: str | None = None, seed: int = 0, quick: bool = False) -> list[Outcome]:
    """Fine-tune, score, print the table, and save models, scores, table and picture under `out`, one folder a world.

    Arms already finished under `out` with the same budget and seed are read, not run again.

    Args:
        world: a name in `lab.WORLDS`; `DEMO_WORLDS` by default.
        quick: a tenth of the budget, to see that everything works.

    Raises:
        ValueError: no such world.
        SecondWriterError: another process is writing to `out`.
    """
    worlds = [lab.world(name) for name in ([world] if world else DEMO_WORLDS)]
    console, outcomes = SafeConsole(), []
    with one_writer(out):
        for each in worlds:
            outcomes += _run_world(each, demo_budget(each, quick), seed, out / each.name, console)
    console.print(Text.assemble("On a model and rows of your own: ", ("qtarget train --help", "bold")))
    return outcomes


def _run_world(world: World, budget: Budget, seed: int, out: Path, console: Console) -> list[Outcome]:
    started = time.monotonic()
    console.print(Text.assemble((f"World {world.name}", "bold"), f": {world.description}"))
    console.print(
        f"{budget.demonstrations} demonstrations, {budget.steps} steps of {budget.batch_size}; "
        f"{budget.test} held-out questions, each answered {budget.samples} times at temperature 1."
    )
    with quiet():
        runs = [Run(world.name, method, values, seed, budget) for method, values in ARMS]
        outcomes = _finish_all(runs, world, out, console)
    console.print(score_table(outcomes))
    _save(outcomes, world, out, time.monotonic() - started)
    seconds = f"  ({time.monotonic() - started:.0f} s)\n"
    console.print(Text.assemble("Models, scores and picture: ", (str(out), "bold"), seconds))
    return outcomes


def _finish_all(runs: Sequence[Run], world: World, out: Path, console: Console) -> list[Outcome]:
    columns = (
        TextColumn("{task.description:32}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    outcomes = []
    with Progress(*columns, console=console) as progress:
        overall = progress.add_task("all arms", total=len(runs))
        for run in runs:
            current = progress.add_task(run.label)
            outcome = demo_outcome(run, world, out / folder_of(run), partial(_show, progress, current), console)
            progress.update(current, description=f"{run.label}: {100 * outcome.mean:.1f}", completed=1, total=1)
            progress.advance(overall)
            outcomes.append(outcome)
    return outcomes


def _show(progress: Progress, task: TaskID, done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)


def demo_outcome(run: Run, world: World, folder: Path, step: StepCallback, console: Console) -> Outcome:
    """The run's outcome: read from `folder` where it is there, else made and saved with its model and tokenizer.

    The outcome is written last, so a run that was interrupted is made again. So is one that another version of qtarget
    wrote, after a line that says so.
    """
    path = folder / "score.json"
    try:
        if (saved := saved_outcome(run, path)) is not None:
            return saved
    except ValueError:
        console.print(f"{path} is of another version of qtarget; {run.label} is run again.")
    models = LabModels(lab.student_path(world), lab.teacher_path(world))
    questions = lab.questions(world, run.budget.test, seed=run.seed)
    outcome = conduct_run(run, world, models, questions, folder / "run", step, save_to=folder / "model")
    save_outcome(outcome, path)
    return outcome


def folder_of(run: Run) -> str:
    """Name of an arm's folder."""
    return "-".join([run.method, *(f"{key}-{value}" for key, value in run.hyperparameters.items())])


def score_table(outcomes: Sequence[Outcome]) -> Group:
    """Average@k by arm with its interval, the difference to sft on the same questions, and answers cut off.

    Intervals, p and marks are those of `qtarget compare`.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("arm", no_wrap=True)
    for name in (f"Average@{outcomes[0].run.budget.samples}", f"minus {BASELINE}", "p", "cut off"):
        table.add_column(name, justify="right", no_wrap=True)
    differences = differences_of(outcomes)
    for outcome in outcomes:
        found = differences.get(outcome.run.label)
        cells = [Text(""), Text("")]
        if found is not None:
            cells = difference_cells(found.comparison.difference, found.p_holm, found.is_clear)
        cut_off = f"{100 * outcome.truncated_share:.1f} %"
        table.add_row(outcome.run.label, average_text(outcome.average), *cells, cut_off)
    said = legend("question", len(differences))
    return Group(table, Text(said, style="dim"), Text(f"! {ONE_SEED}", style="yellow"))


def differences_of(outcomes: Sequence[Outcome]) -> dict[str, BaselineDifference]:
    """Each arm's difference to sft, by the arm's label; empty where sft is not among the arms."""
    baseline = next((each for each in outcomes if each.run.label == BASELINE), None)
    if baseline is None:
        return {}
    others = [each for each in outcomes if each is not baseline]
    found = baseline_differences([baseline.shares], [[each.shares] for each in others])
    return {each.run.label: difference for each, difference in zip(others, found, strict=True)}


def _save(outcomes: Sequence[Outcome], world: World, out: Path, seconds: float) -> None:
    """Write `results.json`, `table.txt` and `scores.png`."""
    run, differences = outcomes[0].run, differences_of(outcomes)
    budget = asdict(run.budget)
    results = {
        "world": world.name,
        "models": world_fingerprint(world),
        "budget": {"world": world.name, "seed": run.seed, "questions": budget.pop("test"), **budget},
        "versions": {
            "qtarget": qt.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "trl": trl.__version__,
            "python": platform.python_version(),
        },
        "seconds": round(seconds, 1),
        "arms": [_arm_record(outcome, differences.get(outcome.run.label)) for outcome in outcomes],
    }
    write_json(out / "results.json", results)
    table = StringIO()
    SafeConsole(file=table, width=110).print(score_table(outcomes))
    replace_text(out / "table.txt", table.getvalue())
    draw_scores(outcomes, world, out / "scores.png")


def _arm_record(outcome: Outcome, against: BaselineDifference | None) -> dict[str, Any]:
    run, average = outcome.run, outcome.average
    return {
        "arm": {
            "name": run.label,
            "method": run.method if run.trains else None,
            "hyperparameters": run.hyperparameters,
        },
        "mean": average.mean,
        "low": average.low,
        "high": average.high,
        f"minus_{BASELINE}": None if against is None else asdict(against),
        "truncated_share": outcome.truncated_share,
        "mean_tokens": outcome.mean_tokens,
        "seconds": outcome.seconds,
    }


def world_fingerprint(world: World) -> str:
    """sha256 of the shipped student and teacher, to tell results of different builds apart."""
    digest = hashlib.sha256()
    for folder in (lab.student_path(world), lab.teacher_path(world)):
        digest.update((folder / "model.safetensors").read_bytes())
    return digest.hexdigest()[:12]
