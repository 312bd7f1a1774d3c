"""One writer at a time."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

LOCK, HOLDER = ".lock", ".writer"


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for writing. The system frees it when the process ends, however it ends.

    Raises:
        ValueError: another process holds it.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"{folder} is being written by {_holder(folder)}. Wait until it has finished, or stop it; a process that "
            "was killed holds nothing."
        ) from error
    try:
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        (folder / HOLDER).write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}", encoding="utf-8")
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    with suppress(OSError):
        return (folder / HOLDER).read_text(encoding="utf-8") or "another process"
    return "another process"
