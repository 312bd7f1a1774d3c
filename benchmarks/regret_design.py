"""Does `qtarget search` find what pays? What is asked, in which settings of the study, within which budget.

Everything here was fixed, and the protocol written, before the first search ran.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from qtarget.disk.files import json_text
from qtarget.study.tuned.design import DEVELOPMENT_SEED, TunedStudy
from qtarget.study.tuned.run_study import WHOLE
from qtarget.study.tuned.settings import TWELVE, Setting
from qtarget.study.tuned.tuned_arms import COMMON, LONG_STEPS, OURS, Configuration, StudyArm

STUDY = replace(WHOLE, seeds=5, pretraining_seeds=5)
"""As its protocol has it."""
ETA = Configuration(10.0, LONG_STEPS, {"eta": 0.5})
"""The study's one configuration of Target-SFT with η = 0.5 at full length."""
STEPS, RUNGS, CONFIRM_SEEDS = 45, 2, 3
ANSWERS = 7
"""To each development question."""
QUARTER = 0.25
GRADE = r"regex:answer\s+(\S+)\s*$"


def chosen_settings() -> tuple[Setting, ...]:
    """Six of the twelve: of each teacher's four the first and the last, or the middle two, by turns, in the study's
    order. So each teacher is there twice, with both students, with both kinds of rows, and each student and each kind
    of rows three times.
    """
    fours = [TWELVE[first : first + 4] for first in range(0, len(TWELVE), 4)]
    pairs = [(four[1], four[2]) if place % 2 else (four[0], four[3]) for place, four in enumerate(fours)]
    return tuple(setting for pair in pairs for setting in pair)


class RacedArm(NamedTuple):
    """A configuration of the study as an arm of the search."""

    arm: StudyArm
    configuration: Configuration

    @property
    def keys(self) -> dict[str, Any]:
        rate = float(f"{self.configuration.rate * TWELVE[0].world.learning_rate:.6g}")
        return {"method": self.arm.method, **self.configuration.knobs, "learning_rate": rate}

    @property
    def label(self) -> str:
        return f"{self.arm.name}, {self.configuration.label}"


def plain_arms(study: TunedStudy = STUDY) -> list[StudyArm]:
    """The study's arms that are trained and whose decoding is not tuned: what a search can choose from."""
    return [arm for arm in study.arms if arm.configurations and not arm.tunes_decoding]


def raced_arms(study: TunedStudy = STUDY) -> list[RacedArm]:
    """All of the study's configurations at full length."""
    return [RacedArm(arm, each) for arm in plain_arms(study) for each in arm.configurations if each.steps == LONG_STEPS]


def raced_arm(keys: Mapping[str, Any]) -> RacedArm:
    """The arm that a search names by its keys."""
    return next(each for each in raced_arms() if each.keys == dict(keys))


class Spent(NamedTuple):
    """Steps of optimizers, and answers drawn to development questions."""

    steps: int
    answers: int

    @classmethod
    def total(cls, parts: Iterable["Spent"]) -> "Spent":
        steps, answers = zip(*parts, strict=True)
        return cls(sum(steps), sum(answers))

    def share_of(self, whole: "Spent") -> "SpentShare":
        return SpentShare(self.steps / whole.steps, self.answers / whole.answers)


class SpentShare(NamedTuple):
    """Of the study's own tuning, in [0, 1]."""

    steps: float
    answers: float


def full_budget(study: TunedStudy = STUDY) -> Spent:
    """What the study's tuning of these arms takes in a setting."""
    answers = study.development * study.samples
    return Spent.total(Spent(each.steps, answers) for arm in plain_arms(study) for each in arm.configurations)


def most_spent(study: TunedStudy = STUDY) -> Spent:
    """What a search takes in a setting where no arm is dropped."""
    of_race = [Spent(STEPS * 2**rung, asked_in_a_run(study)) for rung in range(RUNGS) for _ in raced_arms(study)]
    of_confirmation = [Spent(STEPS * 2 ** (RUNGS - 1), asked_in_a_run(study))] * (2 * CONFIRM_SEEDS)
    return Spent.total([*of_race, *of_confirmation])


def asked_in_a_run(study: TunedStudy = STUDY) -> int:
    """Answers to the half of the development questions that one run of a search is asked."""
    return study.development // 2 * ANSWERS


def space_of_search() -> dict[str, Any]:
    """The space file."""
    arms = [each.keys for each in raced_arms()]
    return {"arms": arms, "steps": STEPS, "rungs": RUNGS, "seed": DEVELOPMENT_SEED, "confirm_seeds": CONFIRM_SEEDS}


def regret_protocol() -> dict[str, Any]:
    """The protocol in JSON's types."""
    full, most = full_budget(), most_spent()
    protocol = {
        "question": (
            "Does `qtarget search`, at a quarter of what the study's tuning takes, choose a way of training that is as "
            "good on test questions as the best of the study?"
        ),
        "known_before": (
            "The study and all its test numbers were known when this was written. No search had been run in any of its "
            "settings."
        ),
        "settings": [setting.name for setting in chosen_settings()],
        "rule_of_settings": (
            "Six of the study's twelve: of each teacher's four the first and the last, or the middle two, by turns. "
            "The other six are run too if all of them can be; the results are then of twelve, and of six besides."
        ),
        "search": {
            "arms": [each.label for each in raced_arms()],
            "space": space_of_search(),
            "why_these_arms": f"All configurations of the study's plainly decoded arms at {LONG_STEPS} steps, which is "
            "the configuration's own length: every choice has a name in the study.",
            "student_teacher": "of pre-training 0, as in the study's tuning",
            "rows": f"the study's {STUDY.demonstrations} development rows, seed {DEVELOPMENT_SEED}",
            "questions": f"the study's {STUDY.development} development questions; half race, half confirm",
            "decoding": f"{ANSWERS} answers at {COMMON.label}, the prompt as it is, graded by {GRADE}",
            "chosen": "the arm in best.yaml, at its own full length",
        },
        "budget": {
            "unit": "optimizer steps, and answers to development questions; neither may be above its quarter",
            "full": full._asdict(),
            "full_is": f"six configurations of each of the {len(plain_arms())} arms, once, "
            f"{STUDY.samples} answers to each of {STUDY.development} questions",
            "search_at_most": most._asdict(),
            "not_counted": "the test; the teacher's cache, one pass over the rows",
        },
        "test": {
            "measure": f"Average@{STUDY.samples} at {COMMON.label} on the study's {STUDY.test} test questions",
            "trainings": f"the study's {STUDY.seeds} test seeds, each with the student and teacher of its pre-training",
            "numbers": "the study's own where it tested the chosen configuration; else it is trained and tested as the "
            "study does, by its code, and kept beside these results",
        },
        "regret": (
            "In a setting: the test mean of the study's best arm, which is the one of the highest test mean among the "
            "arms whose decoding is not tuned, minus the mean of what was chosen. Not cut off at zero. The best is the "
            "best of this very test, so every regret is a little too large, alike for all."
        ),
        "beside_it": {
            "always target-sft η=0.5": f"the configuration {ETA.label} of {OURS}",
            "always sft": "the study's sft, tuned over its six configurations by the whole development questions",
            "random arm": "the mean of the study's seven trained arms, each tuned likewise",
            "the whole tuning": "the arm and configuration that scored best in all of the study's tuning, four times "
            "the search's budget; of equals the first",
        },
        "intervals": {
            "in a setting": "95 %, paired by pre-trained student and question, both random (paired_seeds), the best "
            "arm taken as given",
            "over settings": "95 %, Student's t, the setting as the unit. Settings share students and what is trained "
            "without a teacher, which this leaves out",
        },
        "primary_outcome": "the mean regret of search over the settings, with its interval",
        "secondary_outcomes": [
            "the regret of each of the four beside it minus that of search, paired by setting; p two-sided, Holm over "
            "the four",
            "the largest regret of each",
            "in how many settings the interval of a regret holds zero",
            "what each search spent, which arms it dropped, and whether it said rightly that an arm is better than "
            "sft: as the test has it for the chosen arm and the study's sft",
        ],
    }  # fmt: skip
    return json.loads(json_text(protocol))
