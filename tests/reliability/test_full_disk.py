"""A full disk at every file of a command that runs for long: one error that names the file, and nothing is lost.

Once there is room, the same command goes on to the bytes of a run that had room all along. CI looks at some of the
moments, `QTARGET_CHAOS=1` at all.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from job.stopped import Ended, ended
from reliability.commands import COMMANDS, Command, go_on_with, remove_results
from reliability.full_disks import FullFrom, LimitedFiles
from reliability.moments import CHAOS, EventCount, warm_up

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="limits a process"),
    pytest.mark.failure_case(21),
]
PARTS = {"train": 2, "study": 4} if CHAOS else {}
"""Tests that a command's events are shared out among, where it has many, so that no core is left with one long test."""
SOME = {"train": 0, "teacher cache": 4, "eval": 4, "study": 2}
"""Events that CI looks at, spread over all of them; a training's are those of tests/job/test_killed.py."""
NAMED = re.compile(r"\b(out|cache|eval|study|results|models)([/:`]| (could|cannot))")
"""A path of a command's own, as errors have it."""
LEAST = 3000
"""Bytes: what the command itself prints goes to files too, and is to be read."""
DISKS = {"train": "out", "teacher cache": "cache", "eval": "eval", "study": "study"}
MOUNT, UMOUNT = shutil.which("mount") or "", shutil.which("umount") or ""
FULL = ("the disk is full", "No space left on device", "larger than this system allows", "File too large")


def results(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in ("out", "cache", "eval", "study"))


def check_words(said: Ended) -> None:
    """One clear error, which names a file or folder of the command's."""
    words = " ".join(said.err.split())
    assert said.code == 75, said
    assert "Traceback" not in said.err, said.err
    assert any(each in words for each in FULL), words
    assert NAMED.search(words), words


def check_going_on(command: Command, folder: Path, expected: dict[str, str], full, name: str) -> None:
    said = ended(command.words, full, folder=folder)
    try:
        if said.code != 0:
            check_words(said)
            go_on_with(command, folder)
        assert command.content(folder) == expected
    except AssertionError as error:
        raise AssertionError(f"`{name}`, the disk full {full}: {error}") from error


@pytest.mark.parametrize(
    ("name", "part"),
    [(name, part) for name in COMMANDS if SOME[name] or CHAOS for part in range(PARTS.get(name, 1))],
)
def test_at_every_event(workplace, name, part):
    command, events = COMMANDS[name], EventCount()
    warm_up(command.words, workplace)
    remove_results(workplace)
    assert ended(command.words, FullFrom(0, results(workplace), events), folder=workplace).code == 0
    expected, total = command.content(workplace), events.value
    assert total > 5
    some = {1 + round(place * (total - 1) / (SOME[name] - 1)) for place in range(SOME[name])}
    for event in range(1 + part, total + 1, PARTS.get(name, 1)) if CHAOS else sorted(some):
        remove_results(workplace)
        check_going_on(command, workplace, expected, FullFrom(event, results(workplace), EventCount()), name)


@pytest.mark.parametrize("name", COMMANDS)
def test_at_every_size(workplace, name):
    """Writes of C++ and Rust, and into files that are open, have no events: they fail beyond a size."""
    command = COMMANDS[name]
    warm_up(command.words, workplace)
    expected = command.content(workplace)
    sizes = {path.stat().st_size for folder in results(workplace) for path in folder.rglob("*") if path.is_file()}
    limits = sorted(size - 1 for size in sizes if size > LEAST)
    for limit in limits if CHAOS else limits[-1:]:
        remove_results(workplace)
        check_going_on(command, workplace, expected, LimitedFiles(limit), name)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of so many bytes on a folder; later calls for the same folder change its size."""
    mounted: list[Path] = []

    def mount(folder: Path, size: int) -> None:
        options = f"size={size // 1024}k" + (",remount" if folder in mounted else "")
        folder.mkdir(exist_ok=True)
        done = subprocess.run([MOUNT, "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip("nobody may mount here")
        mounted.append(folder)

    yield mount
    for folder in set(mounted):
        subprocess.run([UMOUNT, "-l", str(folder)], check=True)


@pytest.mark.skipif(not MOUNT or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a disk")
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9] if CHAOS else [0.6])
@pytest.mark.parametrize("name", COMMANDS if CHAOS else ["teacher cache"])
def test_on_a_small_disk(workplace, small_disk, name, share):
    command, disk = COMMANDS[name], workplace / DISKS[name]
    warm_up(command.words, workplace)
    expected = command.content(workplace)
    total = sum(path.stat().st_size for path in disk.rglob("*") if path.is_file())
    remove_results(workplace)
    small_disk(disk, max(4096, round(total * share)))
    said = ended(command.words, folder=workplace)
    assert said.code != 0
    check_words(said)
    small_disk(disk, 1 << 26)
    go_on_with(command, workplace)
    assert command.content(workplace) == expected
