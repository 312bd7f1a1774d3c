"""Whether a folder can be written to, asked before the work that would be lost."""

import tempfile
from pathlib import Path


def check_place(folder: Path, line: str) -> None:
    """Refuse a folder that cannot be made or written to; nothing is left there.

    Args:
        line: how the user wrote it, as "`output_dir: out`"; the error begins with it.

    Raises:
        ValueError: a file stands in its place or above it, or the system lets nobody write there.
    """
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if _exists(each))
    if not there.is_dir():
        where = "is a file" if there == folder.absolute() else f"cannot be made, as {there} is a file"
        raise ValueError(f"{line} {where}; name a folder: {free_name(folder if there == folder.absolute() else there)}")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ValueError(
            f"{line} cannot be written to: {there}: {error.strerror}. Name a folder of yours, or free this one."
        ) from error


def free_name(path: Path) -> Path:
    """The path, or the first of `path-2`, `path-3`, … that does not exist."""
    names = (path.with_name(f"{path.name}-{number}") for number in range(2, 10_000))
    return path if not _exists(path) else next((name for name in names if not _exists(name)), path)


def _exists(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except OSError:  # a folder above may not be looked into, or the name is too long
        return False
