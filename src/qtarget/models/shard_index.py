"""The index of weights in several files: which files it may name."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from qtarget.models.pickled_weights import INDEX_OF_WEIGHTS, named_shards


def refuse_shards_outside(folder: Path) -> None:
    """Refuse a model's folder whose index names a file that is not in it.

    Raises:
        ValueError: names the index and the file.
    """
    index = folder / INDEX_OF_WEIGHTS
    for name in named_shards(index) if index.is_file() else ():
        if PureWindowsPath(name).anchor or ".." in (*PurePosixPath(name).parts, *PureWindowsPath(name).parts):
            raise ValueError(
                f"{index} names {name!r}, which is no file of that folder: it was tampered with, so do not use it."
            )
