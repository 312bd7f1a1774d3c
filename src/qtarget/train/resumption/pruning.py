"""Which old checkpoints go: whole ones alone, those of a branch that was left, then those of the earliest steps."""

import shutil
from collections.abc import Collection
from pathlib import Path

from qtarget.disk.seal import SEAL
from qtarget.train.resumption.branches import branches_to, latest, step_left_behind
from qtarget.train.resumption.other_runs import begins_as, sealed_history
from qtarget.train.resumption.whole_checkpoints import numbered_checkpoints


def prune_checkpoints(run: Path, limit: int | None, kept: Collection[Path], step: int) -> None:
    """Delete sealed checkpoints of a run until `limit` are left: first what is of an older branch, then earlier steps.

    Checkpoints without a manifest are not counted and not touched: they may be all that is left of something. Nor are
    links to checkpoints elsewhere: somebody keeps those. Nor checkpoints of another run than that of the one just
    written.

    Args:
        limit: None or 0 for all.
        kept: these stay, and are counted: the one just written, and the best.
        step: the one just written. Those of later steps were written before it, by a run that was gone back on. Clocks
            are not asked: they may have been set back.
    """
    found = [(at, folder, branches_to(folder)) for at, folder in numbered_checkpoints(run) if not folder.is_symlink()]
    line = latest(each for *_, each in found)
    own = sorted((at <= step and step_left_behind(each, at, line) is None, at, folder) for at, folder, each in found)
    history = sealed_history(run / f"checkpoint-{step}")
    sealed = [folder for *_, folder in own if begins_as(sealed_history(folder), history)]
    stays = {folder.resolve() for folder in kept}
    spare = [folder for folder in sealed if folder.resolve() not in stays]
    too_many = len(sealed) - limit if limit else 0
    for folder in spare[: max(too_many, 0)]:
        (folder / SEAL).unlink()  # first: what is deleted in part must not look whole
        shutil.rmtree(folder)
