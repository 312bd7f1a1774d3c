"""A grader as a user writes it: its name, and the settings that its class takes."""

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from qtarget.evaluate.grading import GRADERS
from qtarget.evaluate.nouns import Grader

OF_TASKS = {
    "lab": "for the lab's questions write --task lab-weak-operator, and for answers written as its are "
    "--grade 'regex:answer\\s+(\\S+)'",
    "reasoning-gym": "for its questions write --task reasoning-gym:NAME, as in --task reasoning-gym:chain_sum",
}
"""Graders that need what rows of one's own do not have, with what to write instead."""


def parse_grader(word: str, folder: Path | None = None) -> tuple[str, dict[str, Any]]:
    """Name and settings of ``NAME``, ``regex:PATTERN`` or ``python:FILE:FUNCTION``.

    Args:
        folder: from which FILE is; None for the present one.

    Raises:
        ValueError: an unknown name, or a python grader without file or function.
    """
    name, _, rest = word.partition(":")
    if name in OF_TASKS:
        raise ValueError(f"{name!r} grades the tasks of that name alone; {OF_TASKS[name]}. {_write_one_of()}")
    if name not in GRADERS or (rest and name not in ("regex", "python")):
        near = get_close_matches(name, _own_graders(), n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"Unknown grader {word!r}. {hint}{_write_one_of()}")
    if name != "python":
        return name, {"pattern": rest} if rest else {}
    file, _, function = rest.rpartition(":")
    if rest and not (file and function):
        raise ValueError(f"--grade {word} was given; write python:FILE:FUNCTION, as in python:grade.py:is_right.")
    whole = ((folder or Path()) / Path(file).expanduser()).absolute()
    return name, {"file": str(whole), "function": function} if rest else {}


def _own_graders() -> list[str]:
    return [name for name in GRADERS if name not in OF_TASKS]


def _write_one_of() -> str:
    return f"Write one of: {', '.join(_own_graders())}, as python:FILE:FUNCTION."


def make_grader(name: str, settings: Mapping[str, Any]) -> Grader:
    """A grader of that name.

    Raises:
        ValueError: settings that it does not have, that it lacks, or of another type: all of them.
    """
    made = GRADERS[name]
    known = inspect.signature(made).parameters
    faults = [_unknown_setting(key, known) for key in settings if key not in known]
    faults += [f"it needs `{key}`" for key, one in known.items() if one.default is one.empty and key not in settings]
    hints = get_type_hints(made.__init__) if inspect.isclass(made) else {}
    parsed = dict[str, Any]()
    for key in settings.keys() & known.keys():
        try:
            parsed[key] = _parsed(key, hints.get(key, Any), settings[key])
        except ValueError as why:
            faults.append(f"`{key}={settings[key]}`: {why}")
    if faults:
        raise ValueError(f"The grader {name!r} cannot be made so: {'; '.join(faults)}.")
    return made(**parsed)


def _unknown_setting(key: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(f'`{name}`' for name in known) or 'none'}"
    return f"it has no setting `{key}` ({hint})"


def _parsed(key: str, hint: Any, value: Any) -> Any:
    """A setting as its type: a file of YAML or a flag may give "no" for False and "0.01" for 0.01.

    Raises:
        ValueError: why it is not of that type, and what to write.
    """
    numbers = {one for one in (hint, *get_args(hint)) if one in (int, float)}
    try:
        if isinstance(value, bool) and numbers:
            raise ValueError("it is no number")
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        why = error.errors()[0]["msg"]
    except ValueError as error:
        why = str(error)
    as_this = f"`{key}: true` or `{key}: false`" if hint is bool else f"a number, as `{key}: 1`" if numbers else ""
    raise ValueError(f"{why}; write {as_this}" if as_this else why)
