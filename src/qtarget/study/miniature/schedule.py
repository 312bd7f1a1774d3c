"""Conducting the study: what is still to run, how long that will take, and running it, on one core or several."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from qtarget.lab import World
from qtarget.study.miniature.model_folders import build_models, missing_models
from qtarget.study.miniature.runs import UNTOUCHED, Budget, Outcome, Run, Split, found, path_of, score
from qtarget.study.miniature.settings import Setting
from qtarget.study.quiet import quiet

ETAS = (0.1, 0.2, 0.5, 0.8)
DEVELOPMENT_SEED = 1000
"""Of the one training that each η is tried with; the test's trainings have seeds 0, 1, …"""
ARM_NAMES = ("base", "sft", "dft", "kd", "target-sft", "teacher")


@dataclass(frozen=True)
class Study:
    """What is asked: which settings, with which trainings.

    Attributes:
        share: of the optimizer steps that each world asks for.
        development, test, samples: questions of each split, and answers to each.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    etas: tuple[float, ...] = ETAS
    share: float = 1.0
    development: int = 100
    test: int = 200
    samples: int = 16

    def budget(self, setting: Setting) -> Budget:
        world = setting.world
        return Budget(
            demonstrations=world.demonstrations,
            steps=max(20, round(world.fine_tuning_steps * self.share)),
            batch_size=world.batch_size,
            learning_rate=world.learning_rate,
            development=self.development,
            test=self.test,
            samples=self.samples,
            max_new_tokens=world.max_new_tokens,
        )

    def run(self, setting: Setting, method: str, seed: int, split: Split = "test", eta: float | None = None) -> Run:
        values = {} if eta is None else {"eta": eta}
        return Run(setting.name, method, values, seed, split, self.budget(setting))

    def tries(self) -> list[Run]:
        """Target-SFT with each η, on questions and a training that the test does not see."""
        return [
            self.run(setting, "target-sft", DEVELOPMENT_SEED, "development", eta)
            for setting in self.settings
            for eta in self.etas
        ]

    def trials(self, chosen: Mapping[str, float]) -> list[Run]:
        """Every method with every seed; seed by seed, so that an unfinished study has all settings."""
        return [
            self.run(setting, method, seed, "test", chosen[setting.name] if method == "target-sft" else None)
            for seed in self.seeds
            for setting in self.settings
            for method in ARM_NAMES
        ]

    def grid(self) -> list[Run]:
        """Every training, with every η of Target-SFT, on the test's questions: nothing is chosen."""
        arms = [(method, None) for method in ARM_NAMES if method not in (*UNTOUCHED, "target-sft")]
        arms += [("target-sft", eta) for eta in self.etas]
        return [
            self.run(setting, method, seed, "test", eta)
            for seed in self.seeds
            for setting in self.settings
            for method, eta in arms
        ]


def choose(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The η with the best mean on the development questions, by setting; of equals, the smallest."""
    chosen: dict[str, tuple[float, float]] = {}
    for outcome in outcomes:
        mark = (outcome.mean, -outcome.run.hyperparameters["eta"])
        chosen[outcome.run.setting] = max(mark, chosen.get(outcome.run.setting, mark))
    return {setting: -eta for setting, (_, eta) in chosen.items()}


@dataclass(frozen=True)
class StudyFolders:
    """Where things are kept: results, one JSON a run; models, pre-trained once."""

    results: Path
    models: Path


def conduct_study(
    study: Study, place: StudyFolders, workers: int, console: Console, hours: float | None = None
) -> Study:
    """Run what is not there yet: models, then development, then the test. The estimate is printed first.

    Args:
        hours: where the estimate is above it, optimizer steps are cut for all runs alike; seeds never are.

    Returns:
        The study as it was run.
    """
    build_missing_models(study, place, console)
    study = _within(study, place, workers, console, hours)
    chosen = choose(_all(study.tries(), study, place, workers, console, "choosing η"))
    _all(study.trials(chosen), study, place, workers, console, "runs")
    return study


def sweep(study: Study, place: StudyFolders, workers: int, console: Console) -> None:
    """Run the grid of a study whose η is not chosen."""
    build_missing_models(study, place, console)
    _all(study.grid(), study, place, workers, console, "sweep")


def build_missing_models(study: Study, place: StudyFolders, console: Console) -> None:
    """Pre-train the students and teachers that do not ship."""
    missing = missing_models([setting.world for setting in study.settings], place.models)
    if missing:
        console.print(f"{len(missing)} models to pre-train first, about a minute each, into {place.models}")
        with quiet(), _progress(console) as progress:
            build_models(missing, progress)


def _within(study: Study, place: StudyFolders, workers: int, console: Console, hours: float | None) -> Study:
    """The study, cut to the hours given; says what there is to do and how long it will take."""
    tried = [found(run, place.results) for run in study.tries()]
    known = choose([one for one in tried if one is not None]) if None not in tried else {}
    expected = [*study.tries(), *study.trials({setting.name: study.etas[0] for setting in study.settings} | known)]
    missing = [run for run in expected if found(run, place.results) is None]
    if not missing:
        return study
    seconds = _probe(study, place)
    total = sum(seconds(run) for run in missing) / workers
    console.print(
        f"{len(expected)} runs, at most {len(missing)} of them to do: about {_spoken(total)} on {workers} "
        f"process{'es' if workers > 1 else ''}. Each run is kept as it ends; the same command goes on from there."
    )
    if hours is None or total <= 3600 * hours:
        return study
    cut = replace(study, share=study.share * 3600 * hours / total)
    console.print(f"cut to {cut.share:.0%} of the steps, to fit {hours:g} hours; every seed stays")
    return cut


def _probe(study: Study, place: StudyFolders) -> Callable[[Run], float]:
    """Seconds that a run will take, from a short one of the middle setting that is not kept."""
    setting = study.settings[len(study.settings) // 2]
    run = study.run(setting, "target-sft", 0, "test", study.etas[0])
    few = replace(run, budget=replace(run.budget, demonstrations=320, steps=10, test=20))
    base = replace(few, method="base", hyperparameters={})
    nowhere = place.models / "probe"
    with quiet():
        seconds = {}
        for name, one in (("trained", few), ("base", base)):
            started = time.monotonic()
            score(one, setting.world, place.models, nowhere, _unheard)
            (nowhere / one.setting / f"{one.name}.json").unlink()
            seconds[name] = time.monotonic() - started
    a_step = max(seconds["trained"] - seconds["base"], 0.0) / 10
    a_question = seconds["base"] / 20

    def of(run: Run) -> float:
        asked = run.budget.test if run.split == "test" else run.budget.development
        return a_question * asked + (a_step * run.budget.steps if run.trains else 0.0)

    return of


def _spoken(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{max(1, round(seconds / 60))} minutes"


def _unheard(done: int, total: int) -> None:
    pass


def _all(
    runs: Sequence[Run], study: Study, place: StudyFolders, workers: int, console: Console, title: str
) -> list[Outcome]:
    """Outcomes of all runs, made where they are not there yet."""
    worlds = {setting.name: setting.world for setting in study.settings}
    kept = {path_of(run, place.results): found(run, place.results) for run in runs}
    with _progress(console) as progress:
        task = progress.add_task(title, total=len(runs), completed=sum(one is not None for one in kept.values()))
        missing = [run for run in runs if kept[path_of(run, place.results)] is None]
        for outcome in _made(missing, worlds, place, workers):
            kept[path_of(outcome.run, place.results)] = outcome
            progress.update(task, advance=1)
            console.print(f"{outcome.run.setting:24}{outcome.run.name:32}{100 * outcome.mean:6.1f}", highlight=False)
    return [outcome for outcome in kept.values() if outcome is not None]


def _made(runs: Sequence[Run], worlds: Mapping[str, World], place: StudyFolders, workers: int) -> Iterator[Outcome]:
    """Outcomes as they come: from this process, or from several of their own."""
    if workers == 1 or not runs:
        yield from (_score_quietly(run, worlds[run.setting], place) for run in runs)
        return
    with ProcessPoolExecutor(min(workers, len(runs)), get_context("spawn")) as pool:
        futures: list[Future] = [pool.submit(_score_quietly, run, worlds[run.setting], place) for run in runs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _score_quietly(run: Run, world: World, place: StudyFolders) -> Outcome:
    with quiet():
        return score(run, world, place.models, place.results, _unheard)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        yield progress
