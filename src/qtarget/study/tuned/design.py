"""Which runs the study consists of, and how a configuration is chosen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

from qtarget import lab
from qtarget.lab import LabQuestion, World
from qtarget.study.tuned.outcome import StudyOutcome, StudyRun
from qtarget.study.tuned.settings import Setting
from qtarget.study.tuned.tuned_arms import (
    COMMON,
    DECODINGS,
    GREEDY,
    WHOLE_SOFTMAX,
    Configuration,
    Decoding,
    StudyArm,
    grid,
    study_arms,
)

DEVELOPMENT_SEED = 1000
"""Seed of the trainings on which configurations are chosen; those of the test have seeds 0, 1, …"""
QUESTIONS_SEED = 2
TEACHER = "teacher"
SWEPT_KNOBS: dict[str, dict[str, float]] = {
    "sft": {},
    "dft": {},
    "kd": {},
    "kd-hybrid": {"teacher_weight": 0.5},
    "target-sft": {"eta": 0.5},
}
"""Methods of the sweep over rates and steps, with the knob in the middle."""


class Contrast(NamedTuple):
    """One arm minus another, by their names."""

    ours: str
    other: str


@dataclass(frozen=True)
class TunedStudy:
    """What is compared, and with how much of everything.

    Attributes:
        seeds: trainings of each arm in the test.
        pretraining_seeds: pre-trainings of each student and each teacher. Training r learns from and with those of
            seed r modulo this number.
        sweep: settings in which every rate and number of steps is tried by every method of `SWEPT_KNOBS`.
        development, test: questions of each split; samples: answers to each.
        contrasts: what the primary outcome compares in every setting; by default Target-SFT and its best rival.
        stated: further paragraphs of the protocol, by heading.
    """

    settings: tuple[Setting, ...]
    sweep: tuple[Setting, ...] = ()
    arms: tuple[StudyArm, ...] = field(default_factory=study_arms)
    seeds: int = 3
    pretraining_seeds: int = 3
    demonstrations: int = 300
    development: int = 100
    test: int = 200
    samples: int = 16
    contrasts: tuple[Contrast, ...] = ()
    stated: Mapping[str, str] = field(default_factory=dict)

    def models_of(self, seed: int) -> int:
        """The seed of the pre-training of a training's student and teacher."""
        return 0 if seed == DEVELOPMENT_SEED else seed % self.pretraining_seeds

    def development_runs(self, setting: Setting) -> list[StudyRun]:
        """Every configuration of every arm once; arms with the same configuration share its run."""
        runs = [
            self._run(setting, arm, configuration, DEVELOPMENT_SEED, DECODINGS if arm.tunes_decoding else (COMMON,))
            for arm in self.arms
            for configuration in (arm.configurations or (None,))
        ]
        return _merged(runs)

    def test_runs(self, setting: Setting, chosen: Mapping[str, "Choice"]) -> list[StudyRun]:
        """Every arm's chosen configuration with every seed, and the teachers.

        Args:
            chosen: by the arm's name.
        """
        fixed = (COMMON, GREEDY, WHOLE_SOFTMAX)
        runs = [
            self.test_run(setting, arm, chosen[arm.name], seed, fixed)
            for seed in range(self.seeds)
            for arm in self.arms
        ]
        teachers = [
            StudyRun(f"{TEACHER}-{setting.teacher}", TEACHER, {}, 0.0, 0, seed, "test", self.models_of(seed), fixed)
            for seed in range(self.pretraining_seeds)
            if setting.teacher
        ]
        return _merged([*runs, *teachers])

    def test_run(
        self, setting: Setting, arm: StudyArm, choice: "Choice", seed: int, fixed: tuple[Decoding, ...] = ()
    ) -> StudyRun:
        """The run of an arm in the test; arms that differ in their decoding have runs of the same name."""
        decodings = tuple(dict.fromkeys((*fixed, choice.decoding)))
        return self._run(setting, arm, choice.configuration, seed, decodings, "test")

    def sweep_runs(self, setting: Setting) -> list[StudyRun]:
        """Every rate and number of steps with a fixed knob, on the development questions."""
        steps = sorted({each.steps for arm in self.arms for each in arm.configurations})
        arms = [StudyArm(name, name, grid(knobs, steps[0], steps[-1])) for name, knobs in SWEPT_KNOBS.items()]
        tuned = {run.name: run for run in self.development_runs(setting)}
        runs = [
            self._run(setting, arm, configuration, DEVELOPMENT_SEED, (COMMON,))
            for arm in arms
            for configuration in arm.configurations
        ]
        return [tuned.get(run.name, run) for run in runs]

    def questions(self, world: World) -> tuple[Sequence[LabQuestion], Sequence[LabQuestion]]:
        """The development questions and those of the test.

        Raises:
            ValueError: the two share a question.
        """
        both = lab.questions(world, self.development + self.test, seed=QUESTIONS_SEED)
        splits = both[: self.development], both[self.development :]
        check_disjoint(*splits)
        return splits

    def _run(
        self, setting: Setting, arm: StudyArm, configuration: Configuration | None, seed: int,
        decodings: Iterable[Decoding], split: str = "development",
    ) -> StudyRun:  # fmt: skip
        place, models = setting.name if arm.needs_teacher else setting.rows, self.models_of(seed)
        if configuration is None:
            return StudyRun(place, "base", {}, 0.0, 0, seed, split, models, tuple(decodings))
        knobs, rate, steps = dict(configuration.knobs), configuration.rate, configuration.steps
        return StudyRun(place, str(arm.method), knobs, rate, steps, seed, split, models, tuple(decodings))


def check_disjoint(development: Sequence[LabQuestion], test: Sequence[LabQuestion]) -> None:
    """Refuse development questions that are among the test's.

    Raises:
        ValueError: names one of them.
    """
    asked = {question["prompt"] for question in test}
    if shared := [question["prompt"] for question in development if question["prompt"] in asked]:
        raise ValueError(
            f"{len(shared)} development questions are among the test questions, such as {shared[0]!r}: what is chosen "
            "on them would be chosen on the test. Draw both in one call of `lab.questions`, and cut them apart."
        )


def _merged(runs: Iterable[StudyRun]) -> list[StudyRun]:
    """Each training once, with the decodings of all the runs that share it."""
    by_name: dict[tuple[str, str], StudyRun] = {}
    for run in runs:
        key = (run.place, run.name)
        known = by_name.get(key)
        decodings = run.decodings if known is None else tuple(dict.fromkeys((*known.decodings, *run.decodings)))
        by_name[key] = run.with_decodings(decodings)
    return list(by_name.values())


class Choice(NamedTuple):
    """What was chosen for an arm on the development questions, and how it scored there, in [0, 1]."""

    configuration: Configuration | None
    decoding: Decoding
    score: float


def chosen_for(study: TunedStudy, setting: Setting, outcomes: Iterable[StudyOutcome]) -> dict[str, Choice]:
    """The best configuration of each arm by its name; of equals the first. All development outcomes must be there."""
    by_run = {(outcome.run.place, outcome.run.name): outcome for outcome in outcomes}
    return {arm.name: _choice(study, setting, arm, by_run) for arm in study.arms}


def _choice(
    study: TunedStudy, setting: Setting, arm: StudyArm, by_run: Mapping[tuple[str, str], StudyOutcome]
) -> Choice:
    def outcome_of(configuration: Configuration | None) -> StudyOutcome:
        run = study._run(setting, arm, configuration, DEVELOPMENT_SEED, ())
        return by_run[run.place, run.name]

    def score(configuration: Configuration | None, decoding: Decoding) -> float:
        return fmean(outcome_of(configuration).shares(decoding))

    best = max(arm.configurations or (None,), key=lambda each: score(each, COMMON))
    decoding = max(DECODINGS if arm.tunes_decoding else (COMMON,), key=lambda each: score(best, each))
    return Choice(best, decoding, score(best, decoding))
