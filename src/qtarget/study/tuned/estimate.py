"""How long the study takes, in seconds of one processor, from a few short runs that are not kept."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from qtarget import lab
from qtarget.study.quiet import quiet
from qtarget.study.tuned.design import DEVELOPMENT_SEED, Choice, TunedStudy
from qtarget.study.tuned.outcome import StudyRun, known_outcome, path_of
from qtarget.study.tuned.pretrained import Pretraining
from qtarget.study.tuned.runs import made_outcome, models_for, run_effects
from qtarget.study.tuned.settings import Setting
from qtarget.study.tuned.tuned_arms import COMMON, GREEDY, WHOLE_SOFTMAX

FEW_STEPS, MORE_STEPS = 5, 25
"""Optimizer steps of the short runs."""
CORES, HOURS = 2, 3.0
"""What the study may take."""
MOST_SEEDS, FEWEST_SEEDS = 5, 3


@dataclass(frozen=True)
class Costs:
    """Seconds of one processor.

    Attributes:
        run: what every run takes besides its steps, scoring of the development questions included.
        step: an optimizer step; teacher: what a live teacher adds to it.
        tested: what a run takes in the test besides its steps.
        pretraining_step: of a student and of a teacher, by role.
    """

    run: float
    step: float
    teacher: float
    tested: float
    pretraining_step: dict[str, float]

    def of_run(self, run: StudyRun, needs_teacher: bool) -> float:
        step = self.step + (self.teacher if needs_teacher else 0.0)
        sampled = 2 * self.run if "rounds" in run.knobs else 0.0  # of 300 prompts, 8 samples; a run has 1,600 answers
        return run.steps * step + sampled + (self.run if run.split == "development" else self.tested)

    def of_pretraining(self, model: Pretraining) -> float:
        return self.pretraining_step[model.role] * model.model.pretraining_steps


def measured_costs(study: TunedStudy, setting: Setting) -> Costs:
    """Costs in one setting, whose student and teacher ship. No test question is asked: the development questions stand
    for them.
    """
    with quiet(), TemporaryDirectory(prefix="qtarget-study-") as folder:
        models = Path(folder)
        few, more, taught = (
            _seconds(lambda run=run: made_outcome(run, setting, study, models))
            for run in (_short("sft", FEW_STEPS), _short("sft", MORE_STEPS), _short("kd", MORE_STEPS))
        )
        tested = _seconds(lambda: _test_of_base(study, setting, models))
        pretraining = {each.role: _seconds(lambda each=each: _begun(each, models)) / (2 * FEW_STEPS)
                       for each in models_for(setting, 0)}  # fmt: skip
    step = (more - few) / (MORE_STEPS - FEW_STEPS)
    fixed = few - FEW_STEPS * step
    return Costs(fixed, step, max(0.0, (taught - more) / MORE_STEPS), fixed + tested * study.test / study.development,
                 pretraining)  # fmt: skip


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _short(method: str, steps: int) -> StudyRun:
    return StudyRun("estimate", method, {}, 1.0, steps, DEVELOPMENT_SEED, "development", 0, (COMMON,))


def _test_of_base(study: TunedStudy, setting: Setting, models: Path) -> None:
    """What the test does with a model, on development questions."""
    decodings = (COMMON, GREEDY, WHOLE_SOFTMAX)
    base = StudyRun("estimate", "base", {}, 0.0, 0, DEVELOPMENT_SEED, "development", 0, decodings)
    made_outcome(base, setting, study, models)
    student = lab.load(models_for(setting, 0)[0].path(models))
    run_effects(student, student, setting, study.questions(setting.world)[0])


def _begun(model: Pretraining, folder: Path) -> None:
    model._replace(model=replace(model.model, school_steps=FEW_STEPS, steps=FEW_STEPS)).make(folder)


def seconds_left(study: TunedStudy, costs: Costs, models: Path, results: Path) -> float:
    """Seconds of one processor that are still needed. An arm that is not tuned yet counts with its longest steps."""
    runs: dict[Path, float] = {}
    for setting in study.settings:
        for run in (*study.development_runs(setting), *study.test_runs(setting, _longest(study))):
            cost = costs.of_run(run, run.place == setting.name or "teacher" in run.knobs)
            runs[path_of(run, results)] = 0.0 if known_outcome(run, results) else cost
    for setting in study.sweep:
        for run in study.sweep_runs(setting):
            cost = costs.of_run(run, run.place == setting.name)
            runs.setdefault(path_of(run, results), 0.0 if known_outcome(run, results) else cost)
    missing = {each.path(models): each for each in needed_models(study, study.settings) if each.is_missing(models)}
    return sum(runs.values()) + sum(costs.of_pretraining(each) for each in missing.values())


def _longest(study: TunedStudy) -> dict[str, Choice]:
    return {
        arm.name: Choice(max(arm.configurations, key=lambda each: each.steps, default=None), COMMON, 0.0)
        for arm in study.arms
    }


def needed_models(study: TunedStudy, settings: Iterable[Setting]) -> list[Pretraining]:
    """Students and teachers of some settings, from every seed of pre-training."""
    pairs = [(s, models_for(s, seed)) for s in settings for seed in range(study.pretraining_seeds)]
    return [each for s, (student, teacher) in pairs for each in ((student, teacher) if s.teacher else (student,))]


def with_seeds_that_fit(study: TunedStudy, costs: Costs, models: Path, results: Path) -> TunedStudy:
    """The study with as many trainings, each with a student and a teacher of its own, as fit; three at least."""
    for seeds in range(MOST_SEEDS, FEWEST_SEEDS - 1, -1):
        study = replace(study, seeds=seeds, pretraining_seeds=seeds)
        if seconds_left(study, costs, models, results) <= 3600 * HOURS * CORES:
            break
    return study
