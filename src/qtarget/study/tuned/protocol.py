"""The study's protocol: what is asked, of what, and what will count, written into the results before any of them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qtarget.disk.files import json_text, read_json_object, write_digested_json
from qtarget.study.tuned.design import DEVELOPMENT_SEED, QUESTIONS_SEED, SWEPT_KNOBS, TunedStudy
from qtarget.study.tuned.settings import STUDENTS, TEACHERS
from qtarget.study.tuned.tuned_arms import (
    COMMON,
    DECODINGS,
    GREEDY,
    OURS,
    OWN_FAMILY,
    WHOLE_SOFTMAX,
    StudyArm,
    rivals,
)

PROTOCOL_FILE = "protocol.json"
CHOSEN_BY_ESTIMATE = ("seeds", "pretraining_seeds")
"""What the first estimate of the time sets: a study that goes on takes them from the file."""


def study_protocol(study: TunedStudy) -> dict[str, Any]:
    """The protocol in JSON's types."""
    k = study.samples
    protocol = {
        "settings": [setting.name for setting in study.settings],
        "students": {each.student: asdict(STUDENTS[each.student]) for each in study.settings},
        "teachers": {each.teacher: asdict(TEACHERS[each.teacher]) for each in study.settings if each.teacher},
        "world": study.settings[0].world.name,
        "learning_rate_x1": study.settings[0].world.learning_rate,
        "batch_size": study.settings[0].world.batch_size,
        "demonstrations": study.demonstrations,
        "arms": {arm.name: _arm(arm) for arm in study.arms},
        "tuning": {
            "questions": study.development,
            "criterion": f"Average@{k} at {COMMON.label}, one training, seed {DEVELOPMENT_SEED}; of equals the first",
            "decodings": [decoding.label for decoding in DECODINGS],
            "decoding": "of the chosen training, where an arm's decoding is tuned",
        },
        "seeds": study.seeds,
        "pretraining_seeds": study.pretraining_seeds,
        "how_seeds_cross": (
            "Training r draws its rows, their order and its answers from seed r, and learns from the student and with "
            "the teacher of pre-training r modulo pretraining_seeds. All arms share them. Trainings of one student are "
            "averaged first: what counts as independent is the pre-trained student with its teacher. Tuning has the "
            "student and the teacher of pre-training 0."
        ),
        "questions": {
            "test": study.test,
            "seed": QUESTIONS_SEED,
            "drawn": "development and test in one draw of different questions, and checked to share none",
        },
        "primary_outcome": {
            "measure": f"Average@{k} at {COMMON.label}, an arm with a tuned decoding at its own",
            **_contrast(study),
            "interval": "95 %, paired by seed and question, both random (paired_seeds)",
            "p": f"two-sided, Holm over {_holms_family(study)}; clearly ahead or behind: below 0.05",
        },
        "secondary_outcomes": [
            f"the same at {GREEDY.label} and {WHOLE_SOFTMAX.label}",
            f"pass@{k}",
            "KL(base ‖ model) in nats a token on text that the base wrote",
            "calibration and nll on demonstrations without a wrong step",
            "tokens of an answer",
            "which arm is first: the highest mean in the test",
        ],
        "sweep": {
            "settings": [setting.name for setting in study.sweep],
            "knobs": SWEPT_KNOBS,
            "questions": "development",
        },
        **study.stated,
    }
    return json.loads(json_text(protocol))


def _contrast(study: TunedStudy) -> dict[str, Any]:
    if study.contrasts:
        return {"contrasts": [f"{ours} minus {other}" for ours, other in study.contrasts]}
    return {
        "contrast": f"{OURS} minus its best rival: the one that scored best on the development questions",
        "rivals": rivals(study.arms),
        "no_rival": OWN_FAMILY[1],
    }


def _holms_family(study: TunedStudy) -> str:
    return "all contrasts in all settings" if study.contrasts else "the settings but the control"


def _arm(arm: StudyArm) -> dict[str, Any]:
    configurations = [{"rate": each.rate, "steps": each.steps, **each.knobs} for each in arm.configurations]
    return {"method": arm.method, "configurations": configurations, "decoding_is_tuned": arm.tunes_decoding}


def kept_protocol(study: TunedStudy, results: Path) -> dict[str, Any] | None:
    """The protocol in a folder of results, which is that of `study`; None where the folder holds nothing yet.

    Raises:
        ValueError: it is another one, it is damaged, or there are outcomes and no protocol.
    """
    path = results / PROTOCOL_FILE
    elsewhere = "write another folder for this study, as in --results runs/another/results"
    if not path.is_file():
        if any(results.glob("*/*.json")):
            raise ValueError(f"{results} holds files of another study, and no {PROTOCOL_FILE}; {elsewhere}.")
        return None
    kept, mine = read_json_object(path, f"take it from version control, or {elsewhere}"), study_protocol(study)
    for key in dict.fromkeys((*mine, *kept)):
        if key not in CHOSEN_BY_ESTIMATE and kept.get(key) != mine.get(key):
            raise ValueError(f'{path} is of another protocol than this study\'s: "{key}" differs; {elsewhere}.')
    for key in CHOSEN_BY_ESTIMATE:
        if type(kept.get(key)) is not int or kept[key] < 1:
            raise ValueError(f'{path} is damaged ("{key}" is {kept.get(key)!r}); take it from version control.')
    return kept


def keep_protocol(study: TunedStudy, results: Path) -> None:
    """Write the protocol, before any outcome."""
    results.mkdir(parents=True, exist_ok=True)
    write_digested_json(results / PROTOCOL_FILE, study_protocol(study))
