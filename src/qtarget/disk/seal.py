"""Sealed folders: a manifest, written last, holds the size and sha256 of every file, so what is whole can be told.

A folder without a manifest was never finished. One whose files differ from its manifest was damaged afterwards.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from qtarget.disk.files import file_digest, is_draft, read_json_object, sync_folder, write_digested_json
from qtarget.disk.held_folders import check_not_replaced

SEAL = "manifest.json"
_KEYS = ("files", "left_out", "facts")
_THREADS = 4
"""Files that are hashed at once; hashing leaves Python's lock, and two threads are faster than most disks."""


class FileSeal(NamedTuple):
    """What a file was when its folder was sealed: its size in bytes and its sha256."""

    size: int
    sha256: str


@dataclass(frozen=True)
class SealedFolder:
    """What a manifest says.

    Attributes:
        files: by their paths inside the folder, with forward slashes.
        facts: what the writer wanted to be remembered of the whole, such as the identity of a run.
        left_out: names in it, as patterns, that are none of the sealed whole.
    """

    files: dict[str, FileSeal]
    facts: dict[str, Any]
    left_out: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files.values())


def seal(folder: Path, facts: Mapping[str, Any], left_out: Sequence[str] = ()) -> SealedFolder:
    """Write every file of a folder to the disk, hash it, and write the manifest, last and as a whole.

    An earlier manifest is removed first: at no moment does one stand beside files that it was not written for.

    Args:
        facts: what else the manifest is to say, as values of JSON.
        left_out: names of files and folders in it, as patterns, that are none of the sealed whole.

    Raises:
        OSError: the disk is full, or a file cannot be read.
        SecondWriterError: the folder was removed or replaced since this process locked it.
    """
    check_not_replaced(folder)
    (folder / SEAL).unlink(missing_ok=True)
    names = _file_names(folder, left_out)
    with ThreadPoolExecutor(_THREADS) as pool:
        seals = list(pool.map(lambda name: _synced_seal(folder / name), names))
    for inside in {(folder / name).parent for name in names}:
        sync_folder(inside)
    sealed = SealedFolder(dict(zip(names, seals, strict=True)), dict(facts), tuple(left_out))
    files = {name: file._asdict() for name, file in sealed.files.items()}
    write_digested_json(folder / SEAL, {"files": files, "left_out": list(left_out), "facts": sealed.facts})
    return sealed


def read_seal(folder: Path) -> SealedFolder:
    """What the manifest of a folder says; its files are not looked at.

    Raises:
        ValueError: the folder has no manifest, or a damaged one.
    """
    path = folder / SEAL
    if not path.is_file():
        raise ValueError(f"{folder} has no {SEAL}, so it was never finished")
    content = read_json_object(path, "the folder cannot be trusted", _KEYS)
    try:
        files = {
            path_inside(name): FileSeal(int(each["size"]), str(each["sha256"]))
            for name, each in content["files"].items()
        }
        return SealedFolder(files, dict(content["facts"]), tuple(map(str, content["left_out"])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged (it is no manifest: {error!r}); the folder cannot be trusted") from error


def path_inside(name: str) -> str:
    """A file's path within a folder, as it was written down.

    Raises:
        ValueError: it leads out of the folder.
    """
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"{name} is outside of the folder")
    return name


def damage(folder: Path, sealed: SealedFolder, hashed: bool = True) -> list[str]:
    """What is wrong with the files of a sealed folder, a sentence for each that is missing, changed or added.

    Args:
        hashed: read and hash the files; False to look at their sizes alone.
    """
    there = _file_names(folder, sealed.left_out)
    wrong = [f"{name} was added after the folder was sealed" for name in there if name not in sealed.files]
    return [*file_damage(folder, sealed, list(sealed.files), hashed), *wrong]


def file_damage(folder: Path, sealed: SealedFolder, names: Sequence[str], hashed: bool = True) -> list[str]:
    """Like `damage`, of the named files alone, of which none can have been added."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda name: _damage(folder, name, sealed.files[name], hashed), names)
        return [sentence for sentence in found if sentence]


def _damage(folder: Path, name: str, sealed: FileSeal, hashed: bool) -> str | None:
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    size = path.stat().st_size
    if size != sealed.size:
        return f"{name} has {size:,} bytes, and had {sealed.size:,} when it was sealed"
    return (
        None
        if not hashed or file_digest(path) == sealed.sha256
        else f"{name} has other content than when it was sealed"
    )


def _file_names(folder: Path, left_out: Sequence[str]) -> list[str]:
    """Every file inside, sorted, but the manifest, what is left out, and what a killed process left unfinished."""
    names = []
    for each in folder.iterdir():
        if each.name != SEAL and not any(fnmatch(each.name, pattern) for pattern in left_out):
            inside = each.rglob("*") if each.is_dir() else [each]
            names += [path.relative_to(folder).as_posix() for path in inside if path.is_file() and not is_draft(path)]
    return sorted(names)


def _synced_seal(path: Path) -> FileSeal:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return FileSeal(path.stat().st_size, file_digest(path))
