"""The settings: what is demonstrated, who learns, who teaches."""

from dataclasses import dataclass, replace
from itertools import product

from qtarget import lab
from qtarget.lab import World
from qtarget.lab.worlds import Model


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


WIDTHS: dict[int, dict[str, int]] = {
    32: {"width": 32, "layers": 2, "heads": 2, "feed_forward": 64},
    48: {"width": 48, "layers": 2, "heads": 4, "feed_forward": 96},
    64: {},
    96: {"width": 96, "layers": 3, "heads": 4, "feed_forward": 192},
}
"""Students' sizes; 64 is the shipped one."""
SMALL = 48
"""Students up to this width go to school twice as long, or else they add and subtract badly."""


def _sized(model: Model, width: int) -> Model:
    longer = {"school_steps": 2 * model.school_steps} if width <= SMALL else {}
    return replace(model, **WIDTHS[width], **longer)


def _setting(group: str, name: str, width: int) -> Setting:
    world = lab.world(name)
    sized = replace(world, student=_sized(world.student, width))
    return Setting(f"{group}-{width}", group, f"width {width}", sized)


STUDY: tuple[Setting, ...] = (
    *(_setting("noisy", "strong-prior", width) for width in (48, 64, 96)),
    *(_setting("paraphrased", "paraphrased", width) for width in (48, 64, 96)),
    *(_setting("weak", "weak-operator", width) for width in (32, 48, 64, 96)),
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
    changed = replace(world, demonstrator=demonstrator, student=student, teacher=teacher, fine_tuning_steps=150)
    label = f"noise {noise:g}, products {times:g}, teacher's slips {slips:g}"
    return Setting(f"noise{noise:g}-products{times:g}-slips{slips:g}", "sweep", label, changed)


SWEEP: tuple[Setting, ...] = tuple(_cell(*cell) for cell in product(NOISES, TIMES, TEACHER_SLIPS))
"""Noise of the demonstrations by the student's knowledge of products by the teacher's carefulness."""
