"""The arms of both studies, and the six configurations that each is tuned over."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import qtarget as qt


class Decoding(NamedTuple):
    """How answers are drawn; temperature 0 is greedy."""

    temperature: float
    top_p: float = 1.0

    @property
    def label(self) -> str:
        return f"T{self.temperature:g}" + ("" if self.top_p == 1 else f"-p{self.top_p:g}")


COMMON = Decoding(0.7, 0.95)
"""Of the primary outcome, and of all tuning."""
GREEDY, WHOLE_SOFTMAX = Decoding(0.0), Decoding(1.0)
DECODINGS = (GREEDY, Decoding(0.3), Decoding(0.5, 0.95), Decoding(0.7, 0.8), COMMON, Decoding(1.0, 0.7))
"""Those that an arm with a tuned decoding chooses from."""


@dataclass(frozen=True)
class Configuration:
    """What is tuned of a training.

    Attributes:
        rate: multiplies the world's learning rate.
        steps: optimizer steps.
        knobs: the method's hyperparameters, and of `OF_THE_TRAINER` and `OF_THE_ROWS` what is not as in every other
            arm.
    """

    rate: float
    steps: int
    knobs: Mapping[str, Any]

    @property
    def label(self) -> str:
        """For a file's name and a table, as in ``eta0.5-x3-500``."""
        words = [f"{name}{value_words(value, 'to')}".replace("_", "") for name, value in self.knobs.items()]
        return "-".join([*words, f"x{self.rate:g}", f"{self.steps}"])


def value_words(value: Any, to: str) -> str:
    """A knob's value in short: a number, a word, or a schedule as in "0.2to0.8cosine"."""
    if not isinstance(value, Mapping):
        return value if isinstance(value, str) else f"{value:g}"
    rest = [value_words(each, to) for name, each in value.items() if name not in ("from", "to")]
    return "".join([f"{value['from']:g}{to}{value['to']:g}", *rest])


OF_THE_TRAINER = ("teacher", "ema")
"""Knobs that are no method's: who the teacher is, where it is not the setting's, and how its average moves."""
OF_THE_ROWS = ("rows", "rounds")
"""Knobs that say what is trained on where it is not all rows as they come: the right ones ("right"), or the student's
own words (`rounds_training`), with a `start` beside it; TAID has a start of its own."""


def of_the_method(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs that are the method's hyperparameters."""
    others = (*OF_THE_TRAINER, *OF_THE_ROWS, *(("start",) if "rounds" in knobs else ()))
    return {name: value for name, value in knobs.items() if name not in others}


@dataclass(frozen=True)
class StudyArm:
    """A way to a model and its answers.

    Attributes:
        method: of the catalogue; None for the untouched student.
        configurations: six, or none where nothing is trained.
        tunes_decoding: its decoding is chosen too, among `DECODINGS`, for the chosen training.
    """

    name: str
    method: str | None
    configurations: tuple[Configuration, ...] = ()
    tunes_decoding: bool = False

    @property
    def needs_teacher(self) -> bool:
        """Whether it learns from the setting's teacher; the student itself is none."""
        is_taught = self.method is not None and "teacher" in qt.method(self.method).needs
        return is_taught and not any("teacher" in each.knobs for each in self.configurations)


RATES, SHORT_STEPS, LONG_STEPS = (1.0, 3.0, 10.0), 150, 500


def grid(knobs: Mapping[str, Any], short: int, long: int) -> tuple[Configuration, ...]:
    """Every rate with either number of steps."""
    return tuple(Configuration(rate, steps, knobs) for steps, rate in product((short, long), RATES))


def spread(levels: Sequence[Mapping[str, Any]], short: int, long: int) -> tuple[Configuration, ...]:
    """As many configurations as the grid has, over rate, steps and three levels of a knob together: each level twice,
    either number of steps three times."""
    low, mid, high = levels
    cells = ((1.0, short, low), (3.0, short, mid), (10.0, short, high), (10.0, long, mid), (3.0, long, low),
             (3.0, long, high))  # fmt: skip
    return tuple(Configuration(*cell) for cell in cells)


OURS = "target-sft"


def study_arms(short: int = SHORT_STEPS, long: int = LONG_STEPS) -> tuple[StudyArm, ...]:
    """The ten arms; a smaller study has fewer steps."""
    plain, etas = grid({}, short, long), ({"eta": 0.2}, {"eta": 0.5}, {"eta": 0.8})
    shares = tuple({"teacher_weight": share} for share in (0.2, 0.5, 0.8))
    sharper = tuple({"teacher_temperature": t} for t in (0.7, 0.5, 0.25))
    both = tuple({"eta": eta, "teacher_temperature": t} for eta, t in ((0.2, 0.5), (0.5, 0.5), (0.8, 0.25)))
    return (
        StudyArm("base", None),
        StudyArm("base, decoding tuned", None, tunes_decoding=True),
        StudyArm("sft", "sft", plain),
        StudyArm("sft, decoding tuned", "sft", plain, tunes_decoding=True),
        StudyArm("dft", "dft", plain),
        StudyArm("kd", "kd", plain),
        StudyArm("kd-hybrid", "kd-hybrid", spread(shares, short, long)),
        StudyArm("kd, teacher sharpened", "kd", spread(sharper, short, long)),
        StudyArm(OURS, "target-sft", spread(etas, short, long)),
        StudyArm("target-sft, teacher sharpened", "target-sft", spread(both, short, long)),
    )


OWN_FAMILY = (OURS, "target-sft, teacher sharpened")
"""Arms that are no rivals of `OURS`."""


def rivals(arms: Iterable[StudyArm]) -> tuple[str, ...]:
    """The names of the arms that Target-SFT is compared with."""
    return tuple(arm.name for arm in arms if arm.name not in OWN_FAMILY)
