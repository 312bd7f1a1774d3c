"""`qtarget study --protocol beyond`: whether it pays to change η, or to be taught by oneself."""

from collections.abc import Mapping
from typing import Any

from qtarget.study.tuned.design import Contrast, TunedStudy
from qtarget.study.tuned.settings import Setting
from qtarget.study.tuned.tuned_arms import LONG_STEPS, OURS, SHORT_STEPS, StudyArm, spread, study_arms

SCHEDULED, BY_TOKEN, SELF_TAUGHT = "target-sft, η scheduled", "target-sft, η per token", "target-sft, self-teacher"
SHARPENED = "kd, teacher sharpened"
KEPT_ARMS = ("base", "sft", "dft", SHARPENED, OURS)
"""Arms of `study_arms`. Their runs in these settings are shared with `--protocol tuned`."""
SCHEDULES: tuple[Mapping[str, Any], ...] = (
    {"eta": {"from": 0.8, "to": 0.2}},
    {"eta": {"from": 0.2, "to": 0.8}},
    {"eta": {"from": 0.5, "to": 0.9, "shape": "cosine"}},
)
PER_TOKEN_RULES: tuple[Mapping[str, Any], ...] = (
    {"eta": {"from": 0.8, "to": 0.2, "along": "teacher_p_y"}},
    {"eta": "agreement"},
    {"eta": {"from": 0.8, "to": 0.2, "along": "teacher_uncertainty", "until": 0.5}},
)
"""More of the teacher where it finds the label improbable; where student and teacher agree; where it is sure."""
STARTS: tuple[Mapping[str, Any], ...] = ({"start": 0.2}, {"start": 0.4}, {"start": 0.6})
OWN_TEACHERS: tuple[Mapping[str, Any], ...] = (
    {"eta": 0.5, "teacher": "self"},
    {"eta": 0.5, "teacher": "self", "ema": 0.99},
    {"eta": 0.8, "teacher": "self", "ema": 0.99},
)
"""The teacher is the student as it was at first, or an average of it over about a hundred steps. It reads the
student's prompt."""
CONTRASTS = (
    Contrast(SCHEDULED, OURS),
    Contrast(BY_TOKEN, OURS),
    Contrast(SELF_TAUGHT, "dft"),
    Contrast(SELF_TAUGHT, OURS),
    Contrast(SHARPENED, OURS),
)
STATED = {
    "question": (
        "Does it pay to let η change over the run or from token to token, to be taught by oneself, or to sharpen kd's "
        "teacher, beside Target-SFT with a constant η and beside dft, where every arm has six configurations?"
    ),
    "settings_rule": (
        "Noisy rows; the student that knows a little of everything, since one that never saw a product has nothing to "
        "teach itself; the teacher that is right and the one that is wrong, the wrong one first, as how far to follow "
        "it is open there."
    ),
    "kept_runs": (
        "Tuning and test of base, sft, dft, kd with a sharpened teacher and target-sft are the first study's own "
        "runs, so their scores, and the last contrast, were known when this was written. Students and teachers "
        "pre-trained again from the same seeds gave the same answers, answer by answer, in the runs that were repeated."
    ),
    "counted_twice": (
        f"{SELF_TAUGHT} minus dft reads no teacher, so it is one test that stands in both settings; Holm counts it "
        "twice, which makes every verdict more careful."
    ),
    "rounds": "Not an arm: sampling and rounds were not there when this was written.",
}


def beyond_arms(short: int = SHORT_STEPS, long: int = LONG_STEPS) -> tuple[StudyArm, ...]:
    """The nine arms; a smaller study has fewer steps."""
    return (
        *(arm for arm in study_arms(short, long) if arm.name in KEPT_ARMS),
        StudyArm(SCHEDULED, "target-sft", spread(SCHEDULES, short, long)),
        StudyArm(BY_TOKEN, "target-sft", spread(PER_TOKEN_RULES, short, long)),
        StudyArm("taid", "taid", spread(STARTS, short, long)),
        StudyArm(SELF_TAUGHT, "target-sft", spread(OWN_TEACHERS, short, long)),
    )


BEYOND_STUDY = TunedStudy(
    (Setting(0.3, "mistaken", "wrong"), Setting(0.3, "mistaken", "sharp")),
    arms=beyond_arms(),
    contrasts=CONTRASTS,
    stated=STATED,
)
