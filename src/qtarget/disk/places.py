"""Folders that a command is asked to write to, tried before its work begins."""

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from qtarget.disk.os_errors import os_error_in_words

BLOCK = b"\0" * 65536
"""What is written to see whether a disk has room: more than a file's entry, less than anybody misses."""


def check_place(folder: Path, given: str, remedy: str) -> None:
    """Refuse a folder that cannot be made or written to. Nothing is left behind, and no folder is made.

    Args:
        given: what the user wrote, as "`--out runs/demo`".
        remedy: the end of the sentence, as "write another `--out`".

    Raises:
        ValueError: the folder, or one that would hold it, is a file, is read-only, is full, or has an impossible name.
    """
    text = str(folder)
    if "\0" in text:
        raise ValueError(f"{given}: a path has no null character; {remedy}.")
    try:
        _try_writing(_nearest(Path(os.path.abspath(folder.expanduser()))))
    except OSError as error:
        raise ValueError(f"{given} cannot be written to. {os_error_in_words(error)[:-1]}; {remedy}.") from error


def free_name(path: Path) -> Path:
    """The path, or the first of `path-2`, `path-3`, … that does not exist."""
    names = (path.with_name(f"{path.name}-{number}") for number in range(2, 10_000))
    return path if not os.path.lexists(path) else next((name for name in names if not os.path.lexists(name)), path)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that is there.

    Raises:
        OSError: a file, or a link to nothing, stands in the way, or a name is too long for the file system.
    """
    place = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not place.is_dir():
        raise OSError(errno.ENOTDIR, "Not a directory", str(place))
    for name in folder.relative_to(place).parts:
        with suppress(FileNotFoundError):
            os.lstat(place / name)
    return place


def _try_writing(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(BLOCK)
            file.flush()
    except FileNotFoundError as error:  # as /proc says it
        raise OSError(errno.EROFS, "Read-only file system", str(folder)) from error
    except OSError as error:
        error.filename = str(folder)
        raise
