"""Whether a folder can be written to, asked before the work that would be lost."""

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from qtarget.disk.os_errors import os_error_in_words

BLOCK = b"\0" * 65536
"""What is written to see whether a disk has room: more than a file's entry, less than anybody misses."""


def check_place(folder: Path, line: str) -> None:
    """Refuse a folder that cannot be made or written to; nothing is left there, and no folder is made.

    Args:
        line: how the user wrote it, as "`output_dir: out`"; the error begins with it.

    Raises:
        ValueError: a file or a broken link stands in its place or above it, its name is impossible, the disk is full,
            or the system lets nobody write there.
    """
    if "\0" in str(folder):
        raise ValueError(f"{line} has a null character, which no path has; write another.")
    whole = folder.absolute()
    there = next(each for each in (whole, *whole.parents) if _exists(each))
    if not there.is_dir():
        kind = "a link to nothing" if there.is_symlink() and not there.exists() else "a file"
        where = f"is {kind}" if there == whole else f"cannot be made, as {there} is {kind}"
        raise ValueError(f"{line} {where}; write {_renamed(line, folder, there)}.")
    try:
        _try_writing(there, whole)
    except OSError as error:
        why = os_error_in_words(error).rstrip(".")
        raise ValueError(f"{line} cannot be written to ({why}); name a folder that you can write to.") from error


def _try_writing(there: Path, folder: Path) -> None:
    """Write a file without a name, and look the names up that are to be made.

    Raises:
        OSError: names the folder that is there.
    """
    for name in folder.relative_to(there).parts:
        with suppress(FileNotFoundError):
            os.lstat(there / name)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(BLOCK)
            file.flush()
    except FileNotFoundError as error:  # as /proc says it
        raise OSError(errno.EROFS, "Read-only file system", str(there)) from error
    except OSError as error:
        error.filename = str(there)
        raise


def free_name(path: Path) -> Path:
    """The path, or the first of `path-2`, `path-3`, … that does not exist."""
    names = (path.with_name(f"{path.name}-{number}") for number in range(2, 10_000))
    return path if not _exists(path) else next((name for name in names if not _exists(name)), path)


def _renamed(line: str, folder: Path, file: Path) -> str:
    """The line with another folder, whose name is free: beside the file, or in place of a folder below it."""
    free = free_name(folder) if file == folder.absolute() else free_name(Path(folder.name))
    return line.replace(str(folder), str(free))


def _exists(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except OSError:  # a folder above may not be looked into, or the name is too long
        return False
