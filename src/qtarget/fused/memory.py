"""How much memory is free, where that can be known cheaply."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

PROC, SYS = Path("/proc"), Path("/sys")
"""Where Linux says what the machine and this process's control groups have; tests put trees of their own here."""
V1, V2 = ("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current")
"""Files of a control group: its limit, and what its processes use."""
NO_LIMIT = 2**60
"""Version 1 writes a number where version 2 writes "max"."""


class LimitedGroup(NamedTuple):
    """A control group with a limit on memory: its bytes, and the files that say what is used and what of it is cached
    file contents.
    """

    limit: int
    usage: Path
    stat: Path


def free_bytes(device: torch.device) -> int | None:
    """Bytes that could be allocated on a device now; None where nothing says so.

    Of an NVIDIA GPU, what the driver and torch's own cache have. Of a Linux machine, what is available on it, or less
    where a control group that this process is in (a container, a batch job) leaves less.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return min(_free_on_this_machine(), default=None) if device.type == "cpu" else None


def _free_on_this_machine() -> Iterator[int]:
    with suppress(OSError):
        meminfo = (PROC / "meminfo").read_text(encoding="utf-8")
        if available := re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE):
            yield 1024 * int(available[1])
    for group in _limited_groups(PROC, SYS):
        with suppress(OSError):
            used = int(group.usage.read_text(encoding="utf-8"))
            yield max(group.limit - used + _reclaimable(group), 0)


def _reclaimable(group: LimitedGroup) -> int:
    """Bytes of a group's use that are cached files which nobody has read lately: the kernel drops them when asked."""
    with suppress(OSError):
        stat = group.stat.read_text(encoding="utf-8")
        if inactive := re.search(r"^(?:total_)?inactive_file (\d+)$", stat, re.MULTILINE):
            return int(inactive[1])
    return 0


@cache
def _limited_groups(proc: Path, sys: Path) -> tuple[LimitedGroup, ...]:
    """Those of this process, looked up once: the loss asks for free memory at every call."""
    groups = []
    for group, (limit, usage) in _control_groups(proc, sys):
        with suppress(OSError, ValueError):  # no such file, or "max": no limit
            number = int((group / limit).read_text(encoding="utf-8"))
            if number < NO_LIMIT:
                groups.append(LimitedGroup(number, group / usage, group / "memory.stat"))
    return tuple(groups)


def _control_groups(proc: Path, sys: Path) -> Iterator[tuple[Path, tuple[str, str]]]:
    """The directories of the groups this process is in, inner ones first, and the names of their files.

    A line of /proc/self/cgroup is "number:controllers:path". Version 2 has a single line without controllers; version 1
    has one for memory. In a container the path may be the host's and lead nowhere: the root of the mount is its own.
    """
    with suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                yield from ((group, V2) for group in _upwards(sys / "fs" / "cgroup", path))
            elif "memory" in controllers.split(","):
                yield from ((group, V1) for group in _upwards(sys / "fs" / "cgroup" / "memory", path))


def _upwards(root: Path, path: str) -> Iterator[Path]:
    group = root / path.strip("/")
    yield from (place for place in (group, *group.parents) if place == root or root in place.parents)
