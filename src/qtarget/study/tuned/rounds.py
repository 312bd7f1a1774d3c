"""A study on the same machinery: rounds of sampling and training against one pass, at the same budget."""

from qtarget.study.tuned.design import Contrast, TunedStudy
from qtarget.study.tuned.rounds_training import SAMPLES_IN_ALL
from qtarget.study.tuned.settings import Setting
from qtarget.study.tuned.tuned_arms import LONG_STEPS, RATES, SHORT_STEPS, Configuration, StudyArm, grid, study_arms

GIVEN_AND_RIGHT, ONE_PASS, TWO_ROUNDS = "sft, right rows", "own samples, one pass", "own samples, two rounds"
KNOWN_ARMS = ("base", "sft", "dft")
"""Arms of the first study: their runs are its own."""
STARTS_IN_TURN = ("base", "last", "base"), ("last", "base", "last")
"""What the second round's student begins as, by rate; with fewer steps and with more."""
ROUNDS_STATED = {
    "question": (
        "Does it pay to draw a student's samples anew half way, beside one pass over as many samples with as many "
        "optimizer steps, and beside sft on the given rows whose answer is right?"
    ),
    "settings_rule": (
        "One setting, as the time allowed one: noisy rows, and the student that knows a little of everything, since "
        "one that is never right has no right words of its own."
    ),
    "own_words": (
        f"{SAMPLES_IN_ALL} samples of each prompt of the given rows at temperature 1, over all rounds; of these the "
        "distinct ones with a right answer, by the grader of the test. Rounds have equal shares of samples and of "
        "steps, each with a warm-up and a cosine of its own. Three of the six configurations begin each round from the "
        "untouched student, three go on with the last one."
    ),
    "kept_runs": (
        "Tuning and test of base, sft and dft are the first study's own runs, so their scores were known when this was "
        "written. They see no answer but that of the rows; the three other arms are told which answers are right."
    ),
}


def rounds_arms(short: int = SHORT_STEPS, long: int = LONG_STEPS) -> tuple[StudyArm, ...]:
    """The six arms; a smaller study has fewer steps."""
    in_rounds = tuple(
        Configuration(rate, steps, {"rounds": 2, "start": start})
        for steps, starts in zip((short, long), STARTS_IN_TURN, strict=True)
        for rate, start in zip(RATES, starts, strict=True)
    )
    return (
        *(arm for arm in study_arms(short, long) if arm.name in KNOWN_ARMS),
        StudyArm(GIVEN_AND_RIGHT, "sft", grid({"rows": "right"}, short, long)),
        StudyArm(ONE_PASS, "sft", grid({"rounds": 1}, short, long)),
        StudyArm(TWO_ROUNDS, "sft", in_rounds),
    )


ROUNDS_STUDY = TunedStudy(
    (Setting(0.3, "mistaken"),),
    arms=rounds_arms(),
    contrasts=(Contrast(TWO_ROUNDS, ONE_PASS), Contrast(TWO_ROUNDS, GIVEN_AND_RIGHT), Contrast(TWO_ROUNDS, "dft")),
    stated=ROUNDS_STATED,
)
