"""Which old checkpoints go: whole ones alone, those written first."""

import shutil
from collections.abc import Collection
from pathlib import Path

from qtarget.disk.seal import SEAL
from qtarget.train.resumption.whole_checkpoints import numbered_checkpoints


def prune_checkpoints(run: Path, limit: int | None, kept: Collection[Path]) -> None:
    """Delete sealed checkpoints of a run until `limit` are left, those that were written first.

    Checkpoints without a manifest are not counted and not touched: they may be all that is left of something. Nor are
    links to checkpoints elsewhere: somebody keeps those.

    Args:
        limit: None or 0 for all.
        kept: these stay, and are counted: the one just written, and the best.
    """
    own = [folder for _, folder in numbered_checkpoints(run) if not folder.is_symlink()]
    sealed, stays = [folder for folder in own if (folder / SEAL).is_file()], {folder.resolve() for folder in kept}
    sealed.sort(key=lambda folder: (folder / SEAL).stat().st_mtime_ns)
    spare = [folder for folder in sealed if folder.resolve() not in stays]
    too_many = len(sealed) - limit if limit else 0
    for folder in spare[: max(too_many, 0)]:
        (folder / SEAL).unlink()  # first: what is deleted in part must not look whole
        shutil.rmtree(folder)
