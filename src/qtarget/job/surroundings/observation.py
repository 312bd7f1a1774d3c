"""What `qtarget doctor` found of one thing."""

from dataclasses import dataclass
from typing import Literal

State = Literal["fine", "note", "fails"]
"""Whether a run works with it, works but should be known, or would fail."""


@dataclass(frozen=True)
class Observation:
    """One thing that was looked at.

    Attributes:
        part: what it belongs to: "versions", "devices", …
        found: in words.
        remedy: the line to write, or what to do; "" where nothing is to be done.
    """

    part: str
    name: str
    found: str
    state: State = "fine"
    remedy: str = ""
