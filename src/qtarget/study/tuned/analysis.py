"""From outcomes to results: scores with intervals over models, seeds and questions, and the primary contrast."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from qtarget.evaluate.confidence import SeedsDifference, holm, paired_seeds
from qtarget.study.tuned.design import TEACHER, Choice, Contrast, TunedStudy, chosen_for
from qtarget.study.tuned.outcome import StudyOutcome, known_outcome
from qtarget.study.tuned.settings import Setting
from qtarget.study.tuned.tuned_arms import COMMON, GREEDY, OURS, Decoding, StudyArm, rivals


@dataclass(frozen=True)
class ArmResult:
    """A tuned arm in the test of a setting: one outcome a seed."""

    choice: Choice
    outcomes: tuple[StudyOutcome, ...]

    def by_model(self, decoding: Decoding | None = None) -> list[list[float]]:
        """Share of right answers, [pre-trained students][questions]: trainings of one student are averaged.

        Args:
            decoding: the arm's own by default.
        """
        of_student: dict[int, list[list[float]]] = {}
        for outcome in self.outcomes:
            of_student.setdefault(outcome.run.models, []).append(outcome.shares(decoding or self.choice.decoding))
        return [np.mean(rows, axis=0).tolist() for _, rows in sorted(of_student.items())]

    def mean(self, decoding: Decoding | None = None) -> float:
        return float(np.mean(self.by_model(decoding)))

    def interval(self, decoding: Decoding | None = None) -> tuple[float, float]:
        """95 % interval of the mean, for other students, trainings and questions."""
        shares = self.by_model(decoding)
        around = paired_seeds(shares, np.zeros_like(shares))
        return max(0.0, around.low), around.high

    def effect(self, name: str) -> float:
        """Mean over seeds of a measure besides accuracy, a name of `score_tables.EFFECT_COLUMNS`."""
        return fmean(_effect(outcome, name, self.choice.decoding) for outcome in self.outcomes)


def _effect(outcome: StudyOutcome, name: str, decoding: Decoding) -> float:
    if name == "pass_at_k":
        return outcome.pass_at_k(decoding)
    drawn = outcome.answers[decoding.label]
    return outcome.effects[name] if name in outcome.effects else getattr(drawn, name)


@dataclass(frozen=True)
class SettingResult:
    """A finished setting: its arms by name, and its teachers, one outcome a pre-training."""

    setting: Setting
    arms: dict[str, ArmResult]
    teachers: tuple[StudyOutcome, ...]

    def teacher_mean(self, decoding: Decoding = COMMON) -> float:
        return fmean(fmean(outcome.shares(decoding)) for outcome in self.teachers)

    @property
    def base_greedy(self) -> float:
        """Share of questions that the untouched student's greedy answer gets right."""
        return self.arms["base"].mean(GREEDY)

    @property
    def first(self) -> str:
        """The arm with the highest mean in the test."""
        return max(self.arms, key=lambda name: self.arms[name].mean())


def finished_setting(study: TunedStudy, setting: Setting, results: Path) -> SettingResult | None:
    """The results of a setting in which tuning and test are finished; None for any other.

    Raises:
        ValueError: a file holds no outcome.
    """
    tuned = [known_outcome(run, results) for run in study.development_runs(setting)]
    if None in tuned:
        return None
    chosen = chosen_for(study, setting, [outcome for outcome in tuned if outcome is not None])
    found = {(run.place, run.name): known_outcome(run, results) for run in study.test_runs(setting, chosen)}
    outcomes = {key: outcome for key, outcome in found.items() if outcome is not None}
    if len(outcomes) < len(found):
        return None
    arms = {}
    for arm in study.arms:
        runs = [study.test_run(setting, arm, chosen[arm.name], seed) for seed in range(study.seeds)]
        arms[arm.name] = ArmResult(chosen[arm.name], tuple(outcomes[run.place, run.name] for run in runs))
    teachers = tuple(outcome for outcome in outcomes.values() if outcome.run.method == TEACHER)
    return SettingResult(setting, arms, teachers)


def finished_settings(study: TunedStudy, results: Path) -> list[SettingResult]:
    """The finished settings, in the study's order."""
    found = (finished_setting(study, setting, results) for setting in study.settings)
    return [each for each in found if each is not None]


def without_control(found: Iterable[SettingResult]) -> list[SettingResult]:
    """The settings that verdicts and means are about: all but the control."""
    return [result for result in found if not result.setting.is_control]


@dataclass(frozen=True)
class PrimaryVerdict:
    """A primary contrast in one setting: one that the study names, or Target-SFT minus the rival that scored best on
    the development questions.

    Attributes:
        holm: p adjusted for all contrasts in the study's settings without the control (Holm 1979); those that are not
            run count with 1.
        ours: the arm from which the rival is taken.
    """

    setting: Setting
    rival: str
    difference: SeedsDifference
    holm: float
    ours: str = OURS

    @property
    def word(self) -> str:
        """ "clearly ahead", "clearly behind", or "not told apart"."""
        if self.holm >= 0.05:
            return "not told apart"
        return "clearly ahead" if self.difference.mean > 0 else "clearly behind"


def primary_verdicts(study: TunedStudy, found: Sequence[SettingResult]) -> list[PrimaryVerdict]:
    """The verdicts of each finished setting but the control: one, or one for each contrast that the study names."""
    unadjusted = [each for result in without_control(found) for each in _verdicts(study, result)]
    of_each = len(study.contrasts) or 1
    missing = of_each * sum(not setting.is_control for setting in study.settings) - len(unadjusted)
    adjusted = holm([each.difference.p for each in unadjusted] + [1.0] * missing)
    return [replace(each, holm=p) for each, p in zip(unadjusted, adjusted, strict=False)]


def _verdicts(study: TunedStudy, result: SettingResult) -> Iterator[PrimaryVerdict]:
    """The verdicts of a setting, with p not adjusted yet."""
    for ours, rival in study.contrasts or (Contrast(OURS, best_rival(study.arms, result)),):
        difference = ahead_of(result, rival, ours=ours)
        yield PrimaryVerdict(result.setting, rival, difference, difference.p, ours)


def best_rival(arms: Iterable[StudyArm], result: SettingResult) -> str:
    """Of some arms the rival that scored best on the development questions; of equals the first."""
    return max(rivals(arms), key=lambda name: result.arms[name].choice.score)


def ahead_of(result: SettingResult, rival: str, decoding: Decoding | None = None, ours: str = OURS) -> SeedsDifference:
    """Target-SFT, or another arm, minus a rival in the test, each at its own decoding or both at one."""
    return paired_seeds(result.arms[ours].by_model(decoding), result.arms[rival].by_model(decoding))


def regrets(
    found: Sequence[SettingResult], arms: Sequence[StudyArm], decoding: Decoding = COMMON
) -> dict[str, list[float]]:
    """How far each arm is behind the best one of each setting: the highest mean there minus the arm's own.

    Returns:
        by arm, a number for each setting, in shares.
    """
    means = [{arm.name: result.arms[arm.name].mean(decoding) for arm in arms} for result in found]
    return {arm.name: [max(each.values()) - each[arm.name] for each in means] for arm in arms}


@dataclass(frozen=True)
class Curve:
    """A method's scores on the development questions by learning rate, at one number of steps.

    The sweep, see `design.SWEPT_KNOBS`, gives two of them for each method.
    """

    method: str
    steps: int
    by_rate: dict[float, float]

    @property
    def spread(self) -> float:
        """Best minus worst rate."""
        return max(self.by_rate.values()) - min(self.by_rate.values())


def curves(study: TunedStudy, setting: Setting, results: Path) -> list[Curve]:
    """The sweep in a setting; empty while an outcome is missing."""
    outcomes = [known_outcome(run, results) for run in study.sweep_runs(setting)]
    if None in outcomes:
        return []
    found: dict[tuple[str, int], dict[float, float]] = {}
    for outcome in outcomes:
        assert outcome is not None
        run = outcome.run
        found.setdefault((run.method, run.steps), {})[run.rate] = fmean(outcome.shares(COMMON))
    return [Curve(method, steps, by_rate) for (method, steps), by_rate in found.items()]
