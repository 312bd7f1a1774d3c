"""What the operating system refused, in words: which path, why, and what to do."""

import errno
import os
import re
from pathlib import Path
from typing import NamedTuple

REASONS = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "your share of the disk is used up; make room",
    errno.EFBIG: "the file would be larger than this system allows (`ulimit -f`, or the file system's own limit)",
    errno.EACCES: "you have no permission; change the permissions, or name another path",
    errno.EPERM: "you have no permission; change the permissions, or name another path",
    errno.EROFS: "it is on a file system that can only be read; write another path",
    errno.EEXIST: "it is there already, and is no folder; write another path",
    errno.ENOTDIR: "a part of the path is a file, and a folder is needed; write another path",
    errno.EISDIR: "it is a folder, and a file is needed; name a file",
    errno.ENOENT: "it is not there; look for a misspelling",
    errno.ENAMETOOLONG: "the name is longer than this file system takes; write a shorter path",
    errno.ELOOP: "it is a link that leads back to itself; write another path",
    errno.EMFILE: "too many files are open; raise the limit (`ulimit -n`)",
    errno.ENOTSUP: "it is a device or a pipe, and a file is needed; write another path",
    errno.EIO: "the disk or its connection failed; look at the system's log",
}
"""What errors of the system mean to a user."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors, which is written in Rust, names an error of the system."""
TORCH_WRITER = ("PytorchStreamWriter", "inline_container", "iostream error")
"""What torch names when a file that it writes cannot grow."""


_NOT_PERMITTED = (errno.EACCES, errno.EPERM)


class FullDiskError(OSError):
    """A disk that is full, in words that say what is kept and how to go on."""


class WriteFault(NamedTuple):
    """A file that could not be written.

    Attributes:
        words: what happened, a sentence.
        is_full: whether there is no room.
    """

    words: str
    is_full: bool


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, says that there is no room for a file, on this rank or another."""
    fault = write_fault(error)
    while error is not None and not isinstance(error, FullDiskError):
        error = error.__cause__
    return error is not None or (fault is not None and fault.is_full)


def write_fault(error: BaseException | None) -> WriteFault | None:
    """What an error, or one behind it, says of a file that could not be written, whatever library was writing it."""
    while error is not None:
        text = str(error)
        found = SYSTEM_ERROR.search(text)
        if isinstance(error, OSError) and error.errno in REASONS:
            return WriteFault(os_error_in_words(error), error.errno in DISK_FULL)
        if found and int(found[1]) in REASONS:
            return WriteFault(f"A file could not be written: {REASONS[int(found[1])]}.", int(found[1]) in DISK_FULL)
        for failure in getattr(error, "failures", {}).values():  # of ranks that saved together, with their places
            if (fault := write_fault(failure[0])) is not None:
                return fault
        if any(name in text for name in TORCH_WRITER):
            return WriteFault("A file could not be written, most likely because the disk is full; make room.", True)
        error = error.__cause__ or error.__context__
    return None


def os_error_in_words(error: OSError) -> str:
    """The error as a sentence; its own text where it says more than a number and a path, as libraries' errors do."""
    reason = REASONS.get(error.errno or 0)
    if reason is None or error.strerror is None:
        return str(error)
    if error.errno in _NOT_PERMITTED and isinstance(error.filename, str | Path):
        reason = _what_is_not_permitted(Path(error.filename)) or reason
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    where = " -> ".join(names)
    return f"{where}: {reason} ({error.strerror})." if where else f"{reason[0].upper()}{reason[1:]} ({error.strerror})."


def _what_is_not_permitted(path: Path) -> str:
    """Which permission is missing and how to get it, as far as the path tells; else ""."""
    there = next((each for each in (path, *path.parents) if _is_seen(each)), path)
    if there.is_dir() and not _may(there, os.R_OK | os.X_OK):
        whose = "it" if there == path else str(there)
        return f"you have no permission to look into {whose}; ask its owner for it, or `chmod u+rx` it"
    if there == path and path.is_file() and not _may(path, os.R_OK):
        return "you have no permission to read it; ask its owner for it, or `chmod u+r` it"
    if not _may(there, os.W_OK):
        return "you have no permission to write there; write another path, or change the permissions"
    return ""


def _is_seen(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
