"""Commands in a process of their own, killed at a moment of their progress: the n-th event that an audit hook sees.

Events are of any kind (a file opened, a module imported, a tensor made), so they go on while a step is computed, and
the n-th of a command is the same on a busy machine and on an idle one.
"""

import gc
import importlib
import mmap
import os
import random
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from job.stopped import ended

CHAOS = bool(os.environ.get("QTARGET_CHAOS"))
"""Whether many moments are looked at, and not only some."""


class EventCount:
    """A number that a child process counts up and its parent reads, whatever became of the child."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)

    def add(self) -> int:
        struct.pack_into("q", self._shared, 0, self.value + 1)
        return self.value

    @property
    def value(self) -> int:
        return struct.unpack_from("q", self._shared)[0]


class KilledAt(NamedTuple):
    """`kill -9` at the n-th event of a process, 1 being the first; at 0 never, to count them."""

    moment: int
    events: EventCount

    def __str__(self) -> str:
        return f"at event {self.moment}"

    def install(self) -> None:
        process = os.getpid()
        gc.freeze()  # what the parent had is not looked at again by every `gc.collect`

        def hook(name: str, arguments: tuple) -> None:
            if os.getpid() == process and self.events.add() == self.moment:
                os.kill(process, signal.SIGKILL)

        sys.addaudithook(hook)


class KilledAfter(NamedTuple):
    """An end as by `kill -9` after so many seconds of the processor's time, wherever the process is, in C code too."""

    seconds: float

    def __str__(self) -> str:
        return f"after {self.seconds:.3f} s of the processor's time"

    def install(self) -> None:
        gc.freeze()
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the kernel ends the process, which hears nothing of it
        signal.setitimer(signal.ITIMER_PROF, self.seconds)


class ModulesNoted(NamedTuple):
    """Notes what a process has imported by the time it writes its last file's name into `path`."""

    path: Path

    def install(self) -> None:
        leave = os._exit

        def leaving(code: int) -> None:
            self.path.write_text("\n".join(sys.modules), encoding="utf-8")
            leave(code)

        os._exit = leaving  # type: ignore[assignment]


def warm_up(words: Sequence[str], folder: Path) -> None:
    """Run a command once, and import here what it imported, so that later ones, which are forked, need not."""
    said = ended(words, ModulesNoted(folder / "modules.txt"), folder=folder)
    assert said.code == 0, said.err
    for name in (folder / "modules.txt").read_text(encoding="utf-8").split():
        if name not in sys.modules:
            with suppress(Exception):
                importlib.import_module(name)


def killed(kill: KilledAt | KilledAfter, words: Sequence[str], folder: Path) -> bool:
    """Run a command that is killed; False if it had ended before."""
    said = ended(words, kill, folder=folder)
    assert said.code in (0, -signal.SIGKILL, -signal.SIGPROF), said.err
    return said.code != 0


def kills(words: Sequence[str], folder: Path, rng: random.Random, count: int, timed: int = 0) -> list:
    """Run a command to its end, and draw moments at which it is to be killed, uniformly from all that it has.

    Args:
        count: moments, as numbers of events.
        timed: further moments, as seconds of the processor's time.
    """
    events, before = EventCount(), _child_seconds()
    said = ended(words, KilledAt(0, events), folder=folder)
    assert said.code == 0, said.err
    seconds = _child_seconds() - before
    at_events = [KilledAt(moment, EventCount()) for moment in rng.sample(range(1, events.value + 1), count)]
    return [*at_events, *(KilledAfter(rng.uniform(0, seconds)) for _ in range(timed))]


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
