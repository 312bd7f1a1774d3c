"""Units of work: what there is to run, and in which order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from qtarget.study.real_models.real_protocol import BASELINE_ARM, TEACHER_ARM, RealProtocol, RealSetting, TrainedArm

UnitKind = Literal["rows", "teacher", "cache", "tokens", "tuning", "test"]


@dataclass(frozen=True)
class Unit:
    """A piece of the study that is run and kept by itself: one arm trained and evaluated, or what all arms share (rows,
    teacher, its cache, the look at tokens).

    Attributes:
        rate: the learning rate of a trial on development questions; None in a test, whose rate the trials choose.
    """

    setting: str
    kind: UnitKind
    arm: str = ""
    seed: int = 0
    rate: float | None = None

    @property
    def name(self) -> str:
        """A name for the unit's file, unique within its setting."""
        seed = f"seed{self.seed}" if self.kind == "test" else ""
        rate = "" if self.rate is None else f"rate{self.rate:g}"
        return "-".join(part for part in (self.kind, self.arm, rate, seed) if part)


def units_in_order(protocol: RealProtocol) -> list[Unit]:
    """All units: each setting's first seed, with what has to come before it, then every setting's second seed, …"""
    first = [unit for setting in protocol.settings for unit in _before_test(protocol, setting)]
    rounds = max(len(setting.seeds) for setting in protocol.settings)
    more = [
        unit
        for place in range(1, rounds)
        for setting in protocol.settings
        if place < len(setting.seeds)
        for unit in _tests(protocol, setting, setting.seeds[place])
    ]
    return first + more


def _before_test(protocol: RealProtocol, setting: RealSetting) -> Iterator[Unit]:
    yield Unit(setting.name, "rows")
    yield Unit(setting.name, "test", BASELINE_ARM, setting.seeds[0])
    if has_teacher(protocol):
        if setting.teacher_decodings:
            yield Unit(setting.name, "teacher", TEACHER_ARM, setting.seeds[0])
        yield Unit(setting.name, "cache")
        yield Unit(setting.name, "tokens")
    for arm in protocol.arms:
        yield from trials_of(setting, arm)
        yield Unit(setting.name, "test", arm.name, setting.seeds[0])


def _tests(protocol: RealProtocol, setting: RealSetting, seed: int) -> Iterator[Unit]:
    yield from (Unit(setting.name, "test", arm, seed) for arm in protocol.arm_names)


def needed_before(unit: Unit, protocol: RealProtocol) -> set[Unit]:
    """The units whose results or models a unit reads: they must have ended before it begins."""
    if unit.kind == "rows":
        return set()
    setting = protocol.setting(unit.setting)
    of_setting = {each for each in units_in_order(protocol) if each.setting == unit.setting}
    kinds: set[UnitKind] = {"rows"}
    if unit.kind in ("cache", "tokens"):
        kinds.add("teacher")
    if unit.kind in ("tuning", "test") and unit.arm != BASELINE_ARM and protocol.arm(unit.arm).needs_teacher:
        kinds.add("cache")
    found = {each for each in of_setting if each.kind in kinds}
    if unit.kind == "test" and unit.arm != BASELINE_ARM:
        found |= set(trials_of(setting, protocol.arm(unit.arm)))
    return found


def has_teacher(protocol: RealProtocol) -> bool:
    """Whether some arm needs one."""
    return any(arm.needs_teacher for arm in protocol.arms)


def trials_of(setting: RealSetting, arm: TrainedArm) -> list[Unit]:
    """The trials that choose an arm's rate; none where there is one rate."""
    if len(setting.rates) == 1:
        return []
    return [Unit(setting.name, "tuning", arm.name, setting.seeds[0], rate) for rate in setting.rates]


def chosen_rate(setting: RealSetting, averages: Mapping[float, float]) -> float:
    """The rate with the highest development average, the lower one of equals.

    Args:
        averages: by rate.
    """
    return max(sorted(setting.rates), key=lambda rate: averages.get(rate, 0.0))


def development_average(result: Mapping[str, Any]) -> float:
    """The share of right answers of a trial, from its unit's result."""
    (evaluation,) = result["evaluations"].values()
    return fmean(evaluation["shares"])
