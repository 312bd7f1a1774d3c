"""Which arm should `best.yaml` hold after a search? A simulation of rules, from the study's own spreads.

    python benchmarks/confirmation_rules.py            # a few minutes; writes results/confirmation_rules.json

Protocol, written before the first run:

**Arms.** In each of the study's twelve settings, the configurations that the searches of `search_regret.py` raced, as
the study's tuning measured them on 100 development questions, 16 answers each: at 500 steps, and those that it has at
150 steps. So there are up to 24 fields of arms. An arm's chance to answer a question rightly is its share there, plus
what its training seed adds: a normal number for each arm and seed, with the variance that trainings of one arm have
over the test's seeds in that setting (less what drawing answers adds), cut off at 0 and 1. Its true mean is the mean
over all questions and many seeds.

**A search.** All arms answer the race's 50 questions 7 times, trained once. The winner has the highest mean; the other
is the best sft, or where sft wins the best that is not. Both are trained with 3 fresh seeds and answer 50 other
questions 7 times. Questions are drawn with replacement, so that the halves are independent. No arm is dropped: that
changes neither the winner nor the other.

**Rules.** `confirmation`: the higher mean in the confirmation, which is what search did. `clear`: the race's winner,
unless the confirmation's 95 % interval is all on the other's side. `pooled`: the higher of the means over all trainings
of race and confirmation, one and three. Beside them, to read them by: `race`, the winner always; `sft`, sft unless the
interval is all on the other arm's side.

**Outcome.** Regret: the true mean of the field's best arm minus that of the arm chosen. A setting's number is the mean
over its fields and 1,000 searches in each. The primary outcome is each rule's mean regret minus that of `confirmation`,
over settings, with a 95 % interval (Student's t, the setting as the unit).

**Decision.** The rule of the least mean regret among the first three is taken, if that interval leaves out zero.
Otherwise `confirmation` stays.

Not simulated: that what wins at the race's budget need not win at the run's own length. It is the same for all rules.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from regret_design import ANSWERS, CONFIRM_SEEDS, STUDY, plain_arms
from scipy import stats

from qtarget.disk.files import write_digested_json
from qtarget.search.race import ScoreDifference, scaled_difference
from qtarget.study.tuned.design import Choice
from qtarget.study.tuned.outcome import known_outcome
from qtarget.study.tuned.settings import TWELVE, Setting
from qtarget.study.tuned.tuned_arms import COMMON

RESULTS = Path(__file__).parent / "results"
STUDY_RESULTS, KEPT = RESULTS / "study", RESULTS / "confirmation_rules.json"
QUESTIONS, SEARCHES, SEEDS_OF_TRUTH = 50, 1000, 400
RULES: tuple[str, ...] = ("confirmation", "clear", "pooled", "race", "sft")
TODAY, CANDIDATES = RULES[0], RULES[:3]


class ArmField(NamedTuple):
    """Arms of one setting and budget.

    Attributes:
        chances: [A, Q] each arm's share of right answers to each question.
        is_sft: [A].
        spread: of an arm's mean over trainings, its standard deviation.
    """

    chances: np.ndarray
    is_sft: np.ndarray
    spread: float


def spread_of_seeds(setting: Setting) -> float:
    """How far trainings of one arm differ over the test's seeds, its arms pooled."""
    variances = []
    for arm in plain_arms():
        for configuration in arm.configurations:
            runs = [STUDY.test_run(setting, arm, Choice(configuration, COMMON, 0.0), s) for s in range(STUDY.seeds)]
            known = [known_outcome(run, STUDY_RESULTS) for run in runs]
            if all(known):
                answers = [each.answers[COMMON.label] for each in known if each is not None]
                shares = np.array([each.right for each in answers]) / answers[0].k
                drawn = (shares * (1 - shares)).mean(-1).mean() / (answers[0].k - 1) / shares.shape[1]
                variances.append(max(0.0, shares.mean(-1).var(ddof=1) - drawn))
    return float(np.sqrt(np.mean(variances)))


def fields_of(setting: Setting) -> list[ArmField]:
    """A field of arms for each number of steps of which the study has sft and another."""
    spread, fields = spread_of_seeds(setting), []
    steps = sorted({each.steps for arm in plain_arms() for each in arm.configurations})
    for count in steps:
        chances: dict[str, tuple[bool, np.ndarray]] = {}
        for run in STUDY.development_runs(setting):
            known = known_outcome(run, STUDY_RESULTS)
            if run.steps == count and known is not None:
                found = known.answers[COMMON.label]
                chances[run.name] = (run.method == "sft", np.array(found.right) / found.k)
        is_sft = np.array([each[0] for each in chances.values()])
        if is_sft.any() and not is_sft.all():
            fields.append(ArmField(np.stack([each[1] for each in chances.values()]), is_sft, spread))
    return fields


def shifted(chances: np.ndarray, spread: float, random: np.random.Generator) -> np.ndarray:
    """Chances of one training of each arm, [A, Q]."""
    return np.clip(chances + random.normal(0, spread, (len(chances), 1)), 0, 1)


def true_means(field: ArmField, random: np.random.Generator) -> np.ndarray:
    """Over questions and trainings, [A]."""
    return np.mean([shifted(field.chances, field.spread, random).mean(-1) for _ in range(SEEDS_OF_TRUTH)], axis=0)


def searched(field: ArmField, random: np.random.Generator) -> dict[str, int]:
    """By rule, the place of the arm that a search chooses."""

    def answered(places: Sequence[int], questions: np.ndarray) -> np.ndarray:
        chances = shifted(field.chances[list(places)], field.spread, random)
        return random.binomial(ANSWERS, chances[:, questions]) / ANSWERS

    everyone = range(len(field.chances))
    race_questions, fresh = (random.integers(field.chances.shape[1], size=QUESTIONS) for _ in range(2))
    race = answered(everyone, race_questions).mean(-1)
    winner = int(race.argmax())
    other = max((a for a in everyone if field.is_sft[a] != field.is_sft[winner]), key=lambda a: race[a])
    trained = np.stack([answered((winner, other), fresh) for _ in range(CONFIRM_SEEDS)])  # [S, 2, Q]
    found = scaled_difference(trained[:, 0].tolist(), trained[:, 1].tolist())
    return {rule: winner if is_kept else other for rule, is_kept in kept(race, winner, other, found, field).items()}


def kept(race: np.ndarray, winner: int, other: int, found: ScoreDifference, field: ArmField) -> Mapping[str, bool]:
    """By rule, whether the winner is kept."""
    pooled = (race[winner] - race[other] + CONFIRM_SEEDS * found.mean) / (1 + CONFIRM_SEEDS)
    return {
        "confirmation": found.mean >= 0,
        "clear": found.high >= 0,
        "pooled": pooled >= 0,
        "race": True,
        "sft": found.high >= 0 if field.is_sft[winner] else found.low > 0,
    }


def regrets_of(setting: Setting, searches: int, random: np.random.Generator) -> dict[str, float]:
    """By rule, the mean regret in a setting, in points."""
    fields, total = fields_of(setting), dict.fromkeys(RULES, 0.0)
    for field in fields:
        truth = true_means(field, random)
        for _ in range(searches):
            for rule, place in searched(field, random).items():
                total[rule] += 100 * (truth.max() - truth[place])
    return {rule: value / (searches * len(fields)) for rule, value in total.items()}


class MeanWithEnds(NamedTuple):
    """Over settings, at 95 %."""

    mean: float
    low: float
    high: float


def over_settings(values: Sequence[float]) -> MeanWithEnds:
    """Student's t, the setting as the unit."""
    array = np.asarray(values)
    half = stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
    return MeanWithEnds(float(array.mean()), float(array.mean() - half), float(array.mean() + half))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--searches", type=int, default=SEARCHES, help="in each field of arms")
    asked.add_argument("--out", type=Path, default=KEPT)
    given = asked.parse_args()
    random = np.random.default_rng(0)
    found = {setting.name: regrets_of(setting, given.searches, random) for setting in TWELVE}
    rules = {}
    for rule in RULES:
        regret = over_settings([each[rule] for each in found.values()])
        beside = over_settings([each[rule] - each[TODAY] for each in found.values()])
        rules[rule] = {"regret": regret._asdict(), "minus_today": beside._asdict()}
    best = min(CANDIDATES, key=lambda rule: rules[rule]["regret"]["mean"])
    taken = best if best == TODAY or rules[best]["minus_today"]["high"] < 0 else TODAY
    spreads = {setting.name: spread_of_seeds(setting) for setting in TWELVE}
    write_digested_json(given.out, {"searches": given.searches, "rules": rules, "taken": taken, "settings": found,
                                    "spread_of_seeds": spreads})  # fmt: skip
    print(json.dumps({"rules": rules, "taken": taken}, indent=1))


if __name__ == "__main__":
    main()
