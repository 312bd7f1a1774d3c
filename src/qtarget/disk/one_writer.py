"""A folder that one process at a time may write to."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from qtarget.disk.files import remove_drafts

LOCK, HOLDER = ".lock", ".writer"


class SecondWriterError(ValueError):
    """A process would be the second that writes to a folder; it did nothing."""


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Lock a folder for writing, and delete what a killed writer left unfinished in it.

    The system releases the lock when the process ends, however it ends.

    Raises:
        SecondWriterError: another process holds the lock; names the folder, the process, and what to do.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SecondWriterError(
            f"{folder} is being written by {_holder(folder)}. Wait until it has finished, or stop it; a process that "
            "was killed holds nothing."
        ) from error
    try:
        remove_drafts(folder, LOCK)
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        (folder / HOLDER).write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}", encoding="utf-8")
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    """Who wrote the note beside the lock, as far as it is there yet."""
    with suppress(OSError, UnicodeDecodeError):
        return (folder / HOLDER).read_text(encoding="utf-8") or "another process"
    return "another process"
