"""Checkpoints that stand aside while others take their places: a kill in between leaves them there, and they are
brought back."""

import time
from contextlib import suppress
from pathlib import Path

from qtarget.disk.files import sync_folder
from qtarget.disk.held_folders import SecondWriterError
from qtarget.disk.one_writer import one_writer

UNFINISHED = ".unfinished"
"""Folder in an output directory that holds the checkpoint being written; it is renamed once it is whole."""
_ASIDE = "replaced-"
_TRIES, _PAUSE = 50, 0.1


def place_aside(folder: Path) -> Path:
    """Where a checkpoint stands while another takes its place."""
    return folder.parent / UNFINISHED / f"{_ASIDE}{folder.name}"


def bring_back(run: Path) -> None:
    """Give checkpoints that stand aside in an output directory their names again, where nothing took these. Nobody
    else may be writing there."""
    for aside in sorted((run / UNFINISHED).glob(f"{_ASIDE}*")):
        place = run / aside.name.removeprefix(_ASIDE)
        if not place.exists():
            aside.replace(place)
            sync_folder(run)


def bring_back_of_killed(run: Path) -> None:
    """As `bring_back`, of a run that nobody writes; one that somebody writes is left alone, after a few seconds."""
    for _ in range(_TRIES):
        if not any((run / UNFINISHED).glob(f"{_ASIDE}*")):
            return
        with suppress(SecondWriterError), one_writer(run):
            bring_back(run)
            return
        time.sleep(_PAUSE)
