"""What the operating system refused, in words: which path, why, and what to do."""

import errno

REASONS = {
    errno.ENOSPC: "the disk is full; make room, and give the same command again",
    errno.EDQUOT: "your share of the disk is used up; make room, and give the same command again",
    errno.EFBIG: "the file would be larger than this system allows (`ulimit -f`, or the file system's own limit)",
    errno.EACCES: "you have no permission; write another path, or change the permissions",
    errno.EPERM: "you have no permission; write another path, or change the permissions",
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


def os_error_in_words(error: OSError) -> str:
    """The error as a sentence; its own text where it says more than a number and a path, as libraries' errors do."""
    reason = REASONS.get(error.errno or 0)
    if reason is None or error.strerror is None:
        return str(error)
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    where = " -> ".join(names)
    return f"{where}: {reason} ({error.strerror})." if where else f"{reason[0].upper()}{reason[1:]} ({error.strerror})."
