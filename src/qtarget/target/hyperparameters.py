"""What a hyperparameter may be, written beside it in a method's signature, and checked when a method is made by
name.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, get_type_hints

RAMP_SHAPES = ("linear", "cosine")
RAMP_ALONG = (
    "progress", "position", "p_y", "reference_p_y", "teacher_p_y", "agreement", "uncertainty", "reference_uncertainty",
    "teacher_uncertainty",
)  # fmt: skip
"""What a schedule may look like and run along; `target/changing.py` says what each is."""


class Within(NamedTuple):
    """A number in [low, high]; with `total` also a sequence of them whose sum is at most that.

    Attributes:
        changes: whether a schedule, or the name of a statistic from 0 to 1, may stand in a number's place.
    """

    low: float
    high: float
    about: str
    open_low: bool = False
    total: float | None = None
    changes: bool = False

    def problem(self, value: Any) -> str | None:
        each = value if self.total is not None and _is_sequence(value) else [value]
        if not len(each):
            return "at least one number"
        for one in each:
            if problem := self._problem_of_one(one):
                return problem
        return None if self.total is None or not _is_sequence(value) else self._problem_of_sum(each)

    def _problem_of_sum(self, each: Sequence[Any]) -> str | None:
        """Of numbers and schedules; those that go the same way are added at both its ends, between which their sum
        lies, and others at the most that each comes to."""
        assert self.total is not None
        ways: dict[Any, tuple[float, float]] = {}
        for place, one in enumerate(each):
            way, start, end = self._way(one, place)
            before = ways.get(way, (0.0, 0.0))
            ways[way] = before[0] + start, before[1] + end
        most = sum(map(max, ways.values()))
        if most <= self.total + 1e-9:
            return None
        comes = "they come to" if len(ways.keys() - {_STILL}) < 2 else "they may come to"
        apart = "" if comes == "they come to" else ", for only schedules of equal shape, along and until cross over"
        return f"numbers whose sum is at most {self.total:g} ({comes} {most:g}{apart})"

    def _way(self, one: Any, place: int) -> tuple[Any, float, float]:
        """What a number or a schedule moves along, and where it starts and ends there."""
        if isinstance(one, str):
            return ("linear", one, 1.0), 0.0, 1.0
        if not isinstance(one, Mapping):
            return _STILL, one, one
        ends = one["from"], one["to"]
        if any(isinstance(end, str) for end in ends):
            most = max(self.high if isinstance(end, str) else end for end in ends)
            return place, most, most
        return (one.get("shape", "linear"), one.get("along", "progress"), one.get("until", 1.0)), *ends

    def _problem_of_one(self, value: Any) -> str | None:
        if self.changes and isinstance(value, Mapping):
            return self._problem_of_schedule(value)
        if self._holds(value) or (self.changes and value in RAMP_ALONG):
            return None
        near = f", or a statistic ({suggestion(value, RAMP_ALONG)})" if self.changes and isinstance(value, str) else ""
        return f"a number in {self.interval}{near}"

    def _problem_of_schedule(self, given: Mapping[str, Any]) -> str | None:
        unknown = [key for key in given if key not in _SCHEDULE]
        if unknown:
            return (
                f"a schedule without {unknown[0]!r}, which is no part of one ({suggestion(str(unknown[0]), _SCHEDULE)})"
            )
        for key in ("from", "to"):
            if key not in given:
                return f"a schedule with {key!r}"
            if not self._holds(given[key]) and given[key] not in RAMP_ALONG:
                return f"a schedule whose {key!r} is a number in {self._range}, or one of {', '.join(RAMP_ALONG)}"
        for key, known in (("shape", RAMP_SHAPES), ("along", RAMP_ALONG)):
            if given.get(key, known[0]) not in known:
                return f"a schedule whose {key!r} is one of {', '.join(known)}"
        until = given.get("until", 1.0)
        return None if _is_number(until) and 0 < until <= 1 else "a schedule whose 'until' is a number in (0, 1]"

    def _holds(self, value: Any) -> bool:
        inside = _is_number(value) and self.low <= value <= self.high
        return inside and not (self.open_low and value == self.low)

    @property
    def schedule(self) -> dict[str, float]:
        """One that every such hyperparameter may have."""
        ends = {"from": self.high / 2 if self.open_low else self.low, "to": self.high}
        return {name: int(end) if float(end).is_integer() else end for name, end in ends.items()}

    @property
    def _range(self) -> str:
        return f"{'(' if self.open_low else '['}{self.low:g}, {self.high:g}]"

    @property
    def interval(self) -> str:
        return f"{self._range} or a schedule" if self.changes else self._range


_STILL = "still"
"""The way of a number that stays."""
_SCHEDULE = ("from", "to", "shape", "along", "until")


class Count(NamedTuple):
    """A whole number of at least `low`."""

    low: int
    about: str

    def problem(self, value: Any) -> str | None:
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= self.low
        return None if is_count else f"a whole number >= {self.low}"

    @property
    def interval(self) -> str:
        return f"{self.low}, {self.low + 1}, …"


class OneOf(NamedTuple):
    """One of a few names; positive numbers too, where `or_number`."""

    choices: tuple[Any, ...]
    about: str
    or_number: bool = False

    def problem(self, value: Any) -> str | None:
        if value in self.choices and not (value is True or value is False) ^ isinstance(self.choices[0], bool):
            return None
        if self.or_number and _is_number(value) and value > 0:
            return None
        return self.interval

    @property
    def interval(self) -> str:
        return ", ".join(repr(c) for c in self.choices) + (" or a number > 0" if self.or_number else "")


Domain = Within | Count | OneOf


class KeyValue(NamedTuple):
    """A hyperparameter and a value, as a part of a sentence."""

    name: str
    value: Any


class HyperparameterError(ValueError):
    """A hyperparameter that a method does not take; the message writes settings as Python does.

    Attributes:
        parts: of the message, in their order.
    """

    def __init__(self, *parts: str | KeyValue) -> None:
        self.parts = parts
        super().__init__(self.told(lambda name, value: f"{name}={value!r}"))

    def told(self, written: Callable[[str, Any], str]) -> str:
        """The message, with each setting as another language writes it."""
        return "".join(part if isinstance(part, str) else written(*part) for part in self.parts)


class Hyperparameter(NamedTuple):
    """One of a method's, as its factory's signature has it: name, default, and the values it may take."""

    name: str
    default: Any
    domain: Domain


def hyperparameters(factory: Callable[..., Any]) -> tuple[Hyperparameter, ...]:
    """The hyperparameters of a method's factory, from its signature."""
    hints = get_type_hints(factory, include_extras=True)
    parameters = inspect.signature(factory).parameters.values()
    return tuple(Hyperparameter(p.name, p.default, hints[p.name].__metadata__[0]) for p in parameters)


def checked(name: str, factory: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given hyperparameters over the defaults.

    Raises:
        HyperparameterError: a name the method does not have (with the near miss), or a value outside its domain.
    """
    known = {h.name: h for h in hyperparameters(factory)}
    for key, value in given.items():
        if key not in known:
            raise HyperparameterError(f'method "{name}" has no hyperparameter "{key}"; {suggestion(key, known)}')
        if isinstance(value, Mapping) and not getattr(known[key].domain, "changes", False):
            others = [h.name for h in known.values() if getattr(h.domain, "changes", False)]
            instead = f"of this method {' and '.join(others)} can" if others else "no other of this method's can"
            raise HyperparameterError(
                f'method "{name}": {key} cannot be a schedule; {instead}. Write ',
                KeyValue(key, known[key].default),
            )
        wanted = known[key].domain.problem(value)
        if wanted is not None:
            found, example = "is out of range", known[key].default
            if isinstance(value, Mapping):
                found, example = f"is no schedule that {key} takes", getattr(known[key].domain, "schedule", example)
            about = f" {found}; {key} ({known[key].domain.about}) must be {wanted}, for example "
            raise HyperparameterError(f'method "{name}": ', KeyValue(key, value), about, KeyValue(key, example))
    return {h.name: given.get(h.name, h.default) for h in known.values()}


def suggestion(word: str, known: Iterable[str]) -> str:
    """The near miss, whatever its case, and what there is."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.5)
    there = f"there is: {', '.join(names.values())}" if names else "it has none"
    return f'did you mean "{names[near[0]]}"? {there}' if near else there


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
