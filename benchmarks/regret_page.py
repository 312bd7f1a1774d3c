"""What the searches came to beside the study, and the tables of docs/search.md about it, from what was kept.

python benchmarks/regret_page.py
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
from regret_design import (
    QUARTER,
    STEPS,
    STUDY,
    RacedArm,
    Spent,
    asked_in_a_run,
    chosen_settings,
    full_budget,
    most_spent,
    plain_arms,
    raced_arm,
    raced_arms,
)
from search_regret import RESULTS, STUDY_RESULTS, RegretFolders, eta_arm

from qtarget.disk.files import read_json_object
from qtarget.disk.pages import markdown, rewrite_page
from qtarget.evaluate.confidence import SeedsDifference, holm, paired_seeds
from qtarget.evaluate.confidence.error_parts import ErrorPart, half_width, two_sided_p
from qtarget.study.tuned.analysis import ArmResult, SettingResult, finished_setting
from qtarget.study.tuned.design import Choice
from qtarget.study.tuned.outcome import known_outcome
from qtarget.study.tuned.score_tables import configuration_words
from qtarget.study.tuned.settings import TWELVE, Setting
from qtarget.study.tuned.tuned_arms import COMMON

PAGE = Path(__file__).parents[1] / "docs" / "search.md"
SEARCH, WHOLE_TUNING, ETA_ALWAYS, SFT_ALWAYS, RANDOM = WAYS = (
    "`qtarget search`, a quarter of the tuning", "the whole tuning", "always target-sft η=0.5", "always sft",
    "random arm",
)  # fmt: skip
NOT_YET = "Not run yet: `make search-regret`."
Table = list[list[float]]
"""Shares of right answers in the test, [pre-trained students][questions]."""


@dataclass(frozen=True)
class FoundSetting:
    """A setting with its search, and the tests of what each way of choosing chooses.

    Attributes:
        search: what was kept of it.
        study: the study's results.
        chosen: the arm in best.yaml.
        by_search, by_eta: tests of two configurations.
    """

    setting: Setting
    search: dict[str, Any]
    study: SettingResult
    chosen: RacedArm
    by_search: ArmResult
    by_eta: ArmResult

    @cached_property
    def arms(self) -> dict[str, ArmResult]:
        """The study's arms that a search can choose."""
        return {arm.name: self.study.arms[arm.name] for arm in plain_arms()}

    @cached_property
    def best(self) -> str:
        """The arm of the highest mean in the test."""
        return max(self.arms, key=lambda name: self.arms[name].mean(COMMON))

    @cached_property
    def tuned_best(self) -> str:
        """The arm that scored best in the study's tuning; of equals the first."""
        return max(self.arms, key=lambda name: self.arms[name].choice.score)

    def table(self, way: str) -> Table:
        """The test of what a way chooses; of the random arm, the mean of all."""
        if way == RANDOM:
            return np.mean([arm.by_model(COMMON) for arm in self.arms.values()], axis=0).tolist()
        of = {SEARCH: self.by_search, ETA_ALWAYS: self.by_eta, SFT_ALWAYS: self.arms["sft"]}
        return of.get(way, self.arms[self.tuned_best]).by_model(COMMON)

    def regret(self, way: str) -> SeedsDifference:
        """The best arm's test minus that of what a way chooses."""
        return paired_seeds(self.arms[self.best].by_model(COMMON), self.table(way))

    @property
    def fate_of_best(self) -> str:
        """What became, in the race, of the configuration with which the best arm is best."""
        best = next(arm for arm in plain_arms() if arm.name == self.best)
        configuration = self.arms[self.best].choice.configuration
        raced = [each for each in raced_arms() if (each.arm, each.configuration) == (best, configuration)]
        if not raced:
            return "not raced: of 150 steps"
        (rungs,) = [each["rungs"] for each in self.search["outcome"]["arms"] if each["keys"] == raced[0].keys]
        if rungs and rungs[-1]["dropped"]:
            return f"dropped after {STEPS * 2 ** (len(rungs) - 1)} steps"
        return "chosen" if self.chosen == raced[0] else "stayed, not chosen"

    @property
    def spent(self) -> Spent:
        return Spent(self.search["steps"], self.search["answers"])


def found_settings(results: Path = RESULTS) -> list[FoundSetting]:
    """The settings that are finished, in the study's order: the six, or all twelve."""
    found = {setting: found_setting(setting, results) for setting in TWELVE}
    six = [found[setting] for setting in chosen_settings()]
    asked = list(found.values()) if None not in found.values() else six
    return [each for each in asked if each is not None]


def found_setting(setting: Setting, results: Path = RESULTS) -> FoundSetting | None:
    """A setting's results; None where some are missing.

    Raises:
        ValueError: a file that was kept is damaged.
    """
    folders = RegretFolders(results, results, results)
    if not folders.search(setting).is_file():
        return None
    search = read_json_object(folders.search(setting), "take it from version control")
    (keys,) = [each["keys"] for each in search["outcome"]["arms"] if each["name"] == search["outcome"]["best"]]
    chosen = raced_arm(keys)
    tests = [_tested(setting, arm, folders.tests) for arm in (chosen, eta_arm())]
    study = finished_setting(STUDY, setting, STUDY_RESULTS)
    if study is None or None in tests:
        return None
    by_search, by_eta = tests
    assert by_search is not None
    assert by_eta is not None
    return FoundSetting(setting, search, study, chosen, by_search, by_eta)


def _tested(setting: Setting, arm: RacedArm, tests: Path) -> ArmResult | None:
    choice = Choice(arm.configuration, COMMON, 0.0)
    runs = [STUDY.test_run(setting, arm.arm, choice, seed) for seed in range(STUDY.seeds)]
    outcomes = [known_outcome(run, STUDY_RESULTS) or known_outcome(run, tests) for run in runs]
    known = tuple(outcome for outcome in outcomes if outcome is not None)
    return ArmResult(choice, known) if len(known) == len(runs) else None


class OverSettings(NamedTuple):
    """A mean over settings, with its 95 % interval for other settings."""

    mean: float
    low: float
    high: float
    p: float


def over_settings(values: Sequence[float]) -> OverSettings:
    """Student's t with the setting as the unit.

    Raises:
        ValueError: fewer than two settings.
    """
    if len(values) < 2:
        raise ValueError("an interval over settings needs two of them.")
    mean, squared = fmean(values), stdev(values) ** 2 / len(values)
    part = ErrorPart(squared, len(values) - 1)
    if not squared:
        return OverSettings(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = half_width([part])
    return OverSettings(mean, mean - half, mean + half, two_sided_p(mean, [part]))


def regret_parts(found: Sequence[FoundSetting]) -> dict[str, str]:
    """The tables and sentences by the names in the page's marks."""
    is_enough = len(found) >= 2
    return {
        "regret_state": state(found),
        "regret": ways_table(found) if is_enough else NOT_YET,
        "regret_settings": settings_table(found) if is_enough else NOT_YET,
        "regret_spent": spent_table(found) if is_enough else NOT_YET,
        "regret_budget": budget_sentence(),
    }


def state(found: Sequence[FoundSetting]) -> str:
    """How much is there, and the primary outcome."""
    if len(found) < 2:
        return NOT_YET
    missing = sum(each not in [one.setting for one in found] for each in chosen_settings())
    rest = f" **{missing} of the six {'is' if missing == 1 else 'are'} not run yet.**" if missing else ""
    six = chosen_settings()
    also = ""
    if len(found) > len(six):
        own = over_settings([each.regret(SEARCH).mean for each in found if each.setting in six])
        also = f" (in the six that were named first, {_interval(own)})"
    return (
        f"In {len(found)} settings search loses **{_interval(over_settings(_regrets(found, SEARCH)))} points** of "
        f"right test answers beside the best arm of the study{also}.{rest}"
    )


def _regrets(found: Sequence[FoundSetting], way: str) -> list[float]:
    return [each.regret(way).mean for each in found]


def ways_table(found: Sequence[FoundSetting]) -> str:
    """Every way of choosing: its mean regret, the largest, and how much more it loses than search."""
    of_search = _regrets(found, SEARCH)
    gaps = [over_settings([a - b for a, b in zip(_regrets(found, way), of_search, strict=True)]) for way in WAYS[1:]]
    adjusted = dict(zip(WAYS[1:], zip(gaps, holm([gap.p for gap in gaps]), strict=True), strict=True))
    rows = []
    for way in WAYS:
        regrets, ties = _regrets(found, way), sum(each.regret(way).low <= 0 for each in found)
        more = ["", ""] if way == SEARCH else [_interval(adjusted[way][0]), _p(adjusted[way][1])]
        rows.append([way, _interval(over_settings(regrets)), _points(max(regrets)), f"{ties} of {len(found)}", *more])
    columns = [
        "chosen by",
        "mean regret",
        "largest",
        "not told apart from the best",
        "regret more than search",
        "p (Holm)",
    ]
    return markdown(columns, rows)


def settings_table(found: Sequence[FoundSetting]) -> str:
    """Every setting: the best arm, what search chose, and each way's regret, in points."""
    rows = []
    for each in found:
        best = f"{each.best}: {100 * each.arms[each.best].mean(COMMON):.1f}"
        chosen = f"{each.chosen.arm.name} ({configuration_words(each.chosen.configuration)}): "
        chosen += f"{100 * each.by_search.mean(COMMON):.1f}"
        of_search = each.regret(SEARCH)
        cell = f"{_points(of_search.mean)} ({_points(of_search.low)} … {_points(of_search.high)})"
        rows.append([each.setting.name, best, chosen, cell, *(_points(each.regret(way).mean) for way in WAYS[1:])])
    return markdown(["setting", "best arm", "search chose", "its regret", *WAYS[1:]], rows)


def spent_table(found: Sequence[FoundSetting]) -> str:
    """What the searches spent, dropped and said."""
    rows = []
    for each in found:
        share, outcome = each.spent.share_of(full_budget()), each.search["outcome"]
        dropped = sum(bool(arm["rungs"]) and arm["rungs"][-1]["dropped"] for arm in outcome["arms"])
        failed = sum(bool(arm["failed"]) for arm in outcome["arms"])
        sft = paired_seeds(each.by_search.by_model(COMMON), each.arms["sft"].by_model(COMMON))
        rows.append([
            each.setting.name, f"{each.spent.steps:,} ({100 * share.steps:.0f} %)",
            f"{each.spent.answers:,} ({100 * share.answers:.0f} %)", f"{dropped} of {len(outcome['arms'])}",
            each.fate_of_best,
            *([] if not any(_failed(one) for one in found) else [f"{failed}"]),
            "yes" if " is better than sft (" in outcome["sentence"] else "no",
            f"{_points(sft.mean)} ({_points(sft.low)} … {_points(sft.high)})",
        ])  # fmt: skip
    failing = ["failed"] if any(_failed(one) for one in found) else []
    columns = [
        "setting",
        "steps",
        "answers",
        "arms dropped",
        "the best arm's configuration",
        *failing,
        "said better than sft",
        "minus tuned sft, test",
    ]
    return markdown(columns, rows)


def _failed(found: FoundSetting) -> bool:
    return any(arm["failed"] for arm in found.search["outcome"]["arms"])


def budget_sentence() -> str:
    """The budget in numbers."""
    full, most, arms = full_budget(), most_spent(), raced_arms()
    return (
        f"The study's tuning of its {len(plain_arms())} trained arms takes {full.steps:,} steps and {full.answers:,} "
        f"answers in a setting. A search over their {len(arms)} configurations at full length takes at most "
        f"{most.steps:,} and {most.answers:,}, each at most {100 * QUARTER:.0f} %, with {asked_in_a_run():,} answers "
        "a run."
    )


def _interval(found: OverSettings) -> str:
    return f"{_points(found.mean)} ({_points(found.low)} … {_points(found.high)})"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}" if round(100 * share, 1) else "0.0"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


if __name__ == "__main__":
    rewrite_page(PAGE, regret_parts(found_settings()))
