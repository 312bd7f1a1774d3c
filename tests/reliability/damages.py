"""What can happen to a file: a bit flips, its end is cut off, it is removed, another one stands in its place.

And to an artefact of which every file is whole: some are another's, or one more is there.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

FLIPS = 4
"""Places in a file where a bit is flipped, when all are tried."""
KINDS = ("flipped", "cut", "removed", "swapped")


class Damage(NamedTuple):
    """One damage to one file of a folder, or to several at once.

    Attributes:
        kind: of `KINDS`, "mixed up" or "added".
        file: its path in the folder; `other`: the one that it was swapped with, else the same.
        do: does it to a copy of the folder.
        called: what else an error may call it.
    """

    kind: str
    file: str
    other: str
    do: Callable[[Path], None]
    called: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file} {self.kind}" + (f" with {self.other}" if self.other != self.file else "")

    @property
    def names(self) -> tuple[str, ...]:
        """What an error may call the file."""
        return (*self.called, Path(self.file).name, Path(self.other).name)


def damages(folder: Path, file: str, twins: tuple[str, ...] = ()) -> Iterator[Damage]:
    """Every damage to a file: bits in several places, cuts, removal, and swaps with other files of the folder.

    Args:
        twins: files that it could be mistaken for, beside the next one of its kind in the same folder.
    """
    content = (folder / file).read_bytes()
    for place in _places(file, len(content)):
        yield Damage("flipped", file, file, lambda copy, place=place: flip(copy / file, place))
    for length in sorted({0, _line_end(content), len(content) // 2, max(len(content) - 1, 0)} - {len(content)}):
        yield Damage("cut", file, file, lambda copy, length=length: cut(copy / file, length))
    yield Damage("removed", file, file, lambda copy: (copy / file).unlink())
    for other in dict.fromkeys([*twins, *_neighbours(folder, file)]):
        if (folder / other).is_file() and (folder / other).read_bytes() != content:
            called = _listed(folder / file) if other in twins else ()
            yield Damage("swapped", file, other, lambda copy, other=other: swap(copy / file, copy / other), called)


def mixed_up(one: str, other: str, *names: str) -> Damage:
    """Files of one folder in the place of another's and the other way round; without names, the folders themselves.

    Each is as it was written. Only what they belong to tells them apart.
    """
    pairs = [(f"{one}/{name}", f"{other}/{name}") for name in names] or [(one, other)]

    def do(copy: Path) -> None:
        for first, second in pairs:
            swap(copy / first, copy / second)

    return Damage("mixed up", *pairs[0], do, tuple(Path(first).name for first, _ in pairs))


def added(place: str, source: str, *names: str) -> Damage:
    """Files of another folder of the home, where this one has none of the name."""

    def do(copy: Path) -> None:
        for name in names:
            shutil.copy(copy / source / name, copy / place / name)

    return Damage("added", f"{place}/{names[0]}", f"{place}/{names[0]}", do, names)


def flip(path: Path, place: int) -> None:
    """The lowest bit of a byte: a digit becomes another digit, a letter mostly another letter."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def swap(one: Path, other: Path) -> None:
    between = one.with_name(".between")
    shutil.move(one, between)
    shutil.move(other, one)
    shutil.move(between, other)


def _listed(path: Path) -> tuple[str, ...]:
    """What a manifest speaks of; where another one stands in its place, it is these files that differ."""
    return tuple(each.name for each in path.parent.iterdir()) if path.name == "manifest.json" else ()


def _places(file: str, length: int) -> list[int]:
    """The middle, and others that the file's name draws."""
    rng = random.Random(file)
    return sorted({length // 2, *(rng.randrange(length) for _ in range(FLIPS - 1))}) if length else []


def _line_end(content: bytes) -> int:
    """The end of the last line but one, where what is left reads well."""
    return content.rstrip(b"\n").rfind(b"\n") + 1


def _neighbours(folder: Path, file: str) -> list[str]:
    """The next file beside it with the same ending."""
    path = folder / file
    alike = sorted(each for each in path.parent.iterdir() if each.is_file() and each.suffix == path.suffix)
    following = alike[(alike.index(path) + 1) % len(alike)]
    return [] if following == path else [following.relative_to(folder).as_posix()]
