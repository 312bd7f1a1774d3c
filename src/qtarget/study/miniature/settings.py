"""The settings of the study and of its sweep: what is demonstrated, which student learns, which teacher helps."""

from dataclasses import dataclass, replace
from itertools import product

from qtarget import lab
from qtarget.lab import World


@dataclass(frozen=True)
class Setting:
    """A world of the lab; its student and teacher may differ from the shipped ones in size and skill.

    Attributes:
        name: unique among settings, and the name of its folder of results.
        group: settings of a group are shown side by side.
        label: what distinguishes it within its group.
    """

    name: str
    group: str
    label: str
    world: World


_STEPS = 150
"""Optimizer steps of a fine-tuning; in the weak world half the demo's, so that ten settings take an afternoon."""
SIZES: dict[str, dict[str, int]] = {
    "48 wide": {"width": 48, "feed_forward": 192, "school_steps": 800},
    "64 wide": {},
    "2 layers": {"layers": 2, "school_steps": 800},
    "80 wide": {"width": 80, "feed_forward": 160, "school_steps": 800},
}
"""Students. The one that ships is 64 wide, with 3 layers; the others need longer pre-training to learn to add."""


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
    """A setting of the sweep.

    Args:
        noise: share of wrong steps in the demonstrations.
        times: how often the student saw a product in pre-training, for each sum.
        slips: share of wrong steps in the text that the teacher was pre-trained on.
    """
    world = lab.world("weak-operator")
    student = replace(world.student, writer=replace(world.student.writer, operators=(1.0, 1.0, times)))
    teacher = replace(world.teacher, writer=replace(world.teacher.writer, slips=slips))
    demonstrator = replace(world.demonstrator, slips=noise)
    changed = replace(world, demonstrator=demonstrator, student=student, teacher=teacher, fine_tuning_steps=100)
    label = f"noise {noise:g}, products {times:g}, teacher's slips {slips:g}"
    return Setting(f"noise{noise:g}-products{times:g}-slips{slips:g}", "sweep", label, changed)


SWEEP: tuple[Setting, ...] = tuple(_cell(*cell) for cell in product(NOISES, TIMES, TEACHER_SLIPS))
"""27 settings: every combination of `NOISES`, `TIMES` and `TEACHER_SLIPS`."""
