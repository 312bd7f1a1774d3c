"""The settings of the study: how noisy the rows are, which student learns, which teacher helps."""

from dataclasses import dataclass, replace
from itertools import product

from qtarget import lab
from qtarget.lab import World
from qtarget.lab.worlds import Model

_WORLD = lab.world("weak-operator")
_STUDENT, _TEACHER = _WORLD.student.writer, _WORLD.teacher.writer
STUDENTS: dict[str, Model] = {
    "ignorant": replace(_WORLD.student, writer=replace(_STUDENT, operators=(1.0, 1.0, 0.0))),
    "mistaken": replace(_WORLD.student, writer=replace(_STUDENT, operators=(1.0, 1.0, 1.0), misbelieved=0.15)),
    "careless": lab.world("strong-prior").student,
    "demo": _WORLD.student,
}
"""The first never saw a product; the second believes three facts in twenty wrongly; "careless" knows every operator and
writes two steps in five wrong, and is the control's. "demo" ships, for a study that is over in minutes."""
TEACHERS: dict[str, Model] = {
    "blunt": _WORLD.teacher,
    "sharp": replace(_WORLD.teacher, writer=replace(_TEACHER, slips=0.01)),
    "wrong": replace(_WORLD.teacher, writer=replace(_TEACHER, slips=0.03, misbelieved=0.08)),
}
"""By the text that they are pre-trained on: one step in ten is wrong, at random; one in a hundred is; or about one
fact in twelve is wrong each time, so that the teacher is wrong at temperature 0 too."""


@dataclass(frozen=True)
class Setting:
    """One combination of rows, student and teacher.

    Attributes:
        noise: share of wrong steps in the rows.
        student, teacher: names in `STUDENTS` and `TEACHERS`; "" where no arm has a teacher.
    """

    noise: float
    student: str
    teacher: str = ""

    @property
    def name(self) -> str:
        return f"{self.rows}-{self.teacher}" if self.teacher else self.rows

    @property
    def rows(self) -> str:
        """What methods without a teacher depend on: settings that differ in the teacher alone share their runs."""
        return f"noise{self.noise:g}-{self.student}"

    @property
    def is_control(self) -> bool:
        return self.student == "careless"

    @property
    def world(self) -> World:
        """The world of the lab: all settings share questions, number of rows and base learning rate."""
        return replace(
            _WORLD,
            demonstrator=replace(_WORLD.demonstrator, slips=self.noise),
            student=STUDENTS[self.student],
            teacher=TEACHERS[self.teacher] if self.teacher else _WORLD.teacher,
        )


CONTROL_SETTING = Setting(0.3, "careless", "blunt")
"""Its student's greedy answers are right before any training."""
TWELVE: tuple[Setting, ...] = tuple(
    Setting(noise, student, teacher)
    for teacher, noise, student in product(("blunt", "sharp", "wrong"), (0.3, 0.0), ("ignorant", "mistaken"))
)
"""In the order in which they are run."""
DEMO_SETTING = Setting(0.3, "demo", "blunt")
"""Its student and teacher ship."""
SETTINGS: tuple[Setting, ...] = (*TWELVE, CONTROL_SETTING)
