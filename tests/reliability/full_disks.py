"""A disk that is full: from the n-th event on at which a file is made or renamed, or for every file beyond a size."""

import errno
import gc
import os
import resource
import sys
from pathlib import Path
from typing import NamedTuple

from reliability.moments import EventCount

NEEDS_ROOM = {"open", "os.mkdir", "os.rename"}
"""Events that fail on a full disk; deleting does not."""


class FullFrom(NamedTuple):
    """From the n-th event inside a folder on, 1 being the first, nothing is written there any more; at 0 never.

    Files that were open by then can be written to: `LimitedFiles` is for those.
    """

    event: int
    folders: tuple[Path, ...]
    events: EventCount

    def __str__(self) -> str:
        return f"from event {self.event} on"

    def install(self) -> None:
        gc.freeze()

        def hook(name: str, arguments: tuple) -> None:
            if name in NEEDS_ROOM and self._is_inside(arguments) and _writes(name, arguments):
                number = self.events.add()
                if 0 < self.event <= number:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

        sys.addaudithook(hook)

    def _is_inside(self, arguments: tuple) -> bool:
        paths = [os.path.abspath(os.fsdecode(each)) for each in arguments[:2] if isinstance(each, str | bytes | Path)]
        return any(path.startswith(str(folder)) for path in paths for folder in self.folders)


class LimitedFiles(NamedTuple):
    """No file of the process may be larger than so many bytes: the write that would make it larger fails."""

    size: int

    def __str__(self) -> str:
        return f"for files beyond {self.size:,} bytes"

    def install(self) -> None:
        gc.freeze()
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))


def _writes(name: str, arguments: tuple) -> bool:
    """Whether an event needs room: of files that are opened only those opened for writing do."""
    if name != "open":
        return True
    mode, flags = arguments[1], arguments[2]
    return any(letter in str(mode or "") for letter in "wax+") or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))
