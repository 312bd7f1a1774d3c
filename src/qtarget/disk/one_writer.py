"""A folder that one process at a time may write to."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from qtarget.disk.files import remove_drafts

LOCK, HOLDER = ".lock", ".writer"


class SecondWriterError(ValueError):
    """A process would be the second that writes to a folder; it did nothing."""


@contextmanager
def one_writer(folder: Path) -> Iterator[Callable[[], None]]:
    """Lock a folder for writing, and delete what a killed writer left unfinished in it.

    The system releases the lock when the process ends, however it ends. It holds the lock's file, and not its name: the
    block is given a function that raises the error below once the folder was removed or replaced.

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
    held = (folder / LOCK).stat()
    try:
        remove_drafts(folder, LOCK)
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        (folder / HOLDER).write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}", encoding="utf-8")
        yield lambda: _check_held(folder, held)
    finally:
        if _is_there(folder, held):  # else the note is another's
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _check_held(folder: Path, held: os.stat_result) -> None:
    if not _is_there(folder, held):
        raise SecondWriterError(
            f"{folder} was removed or replaced while this process was writing into it, so another may write there now. "
            "Nothing more is written: what is there is not of this process."
        )


def _is_there(folder: Path, held: os.stat_result) -> bool:
    """Whether the lock of a folder is still the file that was locked."""
    try:
        return os.path.samestat((folder / LOCK).stat(), held)
    except FileNotFoundError:
        return False


def _holder(folder: Path) -> str:
    """Who wrote the note beside the lock, as far as it is there yet."""
    with suppress(OSError, UnicodeDecodeError):
        return (folder / HOLDER).read_text(encoding="utf-8") or "another process"
    return "another process"
