"""The study's schedule: which runs are missing, how long they will take, and making them in one process or several."""

import atexit
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from qtarget.disk.held_folders import LOCK, held_folder
from qtarget.disk.one_writer import one_writer
from qtarget.lab import World
from qtarget.study.miniature.cut_steps import keep_share, kept_share
from qtarget.study.miniature.design import Study, choose_eta
from qtarget.study.miniature.model_folders import build_models, missing_models
from qtarget.study.miniature.runs import finished_outcome, path_of, study_outcome
from qtarget.study.quiet import quiet
from qtarget.study.run_record import Outcome, Run


@dataclass(frozen=True)
class StudyFolders:
    """Folders of the results, one JSON file a run, and of the models that do not ship, pre-trained once."""

    results: Path
    models: Path


def conduct_study(
    study: Study, folders: StudyFolders, workers: int, console: Console, hours: float | None = None
) -> Study:
    """Make what is missing: models, the runs that choose η, the test. An estimate of the time is printed first.

    Args:
        hours: if the estimate is longer, optimizer steps are cut, for all runs alike; seeds never are.

    Returns:
        The study as it was run, perhaps with fewer steps.
    """
    build_missing_models(study, folders, console)
    study = _cut_to_hours(study, folders, workers, console, hours)
    chosen = choose_eta(_finish(study.choice_runs(), study, folders, workers, console, "choosing η"))
    _finish(study.test_runs(chosen), study, folders, workers, console, "runs")
    return study


def sweep(study: Study, folders: StudyFolders, workers: int, console: Console) -> None:
    """Make the missing runs of a sweep, in which no η is chosen."""
    build_missing_models(study, folders, console)
    _finish(study.sweep_runs(), study, folders, workers, console, "sweep")


def build_missing_models(study: Study, folders: StudyFolders, console: Console) -> None:
    """Pre-train the students and teachers that do not ship."""
    worlds = [setting.world for setting in study.settings]
    if not missing_models(worlds, folders.models):
        return
    with one_writer(folders.models), quiet(), _progress(console) as progress:
        missing = missing_models(worlds, folders.models)  # another study may have made some in the meantime
        console.print(f"{len(missing)} models to pre-train first, about a minute each, into {folders.models}")
        build_models(missing, progress)


def _cut_to_hours(study: Study, folders: StudyFolders, workers: int, console: Console, hours: float | None) -> Study:
    """The study with its steps cut to the hours given; prints how many runs are missing and how long they take.

    A study that is stopped goes on with the steps that it began with, whatever the time that is left.
    """
    if hours is not None and (share := kept_share(study, hours, folders.results)) is not None:
        console.print(f"{share / study.share:.0%} of the steps, as when this study of {hours:g} hours began")
        study, hours = replace(study, share=share), None
    tried = [finished_outcome(run, folders.results) for run in study.choice_runs()]
    known = choose_eta([outcome for outcome in tried if outcome is not None]) if None not in tried else {}
    chosen = {setting.name: study.etas[0] for setting in study.settings} | known
    expected = [*study.choice_runs(), *study.test_runs(chosen)]
    missing = [run for run in expected if finished_outcome(run, folders.results) is None]
    if not missing:
        return study
    seconds = _time_of_a_run(study, folders)
    total = sum(seconds(run) for run in missing) / workers
    console.print(
        f"{len(expected)} runs, at most {len(missing)} of them to do: about {_hours_or_minutes(total)} on {workers} "
        f"process{'es' if workers > 1 else ''}. Each run is kept as it ends; the same command goes on from there."
    )
    if hours is None:
        return study
    cut = replace(study, share=study.share * min(1.0, 3600 * hours / total))
    if cut.share < study.share:
        console.print(f"cut to {cut.share:.0%} of the steps, to fit {hours:g} hours; every seed stays")
    keep_share(study, hours, cut.share, folders.results)
    return cut


def _time_of_a_run(study: Study, folders: StudyFolders) -> Callable[[Run], float]:
    """A function that estimates the seconds of a run, from two short runs in the middle setting, which are not kept."""
    setting = study.settings[len(study.settings) // 2]
    run = study.run(setting, "target-sft", 0, "test", study.etas[0])
    few = replace(run, budget=replace(run.budget, demonstrations=320, steps=10, test=20))
    base = replace(few, method="base", hyperparameters={})
    with quiet(), TemporaryDirectory(prefix="qtarget-study-") as kept:
        seconds = {}
        for name, short in (("trained", few), ("base", base)):
            started = time.monotonic()
            study_outcome(short, setting.world, folders.models, Path(kept), _ignore_progress)
            seconds[name] = time.monotonic() - started
    a_step = max(seconds["trained"] - seconds["base"], 0.0) / 10
    a_question = seconds["base"] / 20

    def estimate(run: Run) -> float:
        questions = run.budget.test if run.split == "test" else run.budget.development
        return a_question * questions + (a_step * run.budget.steps if run.trains else 0.0)

    return estimate


def _hours_or_minutes(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{max(1, round(seconds / 60))} minutes"


def _ignore_progress(done: int, total: int) -> None:
    pass


def _finish(
    runs: Sequence[Run], study: Study, folders: StudyFolders, workers: int, console: Console, title: str
) -> list[Outcome]:
    """The outcomes of all runs; those that are missing are made."""
    worlds = {setting.name: setting.world for setting in study.settings}
    outcomes = {path_of(run, folders.results): finished_outcome(run, folders.results) for run in runs}
    with _progress(console) as progress:
        task = progress.add_task(title, total=len(runs), completed=sum(map(bool, outcomes.values())))
        missing = [run for run in runs if outcomes[path_of(run, folders.results)] is None]
        for outcome in _conduct(missing, worlds, folders, workers):
            outcomes[path_of(outcome.run, folders.results)] = outcome
            progress.update(task, advance=1)
            console.print(f"{outcome.run.setting:24}{outcome.run.name:32}{100 * outcome.mean:6.1f}", highlight=False)
    return [outcome for outcome in outcomes.values() if outcome is not None]


def _conduct(
    runs: Sequence[Run], worlds: Mapping[str, World], folders: StudyFolders, workers: int
) -> Iterator[Outcome]:
    """Make the runs and yield their outcomes as they end, from this process or from several workers."""
    if workers == 1 or not runs:
        yield from (_conduct_quietly(run, worlds[run.setting], folders) for run in runs)
        return
    with ProcessPoolExecutor(min(workers, len(runs)), get_context("spawn"), _begin_worker, (folders,)) as pool:
        futures: list[Future] = [pool.submit(_conduct_quietly, run, worlds[run.setting], folders) for run in runs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise ValueError(
                "A process of the study was killed, by the system if it was short of memory; fewer `--workers` need "
                f"less. What is finished stays in {folders.results}, and the same command goes on from there."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_worker(folders: StudyFolders) -> None:
    """End this worker when its parent is killed; it would wait forever for work. The parent's lock is its own too."""
    if (folders.results / LOCK).is_file():
        stack = ExitStack()
        stack.enter_context(held_folder(folders.results))
        atexit.register(stack.close)
    parent = parent_process()
    assert parent is not None
    Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _conduct_quietly(run: Run, world: World, folders: StudyFolders) -> Outcome:
    with quiet():
        return study_outcome(run, world, folders.models, folders.results, _ignore_progress)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description:28}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        yield progress
