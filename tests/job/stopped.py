"""Commands in a process of their own, forked from this one with its imports, that send themselves signals."""

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from qtarget.cli.main import main

HANGS_AFTER = 1200
"""Seconds after which a command that has not ended says where it is, and ends."""


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Signalling(NamedTuple):
    """A signal that the process sends itself at the `call`-th call of a function of a library, 0 being the first.

    Attributes:
        times: how many, one directly after the other.
        where: of the call's arguments; calls of others are not counted.
    """

    owner: Any
    name: str
    call: int = 0
    number: int = signal.SIGINT
    times: int = 1
    where: Callable[..., bool] = lambda *args, **kwargs: True

    def install(self) -> None:
        function, calls = getattr(self.owner, self.name), []

        @wraps(function)  # the trainer looks at what its parts take
        def calling(*args: Any, **kwargs: Any) -> Any:
            if self.where(*args, **kwargs):
                calls.append(None)
                for _ in range(self.times if len(calls) == self.call + 1 else 0):
                    os.kill(os.getpid(), self.number)
            return function(*args, **kwargs)

        setattr(self.owner, self.name, calling)


class HeldBehind(NamedTuple):
    """The process stops, as by Ctrl-Z, once a file of this name has been put in its place."""

    name: str

    def install(self) -> None:
        replace = os.replace

        def replacing(draft: Any, target: Any) -> None:
            replace(draft, target)
            if Path(target).name == self.name:
                os.kill(os.getpid(), signal.SIGSTOP)

        os.replace = replacing


Work = Sequence[str] | Callable[[], object]
"""The words of a command of `qtarget`, or a function."""


def ended(words: Sequence[str], *signals: Signalling, folder: Path) -> Ended:
    """Run a command in a child process until it ends; a negative code is the signal that killed it."""
    return end_of(started(words, *signals, folder=folder), folder)


def started(words: Work, *signals: Signalling, folder: Path) -> int:
    """Start a command in a child process, which writes what it prints into a folder; returns its number."""
    child = os.fork()
    if child == 0:
        run_and_exit(words, signals, folder / "stdout.txt", folder / "stderr.txt")
    return child


def held(words: Work, name: str, folder: Path) -> int:
    """Start a command that is held once a file is there: it cannot end before it is looked at, however long that takes.

    SIGCONT lets it go on.
    """
    child = started(words, HeldBehind(name), folder=folder)
    _, status = os.waitpid(child, os.WUNTRACED)
    assert os.WIFSTOPPED(status), (folder / "stderr.txt").read_text("utf-8")
    return child


def end_of(child: int, folder: Path) -> Ended:
    """Wait until a child process ends."""
    _, status = os.waitpid(child, 0)
    said = ((folder / name).read_text("utf-8") for name in ("stdout.txt", "stderr.txt"))
    return Ended(os.waitstatus_to_exitcode(status), *said)


def take_own_locks(bar: type[tqdm]) -> None:
    """Give a kind of progress bars, and all kinds of it, a lock of this process's own: the parent's is a semaphore that
    it shares with its children, also with one that was killed while it held it.
    """
    bar.set_lock(threading.RLock())
    for kind in bar.__subclasses__():
        take_own_locks(kind)


def run_and_exit(work: Work, signals: Sequence[Any], out: Path, err: Path) -> None:
    """Run it with all that it prints in files, and end this process."""
    code = 99
    take_own_locks(tqdm)
    try:
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, encoding="utf-8", closefd=False) for number in (1, 2))
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
        for handled in (signal.SIGINT, signal.SIGTERM):
            signal.signal(handled, signal.default_int_handler if handled == signal.SIGINT else signal.SIG_DFL)
        for each in signals:
            each.install()
        work() if callable(work) else main(list(work))
        code = 0
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError):  # a full disk, which a test makes
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
