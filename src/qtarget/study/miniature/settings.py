"""The settings: what is demonstrated, who learns, who teaches."""

from dataclasses import dataclass, replace
from itertools import product

from qtarget import lab
from qtarget.lab import World


@dataclass(frozen=True)
class Setting:
    """A world, its student and teacher perhaps of other sizes and skills than the shipped ones.

    Attributes:
        name: unique among settings.
        group: settings of a group are shown side by side.
        label: tells it within its group.
    """

    name: str
    group: str
    label: str
    world: World


_STEPS = 150
"""Of every fine-tuning; in the weak world half of what the demo takes, so that ten settings fit an afternoon."""
SIZES: dict[str, dict[str, int]] = {
    "48 wide": {"width": 48, "feed_forward": 192, "school_steps": 800},
    "64 wide": {},
    "2 layers": {"layers": 2, "school_steps": 800},
    "80 wide": {"width": 80, "feed_forward": 160, "school_steps": 800},
}
"""Students; the one that ships is 64 wide, with 3 layers. The others go to school longer, or else they hardly add."""


def _setting(group: str, name: str, size: str) -> Setting:
    world = lab.world(name)
    sized = replace(world, student=replace(world.student, **SIZES[size]), fine_tuning_steps=_STEPS)
    return Setting(f"{group}-{size.replace(' ', '-')}", group, size, sized)


THREE = ("48 wide", "64 wide", "80 wide")
STUDY: tuple[Setting, ...] = (
    *(_setting("noisy", "strong-prior", size) for size in THREE),
    *(_setting("paraphrased", "paraphrased", size) for size in THREE),
    *(_setting("weak", "weak-operator", size) for size in SIZES),
)
"""Ten settings, as the paper has: two bodies of data on three students each, and one on four."""

NOISES = (0.0, 0.2, 0.4)
TIMES = (0.0, 0.015, 1.0)
TEACHER_SLIPS = (0.03, 0.1, 0.3)


def _cell(noise: float, times: float, slips: float) -> Setting:
    """A cell of the sweep; `times`: how often the student saw a product, beside a sum."""
    world = lab.world("weak-operator")
    student = replace(world.student, writer=replace(world.student.writer, operators=(1.0, 1.0, times)))
    teacher = replace(world.teacher, writer=replace(world.teacher.writer, slips=slips))
    demonstrator = replace(world.demonstrator, slips=noise)
    changed = replace(world, demonstrator=demonstrator, student=student, teacher=teacher, fine_tuning_steps=100)
    label = f"noise {noise:g}, products {times:g}, teacher's slips {slips:g}"
    return Setting(f"noise{noise:g}-products{times:g}-slips{slips:g}", "sweep", label, changed)


SWEEP: tuple[Setting, ...] = tuple(_cell(*cell) for cell in product(NOISES, TIMES, TEACHER_SLIPS))
"""Noise of the demonstrations by the student's knowledge of products by the teacher's carefulness."""
