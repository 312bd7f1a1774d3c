"""Memory that is freed stays with the process while rows are measured, where the C library can be told so."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's names for how much free memory it keeps, and from which size on a block is mapped on its own; bytes."""
LARGEST_BLOCK, MOST_FREE, USUAL_FREE = 2**25, 2**30, 2**26
"""The largest block that it lets be kept; what is kept here; and what it comes to by itself after large blocks."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """Blocks of some megabytes are used again. By itself glibc gives them back to the system each time, which then
    clears every page anew: a third of the measures' time. Where there is no glibc nothing is done.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(MMAP_THRESHOLD, LARGEST_BLOCK)
        library.mallopt(TRIM_THRESHOLD, MOST_FREE)
    except (OSError, AttributeError):
        yield
        return
    try:
        yield
    finally:
        library.mallopt(TRIM_THRESHOLD, USUAL_FREE)
        library.malloc_trim(0)
