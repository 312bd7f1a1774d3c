"""Sealed folders: a manifest, written last, holds the size and sha256 of every file, so what is whole can be told.

A folder without a manifest was never finished. One whose files differ from its manifest was damaged afterwards.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from qtarget.disk.files import file_digest, is_draft, read_json_object, sync_folder, write_json

SEAL = "manifest.json"
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
    """

    files: dict[str, FileSeal]
    facts: dict[str, Any]

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files.values())


def seal(folder: Path, facts: Mapping[str, Any]) -> SealedFolder:
    """Write every file of a folder to the disk, hash it, and write the manifest, last and as a whole.

    An earlier manifest is removed first: at no moment does one stand beside files that it was not written for.

    Raises:
        OSError: the disk is full, or a file cannot be read.
    """
    (folder / SEAL).unlink(missing_ok=True)
    names = _file_names(folder)
    with ThreadPoolExecutor(_THREADS) as pool:
        seals = list(pool.map(lambda name: _synced_seal(folder / name), names))
    for inside in {(folder / name).parent for name in names}:
        sync_folder(inside)
    sealed = SealedFolder(dict(zip(names, seals, strict=True)), dict(facts))
    files = {name: file._asdict() for name, file in sealed.files.items()}
    write_json(folder / SEAL, {"files": files, "facts": sealed.facts})
    return sealed


def read_seal(folder: Path) -> SealedFolder:
    """What the manifest of a folder says; its files are not looked at.

    Raises:
        ValueError: the folder has no manifest, or a damaged one.
    """
    path = folder / SEAL
    if not path.is_file():
        raise ValueError(f"{folder} has no {SEAL}, so it was never finished")
    content = read_json_object(path, "the folder cannot be trusted")
    try:
        files = {name: FileSeal(int(each["size"]), str(each["sha256"])) for name, each in content["files"].items()}
        return SealedFolder(files, dict(content["facts"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged (it is no manifest: {error!r}); the folder cannot be trusted") from error


def damage(folder: Path, sealed: SealedFolder) -> list[str]:
    """What is wrong with the files of a sealed folder, a sentence for each that is missing, changed or added."""
    there = _file_names(folder)
    wrong = [f"{folder / name} was added after the folder was sealed" for name in there if name not in sealed.files]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda item: _damage(folder / item[0], item[1]), sealed.files.items())
        return [*(sentence for sentence in found if sentence), *wrong]


def _damage(path: Path, sealed: FileSeal) -> str | None:
    if not path.is_file():
        return f"{path} is missing"
    size = path.stat().st_size
    if size != sealed.size:
        return f"{path} has {size:,} bytes, and had {sealed.size:,} when it was sealed"
    return None if file_digest(path) == sealed.sha256 else f"{path} has other content than when it was sealed"


def _file_names(folder: Path) -> list[str]:
    """Every file inside, sorted, but the manifest and what a killed process left unfinished."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not is_draft(path))
    return sorted(name for path in paths if (name := path.relative_to(folder).as_posix()) != SEAL)


def _synced_seal(path: Path) -> FileSeal:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return FileSeal(path.stat().st_size, file_digest(path))
