"""What the demo shows: settings of the lab whose models ship, with the configurations that the study chose."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from qtarget.study.tuned.design import Choice, TunedStudy
from qtarget.study.tuned.outcome import StudyRun
from qtarget.study.tuned.settings import CONTROL_SETTING, DEMO_SETTING, Setting
from qtarget.study.tuned.tuned_arms import (
    COMMON,
    GREEDY,
    OURS,
    WHOLE_SOFTMAX,
    Configuration,
    Decoding,
    StudyArm,
    study_arms,
)

BASELINE, RIVAL, OWN_DECODING = "sft", "kd, teacher sharpened", "sft, decoding tuned"
"""The arm that every other is compared with; the rival of `OURS` that is shown beside it; the arm whose decoding is
tuned too."""
ARMS: tuple[StudyArm, ...] = tuple(
    arm for arm in study_arms() if arm.name in ("base", BASELINE, OWN_DECODING, "dft", RIVAL, OURS)
)
SHOWN_DECODINGS: tuple[Decoding, ...] = (GREEDY, COMMON, WHOLE_SOFTMAX)
"""The decodings that are shown, in a table each; the middle one is that of the study's primary outcome."""


@dataclass(frozen=True)
class Scene:
    """A setting that is shown.

    Attributes:
        sentence: what it is, for a reader.
        setting: of the lab; its student and teacher ship with the package.
        nearest: the setting of the study whose choices are taken.
        chosen: configuration and decoding by the arm's name, as `design.chosen_for` gives them there (tests hold it to
            the study's results).
    """

    name: str
    sentence: str
    setting: Setting
    nearest: Setting
    chosen: Mapping[str, tuple[Configuration | None, Decoding]]

    def runs(self, study: TunedStudy) -> list[StudyRun]:
        """The runs of every training. Where an arm's decoding is tuned, its run draws answers at that decoding too."""
        choices = {
            name: Choice(configuration, decoding, 0.0) for name, (configuration, decoding) in self.chosen.items()
        }
        every = study.test_runs(self.setting, choices)
        return [run for run in every if run.trains or run.seed == 0]


def _chosen(
    sft: Configuration, own_decoding: Decoding, dft: Configuration, rival: Configuration, ours: Configuration
) -> dict[str, tuple[Configuration | None, Decoding]]:
    untouched = {"base": (None, COMMON), BASELINE: (sft, COMMON), OWN_DECODING: (sft, own_decoding)}
    return {**untouched, "dft": (dft, COMMON), RIVAL: (rival, COMMON), OURS: (ours, COMMON)}


WRONG_ROWS = Scene(
    "wrong-rows",
    "The student hardly knows multiplication; in 30 % of the rows' steps the result is wrong.",
    DEMO_SETTING,
    Setting(0.3, "ignorant", "blunt"),
    _chosen(
        Configuration(3.0, 150, {}),
        Decoding(0.3),
        Configuration(1.0, 150, {}),
        Configuration(10.0, 500, {"teacher_temperature": 0.5}),
        Configuration(10.0, 500, {"eta": 0.5}),
    ),
)
RIGHT_ROWS = Scene(
    "right-rows",
    "The student hardly knows multiplication; every step of the rows is right.",
    Setting(0.0, "demo", "blunt"),
    Setting(0.0, "ignorant", "blunt"),
    _chosen(
        Configuration(10.0, 500, {}),
        GREEDY,
        Configuration(3.0, 500, {}),
        Configuration(10.0, 500, {"teacher_temperature": 0.5}),
        Configuration(10.0, 500, {"eta": 0.5}),
    ),
)
CARELESS = Scene(
    "careless",
    "The student knows every operator and is careless; in 30 % of the rows' steps the result is wrong.",
    CONTROL_SETTING,
    CONTROL_SETTING,
    _chosen(
        Configuration(1.0, 150, {}),
        GREEDY,
        Configuration(3.0, 150, {}),
        Configuration(3.0, 500, {"teacher_temperature": 0.25}),
        Configuration(10.0, 150, {"eta": 0.8}),
    ),
)
SCENES: dict[str, Scene] = {scene.name: scene for scene in (WRONG_ROWS, RIGHT_ROWS, CARELESS)}
DEFAULT_SCENES = (WRONG_ROWS, RIGHT_ROWS)


def scene(name: str) -> Scene:
    """The scene of that name.

    Raises:
        ValueError: there is none; the message names the near miss.
    """
    if name in SCENES:
        return SCENES[name]
    near = get_close_matches(name, SCENES, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"Unknown setting {name!r}. {hint}Write one of: {', '.join(map(repr, SCENES))}.")
