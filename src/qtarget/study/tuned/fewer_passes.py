"""The third study on the same machinery: whether plain SFT loses less to wrong rows when it passes over them once or
five times, not 16 or 53 times as in the first study."""

from qtarget.study.tuned.design import Contrast, TunedStudy
from qtarget.study.tuned.settings import Setting
from qtarget.study.tuned.tuned_arms import OURS, StudyArm, grid, spread, study_arms

ONE_PASS_STEPS, FIVE_PASSES_STEPS = 10, 50
"""Optimizer steps: 300 rows, 32 a step."""
SFT_FEW, OURS_FEW = "sft, 1 or 5 passes", "target-sft, 1 or 5 passes"
ARMS_OF_THE_FIRST = ("base", "sft", OURS)
"""Arms of the first study: their runs in these settings are its own."""
_CONTRASTS = (Contrast(SFT_FEW, "sft"), Contrast(OURS, SFT_FEW), Contrast(OURS_FEW, OURS))
_STATED = {
    "question": (
        "In the first study every arm passes 16 or 53 times over 300 rows, and where 30 % of the steps are wrong "
        "target-sft is far above sft. Is sft, tuned over one and five passes, better there than over 16 and 53, and "
        "is target-sft still above it? Does target-sft lose by fewer passes?"
    ),
    "settings_rule": (
        "Noisy rows, both kinds of student, and the teacher that the first study runs first. sft reads no teacher, so "
        "another one would change the last two contrasts alone."
    ),
    "kept_runs": (
        "Tuning and test of base, sft and target-sft are the first study's own runs, so their scores were known when "
        "this was written. Students and teachers are pre-trained again from the same seeds."
    ),
}


def arms_of_fewer_passes() -> tuple[StudyArm, ...]:
    """Three arms of the first study and two with few steps."""
    short, long = ONE_PASS_STEPS, FIVE_PASSES_STEPS
    etas = ({"eta": 0.2}, {"eta": 0.5}, {"eta": 0.8})
    return (
        *(arm for arm in study_arms() if arm.name in ARMS_OF_THE_FIRST),
        StudyArm(SFT_FEW, "sft", grid({}, short, long)),
        StudyArm(OURS_FEW, "target-sft", spread(etas, short, long)),
    )


PASSES_STUDY = TunedStudy(
    (Setting(0.3, "ignorant", "blunt"), Setting(0.3, "mistaken", "blunt")),
    arms=arms_of_fewer_passes(),
    contrasts=_CONTRASTS,
    stated=_STATED,
)
