"""Branches of a run: one that goes back to an earlier checkpoint leaves what was written behind it.

Each checkpoint's manifest holds the line of branches that led to it. Branches of a folder are numbered in the order in
which they began, so the line of the highest number is the one that was written last. Clocks are not asked.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qtarget.disk.seal import SEAL, read_seal

BRANCHES = "branches"


class Branch(NamedTuple):
    """Steps that were run one behind the other.

    Attributes:
        number: which branch of its folder it is, in the order in which they began; 0 where that was not written yet.
        after: the step behind which it begins.
    """

    number: int
    after: int


Line = tuple[Branch, ...]
"""The branches that led to a step, each of them up to where the next begins."""


def line_in(facts: Mapping[str, Any]) -> Line:
    """The line that the manifest of a checkpoint tells."""
    return tuple(Branch(int(number), int(after)) for number, after in facts.get(BRANCHES, [(0, 0)]))


def branches_to(checkpoint: Path) -> Line | None:
    """The line of a checkpoint; None without a manifest that can be read."""
    try:
        return line_in(read_seal(checkpoint).facts) if (checkpoint / SEAL).is_file() else None
    except (ValueError, TypeError):
        return None


def latest(lines: Iterable[Line | None]) -> Line:
    """Of lines the one whose last branch began last; empty where there is none."""
    return max((line for line in lines if line), key=lambda line: line[-1].number, default=())


def step_left_behind(own: Line | None, step: int, line: Line) -> int | None:
    """The step to which a run went back after a checkpoint was written that is none of its line; None for one that is,
    and where nothing is known.

    Args:
        own: the line of the checkpoint.
        step: its step.
        line: the one that was written last.
    """
    if not own or not line:
        return None
    common = next((place for place, (one, other) in enumerate(zip(own, line, strict=False)) if one != other), None)
    place = min(len(own), len(line)) if common is None else common
    if place == len(own) and (place == len(line) or step <= line[place].after):
        return None
    return line[place].after if place < len(line) else own[place].after
