"""The runs of the study that are missing, made setting by setting, in this process or in several."""

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from rich.console import Console

from qtarget.disk.held_folders import LOCK, held_folder
from qtarget.disk.one_writer import one_writer
from qtarget.study.quiet import quiet
from qtarget.study.tuned.analysis import finished_setting
from qtarget.study.tuned.design import TunedStudy, chosen_for
from qtarget.study.tuned.estimate import measured_costs, needed_models, seconds_left, with_seeds_that_fit
from qtarget.study.tuned.outcome import StudyOutcome, StudyRun, known_outcome
from qtarget.study.tuned.pretrained import Pretraining
from qtarget.study.tuned.protocol import keep_protocol, kept_protocol
from qtarget.study.tuned.runs import finished_run
from qtarget.study.tuned.settings import DEMO_SETTING, Setting
from qtarget.study.tuned.tuned_arms import COMMON

Work = Callable[[], Any]
TaskRunner = Callable[[Sequence[Work]], Iterator[Any]]
"""Runs tasks, and yields what each returns as it ends."""


@dataclass(frozen=True)
class StudyFolders:
    """Where a study writes.

    Attributes:
        results: one JSON file for each run.
        models: students and teachers that do not ship, pre-trained once.
    """

    results: Path
    models: Path


def conduct_study(
    study: TunedStudy, folders: StudyFolders, workers: int, console: Console, *, estimated: bool = True
) -> TunedStudy:
    """Make what is missing of each setting in turn: models, tuning, test; then the sweep.

    The first call measures costs, sets the number of seeds by them, and writes the protocol; later calls keep to it.
    An estimate is printed whenever anything is missing.

    Args:
        estimated: False for a small study, whose seeds are given and whose time is not estimated.

    Returns:
        The study as its protocol has it.
    """
    kept = kept_protocol(study, folders.results)
    costs = None
    if kept is not None:
        study = replace(study, seeds=kept["seeds"], pretraining_seeds=kept["pretraining_seeds"])
    elif estimated:
        costs = measured_costs(study, DEMO_SETTING)
        study = with_seeds_that_fit(study, costs, folders.models, folders.results)
    if kept is None:
        keep_protocol(study, folders.results)
    if estimated and not is_finished(study, folders.results):
        costs = costs or measured_costs(study, DEMO_SETTING)
        console.print(estimate_in_words(study, seconds_left(study, costs, folders.models, folders.results), workers))
    with task_runner(workers, folders) as run_tasks:
        for setting in study.settings:
            _conduct_setting(study, setting, folders, run_tasks, console)
        for setting in study.sweep:
            _outcomes_of(study.sweep_runs(setting), study, setting, folders, run_tasks, console)
    return study


def estimate_in_words(study: TunedStudy, seconds: float, workers: int) -> str:
    """What is left to do, in words, from the seconds that it takes one processor."""
    return (
        f"{study.seeds} trainings an arm, on {study.pretraining_seeds} pre-trainings of each student and teacher. At "
        f"most {_hours_or_minutes(seconds)} of one processor are left to do, so {_hours_or_minutes(seconds / workers)} "
        f"with {workers} worker{'s' if workers > 1 else ''}, each on an idle core. Each run is kept as it ends; the "
        "same command goes on from there."
    )


def _hours_or_minutes(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{max(1, round(seconds / 60))} minutes"


def is_finished(study: TunedStudy, results: Path) -> bool:
    """Whether every outcome of the study is among the results."""
    swept = (known_outcome(run, results) for setting in study.sweep for run in study.sweep_runs(setting))
    return all(finished_setting(study, setting, results) for setting in study.settings) and all(swept)


def _conduct_setting(
    study: TunedStudy, setting: Setting, folders: StudyFolders, run_tasks: TaskRunner, console: Console
) -> None:
    _pretrain(study, setting, folders, run_tasks, console)
    tuned = _outcomes_of(study.development_runs(setting), study, setting, folders, run_tasks, console)
    chosen = chosen_for(study, setting, tuned)
    _outcomes_of(study.test_runs(setting, chosen), study, setting, folders, run_tasks, console)


def _pretrain(
    study: TunedStudy, setting: Setting, folders: StudyFolders, run_tasks: TaskRunner, console: Console
) -> None:
    needed = needed_models(study, [setting])
    if not any(each.is_missing(folders.models) for each in needed):
        return
    with one_writer(folders.models):
        missing = {each.path(folders.models): each for each in needed if each.is_missing(folders.models)}
        console.print(f"{setting.name}: {len(missing)} models to pre-train, about a minute each, into {folders.models}")
        for _ in run_tasks([partial(_pretrain_quietly, each, folders.models) for each in missing.values()]):
            pass


def _pretrain_quietly(model: Pretraining, folder: Path) -> None:
    with quiet():
        model.make(folder)


def _outcomes_of(
    runs: Sequence[StudyRun],
    study: TunedStudy,
    setting: Setting,
    folders: StudyFolders,
    run_tasks: TaskRunner,
    console: Console,
) -> list[StudyOutcome]:
    """The outcomes of all runs; those that are missing are made."""
    known = {(run.place, run.name): known_outcome(run, folders.results) for run in runs}
    missing = [run for run in runs if known[run.place, run.name] is None]
    tasks = [partial(_run_quietly, run, setting, study, folders) for run in missing]
    for number, outcome in enumerate(run_tasks(tasks), 1):
        known[outcome.run.place, outcome.run.name] = outcome
        share = 100 * sum(outcome.shares(COMMON)) / len(outcome.shares(COMMON))
        where = f"{outcome.run.place}/{outcome.run.name}"
        line = f"{number:3}/{len(missing)} {share:5.1f} {outcome.seconds:4.0f} s  {where}"
        console.print(line, highlight=False, soft_wrap=True)
    return [outcome for outcome in known.values() if outcome is not None]


def _run_quietly(run: StudyRun, setting: Setting, study: TunedStudy, folders: StudyFolders) -> StudyOutcome:
    with quiet():
        return finished_run(run, setting, study, folders.models, folders.results)


@contextmanager
def task_runner(workers: int, folders: StudyFolders) -> Iterator[TaskRunner]:
    """Run tasks in this process, or in several workers that live as long as the block."""
    if workers == 1:
        yield lambda tasks: (task() for task in tasks)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker, (folders,)) as pool:
        yield partial(_by_pool, pool, folders)


def _by_pool(pool: ProcessPoolExecutor, folders: StudyFolders, tasks: Sequence[Work]) -> Iterator[Any]:
    futures: list[Future] = [pool.submit(task) for task in tasks]
    try:
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise ValueError(
            "A process at work was killed, by the system if it was short of memory; fewer `--workers` need "
            f"less. What is finished stays in {folders.results}, and the same command goes on from there."
        ) from error
    finally:
        for future in futures:
            future.cancel()


def _begin_worker(folders: StudyFolders) -> None:
    """Let a new worker hold the parent's lock on the results, and end when the parent is killed: it would wait forever
    for work."""
    if (folders.results / LOCK).is_file():
        stack = ExitStack()
        stack.enter_context(held_folder(folders.results))
        atexit.register(stack.close)
    parent = parent_process()
    assert parent is not None
    Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
