"""Which checkpoints and results are of a run, and which of another: two runs are the same that began as the same."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtarget.data import Asker
from qtarget.disk.place import free_name
from qtarget.disk.seal import SEAL, read_seal
from qtarget.train.resumption.run_history import RunPart, differences, parts_of_history
from qtarget.train.resumption.whole_checkpoints import checkpoints_in, numbered_checkpoints

MODEL_FILES = ("config.json", "adapter_config.json")


def sealed_history(folder: Path) -> list[RunPart] | None:
    """The history that a sealed folder tells; None without a manifest that can be read."""
    try:
        return parts_of_history(read_seal(folder).facts) if (folder / SEAL).is_file() else None
    except (ValueError, KeyError, TypeError):
        return None


def begins_as(one: Sequence[RunPart] | None, other: Sequence[RunPart] | None) -> bool:
    """Whether two histories begin with the same part, so that they are of one run, or of branches of it.

    False where one of them is not known.
    """
    if one is None or other is None or bool(one) != bool(other):
        return False
    return all(is_same_part(*firsts) for firsts in zip(one[:1], other[:1], strict=True))


def is_same_part(one: RunPart, other: RunPart) -> bool:
    """Whether two parts of histories begin behind the same step as the same run."""
    return one.after == other.after and not differences(_as_read(one.identity), _as_read(other.identity))


def _as_read(identity: Any) -> dict[str, Any]:
    return json.loads(json.dumps(identity))


def refuse_other_run(run: Path, checkpoint: Path, accepts_unsealed: bool, asker: Asker) -> None:
    """Refuse to go on from a checkpoint elsewhere into an output directory that holds another run, or one of which it
    is not known.

    Args:
        run: the output directory.
        accepts_unsealed: whether checkpoints without a manifest are named as such that one may go on from.

    Raises:
        ValueError: names what is of another run, and the line to write.
    """
    if run.resolve() in (checkpoint.parent.resolve(), checkpoint.resolve().parent):
        return
    if (place := _of_other_run(run, checkpoint)) is None:
        return
    what = "a model" if place == run else str(place)
    whole = checkpoints_in(run, accepts_unsealed, hashed=False).newest
    go_on = f"To go on from the newest whole checkpoint there, write {_resume(whole, asker)}; to" if whole else "To"
    named = asker is Asker.COMMAND_LINE
    raise ValueError(
        f"`{f'output_dir: {run}' if named else run}` holds {what} of another run than "
        f"{f'`resume_from_checkpoint: {checkpoint}`' if named else checkpoint}, and it would be written over. {go_on} "
        f"keep it and go on elsewhere, write {asker.line('output_dir', str(free_name(run)))}."
    )


def _of_other_run(run: Path, checkpoint: Path) -> Path | None:
    """What an output directory holds that is not known to be of a checkpoint's run: one of its checkpoints, or itself
    for the model in it."""
    has_model = any((run / name).is_file() for name in (*MODEL_FILES, SEAL))
    places = [*(each for _, each in numbered_checkpoints(run)), *([run] if has_model else [])]
    held, own = {each: sealed_history(each) for each in places}, sealed_history(checkpoint)
    others = [each for each, history in held.items() if not begins_as(history, own)]
    known = [each for each in others if held[each] is not None]
    return next(iter(others), None) if known or len(others) == len(held) else None


def _resume(checkpoint: Path, asker: Asker) -> str:
    if asker is Asker.PYTHON:
        return f"`trainer.train(resume_from_checkpoint={str(checkpoint)!r})`"
    return asker.line("resume_from_checkpoint", str(checkpoint))
