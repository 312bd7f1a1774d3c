"""A lock that a process shares with the commands it starts: killed, it leaves a file locked until they have ended."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_SECONDS = 0.2


@contextmanager
def inherited_lock(path: Path) -> Iterator[int | None]:
    """Lock a file, which is made where it is not there. The system releases it when all that hold its handle have
    ended, however they end; on a file system that other machines share, where that one keeps locks between machines.

    Yields:
        The file's handle, for `subprocess.Popen(pass_fds=...)`; None where another process holds the lock.
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
def awaited_lock(path: Path) -> Iterator[int]:
    """The same, once nobody else holds it."""
    while True:
        with inherited_lock(path) as handle:
            if handle is not None:
                yield handle
                return
        time.sleep(WAIT_SECONDS)
