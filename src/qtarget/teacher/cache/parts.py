"""One cache written in parts, by processes that know nothing of one another, such as the tasks of a cluster's array.

Part I of N writes every Nth shard of the plan, from the Ith on, and holds a lock of its own while it does, in the
folder `.part-I-of-N` beside the shards. It holds the cache's own lock for a moment alone, while it writes or compares
the plan. Who writes the whole cache holds that lock throughout. So parts of one N write at once, and nobody else with
them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from qtarget.disk.held_folders import SecondWriterError
from qtarget.disk.one_writer import held_by

PART_FOLDER = re.compile(r"\.part-(\d+)-of-(\d+)", re.ASCII)
_PART = re.compile(r"(\d+)/(\d+)", re.ASCII)


@dataclass(frozen=True)
class CachePart:
    """Which part of a cache is written, of how many.

    Attributes:
        number: from 1 to `of`.
    """

    number: int = 1
    of: int = 1

    @staticmethod
    def parse(text: str) -> "CachePart":
        """The part that `I/N` names.

        Raises:
            ValueError: it names none.
        """
        found = _PART.fullmatch(text)
        number, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise ValueError(
                f"`--part {text}` names no part; expected I/N, the Ith of N, as in `--part 2/8`: I from 1 to N."
            )
        return CachePart(number, of)

    @property
    def folder(self) -> str:
        """The folder of its lock, in that of the cache."""
        return f".part-{self.number}-of-{self.of}"

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE_CACHE = CachePart()
"""All of a cache."""


def parts_at_work(folder: Path) -> dict[CachePart, str]:
    """Which parts of a cache are being written, and by which process, in words; as far as this machine can tell."""
    named = ((PART_FOLDER.fullmatch(path.name), path) for path in sorted(folder.glob(".part-*")))
    writers = ((CachePart(*map(int, name.groups())), held_by(path)) for name, path in named if name)
    return {part: writer for part, writer in writers if writer is not None}


def check_no_parts(folder: Path) -> None:
    """Refuse to write a whole cache of which parts are being written.

    Raises:
        SecondWriterError: names one of them, and what to do.
    """
    for part, writer in parts_at_work(folder).items():
        raise SecondWriterError(
            f"{folder} is being written in parts, part {part} by {writer}. Wait until all of them have ended; the same "
            f"command then writes what lacks. Or write a part that nobody does, by `--part I/{part.of}`."
        )


def check_same_parts(folder: Path, own: CachePart) -> None:
    """Refuse to write a part of a cache that is being written in another number of parts: shards would be two's.

    Raises:
        SecondWriterError: names one of them, and what to do.
    """
    for part, writer in parts_at_work(folder).items():
        if part.of != own.of:
            raise SecondWriterError(
                f"{folder} is being written in {part.of} parts, part {part} by {writer}, and `--part {own}` is one of "
                f"{own.of}. Write `--part I/{part.of}`, or wait until those have ended."
            )


def writer_of(folder: Path) -> str | None:
    """Which process is writing to a cache or a part of it, in words; None where none does, as far as this machine can
    tell."""
    return held_by(folder) or next(iter(parts_at_work(folder).values()), None)
