"""A folder that one process at a time may write to."""

import itertools
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from qtarget.disk.files import remove_drafts
from qtarget.disk.held_folders import HOLDER, LOCK, SecondWriterError, held_folder, is_same_lock, replaced_folder_error

LOCK_TRIES = 200
"""How often a lock is tried at once that no writer holds: who looks whether one does, by `held_by`, has it for a
moment."""


def _nobody() -> None:
    """No other processes than those that hold the lock write into the folder."""


@contextmanager
def one_writer(folder: Path, check_others: Callable[[], None] = _nobody) -> Iterator[Callable[[], None]]:
    """Lock a folder for writing, and delete what a killed writer left unfinished in it.

    The system releases the lock when the process ends, however it ends. It holds the lock's file, and not its name:
    once the folder was removed or replaced, whatever `qtarget.disk` writes into it is refused, and so is a call of the
    function that the block is given, for files that others write.

    Args:
        check_others: called under the lock, before anything is deleted; refuses by an error of its own where processes
            that hold another lock write into the folder.

    Raises:
        SecondWriterError: another process holds the lock; names the folder, the process, and what to do. Or, out of the
            block, the folder was removed or replaced.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = _locked(folder, 0.0)
    held = (folder / LOCK).stat()
    try:
        check_others()
        remove_drafts(folder, LOCK)
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        (folder / HOLDER).write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}", encoding="utf-8")
        with held_folder(folder):
            yield lambda: _check_same(folder, held)
    finally:
        if is_same_lock(folder, held):  # else the note is another's
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


@contextmanager
def locked_for_a_moment(folder: Path, patience: float) -> Iterator[None]:
    """Hold a folder's lock while the block runs, for something short that several processes may do one after another.

    Args:
        patience: seconds to wait for it.

    Raises:
        SecondWriterError: another process holds it for longer; names it.
    """
    lock = _locked(folder, patience)
    try:
        yield
    finally:
        lock.release()


def remove_unwritten(folder: Path) -> None:
    """Delete a folder with all that is in it, where it is there and no process writes into it.

    Raises:
        SecondWriterError: a process does; names it.
    """
    if folder.is_dir():
        aside = folder.with_name(f".{folder.name}.removed-{os.getpid()}")
        with locked_for_a_moment(folder, 0.0):
            folder.replace(aside)  # at once, with its lock: a writer that begins now makes a folder of its own
        shutil.rmtree(aside, ignore_errors=True)


def _locked(folder: Path, patience: float) -> BaseFileLock:
    lock = FileLock(folder / LOCK)
    for tries in itertools.count(1):
        try:
            lock.acquire(timeout=patience)
            break
        except Timeout as error:
            if patience or held_by(folder) is not None or tries == LOCK_TRIES:
                raise SecondWriterError(
                    f"{folder} is being written by {_holder(folder)}. Wait until it has finished, or stop it; a "
                    "process that was killed holds nothing."
                ) from error
        time.sleep(0.01)
    return lock


def held_by(folder: Path) -> str | None:
    """Which process is writing to a folder, in words; None where none does, as far as this machine can tell."""
    try:
        import fcntl

        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(folder)
    except (ImportError, OSError):
        return None
    return None


def _check_same(folder: Path, held: os.stat_result) -> None:
    if not is_same_lock(folder, held):
        raise replaced_folder_error(folder)


def _holder(folder: Path) -> str:
    """Who wrote the note beside the lock, as far as it is there yet."""
    with suppress(OSError, UnicodeDecodeError):
        return (folder / HOLDER).read_text(encoding="utf-8") or "another process"
    return "another process"
