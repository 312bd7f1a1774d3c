"""Folders that this process, or the one that it works for, has locked: nothing is written into one that was replaced.

A system's lock holds a file and not its name, so a folder may be removed and made anew under a writer's feet.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK, HOLDER = ".lock", ".writer"
_HELD: dict[str, list[os.stat_result]] = {}
"""What the lock's file is of each folder that is held, by the folder's real path; for each block that holds it."""


class SecondWriterError(ValueError):
    """A process would be the second that writes to a folder; it did nothing."""


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """While the block runs, what is written into a folder is refused once its lock is another file than now.

    Raises:
        FileNotFoundError: there is no lock in it.
    """
    name, held = os.path.realpath(folder), (folder / LOCK).stat()
    _HELD.setdefault(name, []).append(held)
    try:
        yield
    finally:
        _HELD[name] = [each for each in _HELD[name] if each is not held]
        if not _HELD[name]:
            del _HELD[name]


def check_not_replaced(path: Path) -> None:
    """Refuse to write a file in a folder that was removed or replaced since it was locked.

    Raises:
        SecondWriterError: names the folder.
    """
    if not _HELD:
        return
    for folder in (path, *path.parents):
        held = _HELD.get(os.path.realpath(folder), ())
        if held and not any(is_same_lock(folder, each) for each in held):
            raise replaced_folder_error(folder)


def replaced_folder_error(folder: Path) -> SecondWriterError:
    """What is said of a folder that was removed or replaced since it was locked."""
    return SecondWriterError(
        f"{folder} was removed or replaced while this process was writing into it, so another may write there "
        "now. Nothing more is written: what is there is not of this process."
    )


def is_same_lock(folder: Path, held: os.stat_result) -> bool:
    """Whether the lock of a folder is still the file that was locked."""
    try:
        return os.path.samestat((folder / LOCK).stat(), held)
    except (FileNotFoundError, NotADirectoryError):
        return False
