"""The numbers of a comparison: arms against a baseline on the same questions, by task and by suite, with warnings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from qtarget.evaluate.compare.arms import SEEDS_ENOUGH, Arm, check_comparable, pooled, tasks_of
from qtarget.evaluate.confidence import (
    BaselineDifference,
    Comparison,
    Estimate,
    Interval,
    SeedsDifference,
    average_at_k,
    baseline_differences,
    holm,
    intervals,
    paired_suite,
    seeds_paired,
    variance_split,
)
from qtarget.evaluate.effects import effects_of
from qtarget.evaluate.nouns import Answers
from qtarget.evaluate.run.results import TRUNCATED, warnings_of

ONE_SEED = "one training seed each: the intervals are of evaluation noise only; another training would move them"


@dataclass(frozen=True)
class SideEffects:
    """What a target did besides accuracy, means over the training seeds.

    Attributes:
        spread: pass@k less Average@k.
        forgetting, ece: where `qtarget eval` measured them (`--base`, `--reference-rows`).
    """

    truncated: float
    mean_tokens: float
    distinct_answers: float
    spread: float
    ece: float | None
    forgetting: float | None


@dataclass(frozen=True)
class ArmScore:
    """An arm on a task.

    Attributes:
        average: over the samples of all seeds, so its k is theirs together; the interval is by question.
        credible: the Beta-binomial interval, where scores at 0 or 1, or few questions near them, ask for it.
        more_samples: how much narrower either side of the interval could become by more samples; None for one sample.
        against: difference to the baseline; None for the baseline.
        p_holm: `against`'s p, adjusted for the number of arms of this comparison.
    """

    arm: str
    n_seeds: int
    average: Estimate
    effects: SideEffects
    credible: Interval | None
    more_samples: float | None
    against: Comparison | None = None
    p_holm: float | None = None

    @property
    def is_clear(self) -> bool:
        return self.p_holm is not None and self.p_holm < 0.05


@dataclass(frozen=True)
class TaskTable:
    """A task: the baseline first, then the arms in the order given.

    Attributes:
        max_new_tokens: the limit of an answer, in tokens: one, or every arm's own where they differ.
    """

    task: str
    suite: str
    k: int
    n_questions: int
    n_units: int
    max_new_tokens: tuple[int, ...]
    scores: tuple[ArmScore, ...]


@dataclass(frozen=True)
class SuiteScore:
    """An arm's mean over the tasks of a suite, each counting alike."""

    arm: str
    mean: float
    against: SeedsDifference | None = None
    p_holm: float | None = None

    @property
    def is_clear(self) -> bool:
        return self.p_holm is not None and self.p_holm < 0.05


@dataclass(frozen=True)
class SuiteTable:
    """A suite of two tasks or more."""

    suite: str
    tasks: tuple[str, ...]
    scores: tuple[SuiteScore, ...]


@dataclass(frozen=True)
class ComparisonTables:
    """The whole comparison. `dataclasses.asdict` of it is plain JSON.

    Attributes:
        evaluation_noise_only: no arm has more than one training seed.
        warnings: what a reader should know before believing the numbers.
    """

    baseline: str
    tasks: tuple[TaskTable, ...]
    suites: tuple[SuiteTable, ...]
    evaluation_noise_only: bool
    warnings: tuple[str, ...]


def compare_arms(arms: Sequence[Arm], any_budget: bool = False) -> ComparisonTables:
    """Compare every arm with the first.

    Args:
        any_budget: answers may have had different limits of tokens.

    Raises:
        ValueError: arms that cannot be compared; the first difference is named.
    """
    tasks, left_out = tasks_of(arms)
    check_comparable(arms, tasks, any_budget)
    tables = tuple(_task_table(arms, task) for task in tasks)
    alone = all(len(arm.seeds) == 1 for arm in arms)
    warnings = [f"{task} was not answered by every arm and is left out" for task in left_out]
    warnings += [*_seed_warnings(arms, alone), *(line for table in tables for line in _task_warnings(arms, table))]
    return ComparisonTables(arms[0].name, tables, _suite_tables(arms, tables), alone, tuple(dict.fromkeys(warnings)))


def _task_table(arms: Sequence[Arm], task: str) -> TaskTable:
    first = arms[0].seeds[0][task]
    units, n_questions = first.units, len(first.questions)
    against = baseline_differences(arms[0].shares(task), [arm.shares(task) for arm in arms[1:]], units=units)
    scores = [_score(arm, task, units, found) for arm, found in zip(arms, [None, *against], strict=True)]
    budgets = tuple(answers.ask.max_new_tokens for arm in arms for answers in arm.answers(task)[:1])
    return TaskTable(
        task=task,
        suite=first.task.suite,
        k=first.ask.k,
        n_questions=n_questions,
        n_units=len(set(units or [])) or n_questions,
        max_new_tokens=budgets[:1] if len(set(budgets)) == 1 else budgets,
        scores=tuple(scores),
    )


def _score(arm: Arm, task: str, units: list[str] | None, against: BaselineDifference | None) -> ArmScore:
    answers = arm.answers(task)
    grades, k = pooled([seed.grades for seed in answers]), answers[0].ask.k * len(answers)
    split = variance_split(grades, k)
    return ArmScore(
        arm=arm.name,
        n_seeds=len(answers),
        average=average_at_k(grades, k, units=units),
        effects=_effects(arm, answers),
        credible=intervals(grades, k, units=units).beta_binomial,
        more_samples=None if split is None else split.more_samples,
        against=None if against is None else against.comparison,
        p_holm=None if against is None else against.p_holm,
    )


def _effects(arm: Arm, answers: Sequence[Answers]) -> SideEffects:
    effects = [effects_of(seed) for seed in answers]
    return SideEffects(
        truncated=fmean(seed.truncated for seed in effects),
        mean_tokens=fmean(seed.mean_tokens for seed in effects),
        distinct_answers=fmean(seed.distinct_answers for seed in effects),
        spread=fmean(seed.spread for seed in effects),
        ece=_mean_effect(arm.effects, "calibration", "ece"),
        forgetting=_mean_effect(arm.effects, "forgetting", "kl"),
    )


def _mean_effect(effects: Sequence[Mapping[str, Any]], part: str, name: str) -> float | None:
    """Mean over the seeds that have it of a number of `effects.json`; None where none has."""
    values = [seed[part][name] for seed in effects if seed.get(part)]
    return fmean(values) if values else None


def _suite_tables(arms: Sequence[Arm], tables: Sequence[TaskTable]) -> tuple[SuiteTable, ...]:
    suites = dict.fromkeys(table.suite for table in tables)
    members = {suite: [table.task for table in tables if table.suite == suite] for suite in suites}
    return tuple(_suite_table(arms, suite, tasks) for suite, tasks in members.items() if len(tasks) > 1)


def _suite_table(arms: Sequence[Arm], suite: str, tasks: Sequence[str]) -> SuiteTable:
    units = [arms[0].seeds[0][task].units for task in tasks]
    against = []
    for arm in arms[1:]:
        pairs = [seeds_paired(arm.shares(task), arms[0].shares(task)) for task in tasks]
        against.append(paired_suite([a for a, _ in pairs], [b for _, b in pairs], units))
    adjusted = holm([difference.p for difference in against])
    means = [fmean(float(np.mean(arm.shares(task))) for task in tasks) for arm in arms]
    scores = [SuiteScore(arms[0].name, means[0])]
    scores += [
        SuiteScore(arm.name, mean, difference, p)
        for arm, mean, difference, p in zip(arms[1:], means[1:], against, adjusted, strict=True)
    ]
    return SuiteTable(suite, tuple(tasks), tuple(scores))


def _seed_warnings(arms: Sequence[Arm], alone: bool) -> list[str]:
    if alone:
        return [ONE_SEED]
    single = [arm.name for arm in arms if len(arm.seeds) == 1]
    few = [arm.name for arm in arms if 1 < len(arm.seeds) < SEEDS_ENOUGH]
    warnings = []
    if single:
        warnings.append(f"{', '.join(single)}: one folder beside several seeds, right for a model that was not trained")
    if few:
        warnings.append(
            f"{', '.join(few)}: two training seeds say little of their own spread, so the intervals are wide"
        )
    return warnings


def _task_warnings(arms: Sequence[Arm], table: TaskTable) -> list[str]:
    warnings = [
        f"{table.task}, {arm.name}: {text}"
        for arm in arms
        for answers in arm.answers(table.task)
        for text in warnings_of(answers)
    ]
    cut = {score.arm: score.effects.truncated for score in table.scores}
    low, high = min(cut, key=cut.__getitem__), max(cut, key=cut.__getitem__)
    if cut[high] - cut[low] > TRUNCATED:
        warnings.append(
            f"{table.task}: {cut[high]:.0%} of {high}'s completions were cut off and {cut[low]:.0%} of {low}'s; the "
            "difference may be of length, not of answers"
        )
    if len(table.max_new_tokens) > 1:
        limits = ", ".join(f"{arm.name} {limit:,}" for arm, limit in zip(arms, table.max_new_tokens, strict=True))
        warnings.append(f"{table.task}: the arms had different limits of tokens ({limits}), and so different chances")
    return warnings + _engine_warnings(arms, table.task)


def _engine_warnings(arms: Sequence[Arm], task: str) -> list[str]:
    first = arms[0].seeds[0][task].generation
    return [
        f"{task}: {arms[0].name} was drawn with {name} {first.get(name)!r}, "
        f"{arm.name} with {answers.generation[name]!r}"
        for arm in arms[1:]
        for answers in arm.answers(task)
        for name in answers.generation
        if answers.generation[name] != first.get(name)
    ]
