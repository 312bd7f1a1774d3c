"""A lock that a process shares with the commands it starts: killed, it leaves a file locked until they have ended.

A command takes the file's handle as its standard input. Of all open files that is the one which launchers, such as
accelerate's and torch's, pass on to the processes that they start, while they close any other. The command that is
meant then takes it from there, so that what it starts itself, and may leave behind, does not hold the lock."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_SECONDS = 0.2


LOCK_IS_STDIN = "QTARGET_LOCK_IS_STDIN"
"""The variable by which a command knows that its standard input is a lock."""


def take_lock_from_stdin() -> None:
    """Hold a lock that came as standard input by a handle which no program that this process starts gets, until the
    process ends; standard input is empty then."""
    if os.environ.pop(LOCK_IS_STDIN, None):
        os.dup(0)
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)


@contextmanager
def inherited_lock(path: Path) -> Iterator[int | None]:
    """Lock a file, which is made where it is not there. The system releases it when all that hold its handle have
    ended, however they end; on a file system that other machines share, where that one keeps locks between machines.

    Yields:
        The file's handle, for `subprocess.Popen(stdin=...)`; None where another process holds the lock.
    """
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield handle
    finally:
        os.close(handle)


@contextmanager
def awaited_lock(path: Path, say: Callable[[str], None]) -> Iterator[int]:
    """The same, once nobody else holds it.

    Args:
        say: told once, where it has to be waited for.
    """
    is_told = False
    while True:
        with inherited_lock(path) as handle:
            if handle is not None:
                yield handle
                return
        if not is_told:
            say(waiting_words(path.parent))
            is_told = True
        time.sleep(WAIT_SECONDS)


def waiting_words(folder: Path) -> str:
    """What is said while another process holds a folder's lock."""
    return f"another process works in {folder}, perhaps a command of one that was killed; waiting for its end"
