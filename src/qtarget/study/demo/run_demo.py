"""`qtarget demo`: its runs are made, and models, outcomes, tables and picture kept."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

import qtarget as qt
from qtarget.console import SafeConsole
from qtarget.disk.files import replace_text, write_json
from qtarget.disk.one_writer import one_writer
from qtarget.study.demo.demo_picture import draw_demo
from qtarget.study.demo.demo_scenes import ARMS, DEFAULT_SCENES, SHOWN_DECODINGS, scene
from qtarget.study.demo.demo_scores import DemoScore, DemoTable, demo_table
from qtarget.study.demo.demo_view import closing_lines, scene_heading, scene_view
from qtarget.study.quiet import quiet
from qtarget.study.tuned.design import TunedStudy
from qtarget.study.tuned.outcome import StudyOutcome, StudyRun, keep_outcome, known_outcome, path_of
from qtarget.study.tuned.runs import made_outcome
from qtarget.study.tuned.schedule import StudyFolders, TaskRunner, task_runner
from qtarget.study.tuned.settings import Setting

WHOLE_DEMO = TunedStudy(
    tuple(each.setting for each in DEFAULT_SCENES), arms=ARMS, seeds=3, pretraining_seeds=1, test=100
)
"""Three trainings of each arm, all of the student that ships; a hundred of the study's test questions."""
QUICK_DEMO = replace(WHOLE_DEMO, seeds=2, test=10, samples=4)
QUICK_STEPS = 50
"""The steps of a quick demo are the study's, divided by this."""
ANSWERING_STEPS = 100
"""Optimizer steps that take about as long as drawing the answers of a run: the progress bar counts both."""
SAVED_MODELS = "models"


def run_demo(
    out: Path, setting: str | None = None, seed: int = 0, workers: int | None = None, quick: bool = False
) -> dict[str, list[DemoTable]]:
    """Fine-tune, score, print the tables, and save models, outcomes, tables and picture under `out`.

    Runs that an earlier call finished there, with as many questions and answers, are read and not made again.

    Args:
        setting: a name in `demo_scenes.SCENES`; two of them by default.
        seed: of the first training; the others follow.
        workers: processes; by default two, or one on a single core.
        quick: few trainings, steps and questions, to see that it works.

    Returns:
        The tables by the scene's name.

    Raises:
        ValueError: no such setting, an outcome there is damaged, or a worker was killed.
        SecondWriterError: another process is writing to `out`.
    """
    shown, console = ([scene(setting)] if setting else list(DEFAULT_SCENES)), SafeConsole()
    study, folders = QUICK_DEMO if quick else WHOLE_DEMO, StudyFolders(out, out / SAVED_MODELS)
    tables: dict[str, list[DemoTable]] = {}
    with one_writer(out), task_runner(workers or min(2, os.cpu_count() or 1), folders) as run_tasks:
        for each in shown:
            console.print(scene_heading(each, study, quick))
            runs = [demo_run(run, seed, quick) for run in each.runs(study)]
            outcomes = _outcomes_of(runs, each.setting, study, folders, run_tasks, console)
            tables[each.name] = [demo_table(each, outcomes, decoding) for decoding in SHOWN_DECODINGS]
            console.print(scene_view(tables[each.name]))
        console.print(closing_lines(study))
        _save(tables, study, seed, quick, out)
    console.print(Text.assemble("Models, outcomes, tables and picture: ", (str(out), "bold")))
    console.print(Text.assemble("On a model and rows of your own: ", ("qtarget init --help", "bold")))
    return tables


def demo_run(run: StudyRun, seed: int, quick: bool) -> StudyRun:
    """The study's run with its seed moved by `seed`; for a quick demo with few steps."""
    steps = max(run.steps // QUICK_STEPS, 2) if quick and run.trains else run.steps
    return replace(run, seed=run.seed + seed, steps=steps)


def _outcomes_of(
    runs: Sequence[StudyRun], setting: Setting, study: TunedStudy, folders: StudyFolders, run_tasks: TaskRunner,
    console: Console,
) -> list[StudyOutcome]:  # fmt: skip
    known = {run.name: demo_outcome(run, study, folders.results) for run in runs}
    missing = sorted((run for run in runs if known[run.name] is None), key=lambda run: -run.steps)
    columns = (TextColumn("{task.description:42}", markup=False), BarColumn(20), TaskProgressColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task(f"{len(missing)} runs", total=sum(map(_weight, missing)))
        for outcome in run_tasks([partial(_make, run, setting, study, folders) for run in missing]):
            known[outcome.run.name] = outcome
            progress.update(bar, advance=_weight(outcome.run), description=outcome.run.name)
    return [outcome for outcome in known.values() if outcome is not None]


def _weight(run: StudyRun) -> int:
    """How much of the progress bar a run takes, in optimizer steps."""
    return run.steps + ANSWERING_STEPS


def demo_outcome(run: StudyRun, study: TunedStudy, results: Path) -> StudyOutcome | None:
    """The run's outcome, if it is kept and of as many questions and answers.

    Raises:
        ValueError: its file holds something else.
    """
    outcome = known_outcome(run, results)
    is_whole = outcome is not None and all(
        len(drawn.right) == study.test and drawn.k in (1, study.samples) for drawn in outcome.answers.values()
    )
    return outcome if is_whole else None


def _make(run: StudyRun, setting: Setting, study: TunedStudy, folders: StudyFolders) -> StudyOutcome:
    """Make the run, and keep its model and then its outcome: a run that was interrupted has none."""
    model = path_of(run, folders.models).with_suffix("")
    with quiet():
        outcome = made_outcome(run, setting, study, folders.models, save_to=model)
    keep_outcome(outcome, folders.results)
    return outcome


def _save(tables: dict[str, list[DemoTable]], study: TunedStudy, seed: int, quick: bool, out: Path) -> None:
    """Write `results.json`, `table.txt` and `scores.png`."""
    results = {
        "seed": seed,
        "quick": quick,
        "trainings": study.seeds,
        "questions": study.test,
        "samples": study.samples,
        "demonstrations": study.demonstrations,
        "versions": {
            "qtarget": qt.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "trl": trl.__version__,
            "python": platform.python_version(),
        },
        "settings": {name: {t.decoding.label: _record(t) for t in found} for name, found in tables.items()},
    }
    write_json(out / "results.json", results)
    text = StringIO()
    console = SafeConsole(file=text, width=80)
    for name, found in tables.items():
        console.print(scene_heading(scene(name), study, quick), scene_view(found))
    console.print(closing_lines(study))
    replace_text(out / "table.txt", text.getvalue())
    draw_demo(tables, study, out / "scores.png")


def _record(table: DemoTable) -> dict[str, Any]:
    return {
        "arms": {score.arm: _score_record(score) for score in table.scores},
        "target-sft_minus_rival": asdict(table.rival.comparison),
    }


def _score_record(score: DemoScore) -> dict[str, Any]:
    return {
        **asdict(score.average),
        "truncated_share": score.truncated_share,
        "minus_sft": None if score.against is None else asdict(score.against),
    }
