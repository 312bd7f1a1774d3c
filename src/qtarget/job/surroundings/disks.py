"""Room and speed of the disks that runs and caches are written to."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from qtarget.disk.place import check_place
from qtarget.job.surroundings.observation import Observation

_GB = 10**9
BLOCK_BYTES, BLOCKS = 2**22, 8
"""What is written to measure a disk: 32 MiB."""
LITTLE_ROOM = 5 * _GB
SLOW_DISK = 50e6
"""Bytes a second below which a checkpoint of a gigabyte takes longer than a minute with its optimizer."""


def disks_found(runs: Path) -> Iterator[Observation]:
    """The folders of runs, of the hub's files, of `datasets`' and of GGUF conversions.

    Args:
        runs: the folder that runs are written to.
    """
    for name, folder in {"runs": runs, **_caches()}.items():
        yield _disk(name, folder)


def _caches() -> dict[str, Path]:
    """The caches that libraries keep, by what is in them; those of libraries that are there."""
    folders: dict[str, Path] = {}
    try:
        from huggingface_hub.constants import HF_HUB_CACHE

        folders["models of the hub"] = Path(HF_HUB_CACHE)
    except ImportError:
        pass
    try:
        from datasets.config import HF_DATASETS_CACHE

        folders["rows"] = Path(HF_DATASETS_CACHE)
    except ImportError:
        pass
    try:
        from qtarget.models.gguf_file import conversions

        folders["GGUF conversions"] = conversions()
    except ImportError:
        pass
    return folders


def _disk(name: str, folder: Path) -> Observation:
    try:
        check_place(folder, str(folder))
        there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
        free, speed = shutil.disk_usage(there).free, _write_speed(there)
    except ValueError as error:
        return Observation("disks", name, str(error), "fails")
    except OSError as error:
        return Observation("disks", name, f"{folder} cannot be written to ({error.strerror})", "fails")
    found = f"{folder}: {free / _GB:,.0f} GB free, writes {speed / 1e6:,.0f} MB/s"
    if free < LITTLE_ROOM:
        return Observation("disks", name, found, "note", "little room: a checkpoint takes three times the weights")
    if speed < SLOW_DISK:
        return Observation("disks", name, found, "note", "slow: save seldom (`save_steps`), or write elsewhere")
    return Observation("disks", name, found)


def _write_speed(folder: Path) -> float:
    """Bytes a second, to the disk and not only to memory."""
    block = os.urandom(BLOCK_BYTES)
    with tempfile.TemporaryFile(dir=folder) as file:
        start = time.perf_counter()
        for _ in range(BLOCKS):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return BLOCKS * BLOCK_BYTES / (time.perf_counter() - start)
