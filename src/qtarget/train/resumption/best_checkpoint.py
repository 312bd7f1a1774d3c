"""The best checkpoint of a run, whose weights become the result under `load_best_model_at_end`."""

import json
from collections.abc import Sequence
from pathlib import Path

from qtarget.disk.seal import SEAL, read_seal
from qtarget.train.resumption.other_runs import is_same_part
from qtarget.train.resumption.run_history import RunPart, parts_of_history
from qtarget.train.resumption.whole_checkpoints import STATE, checkpoint_fault


class BestCheckpointError(ValueError):
    """The best checkpoint of a run cannot be taken for its result."""


def best_beside(checkpoint: Path) -> Path | None:
    """Where the best checkpoint lies, of which a checkpoint tells: beside it, as both may have been moved since, or
    where it was, if the run went on into another folder."""
    recorded = json.loads((checkpoint / STATE).read_text(encoding="utf-8")).get("best_model_checkpoint")
    if recorded is None:
        return None
    there = Path(str(recorded))
    beside = checkpoint.parent / there.name
    return there if there.is_dir() and not beside.is_dir() else beside


def best_fault(best: Path, history: Sequence[RunPart], accepts_unsealed: bool) -> str | None:
    """Why the weights of a best checkpoint cannot be taken for the run's, or None.

    Args:
        history: of the run by now.
        accepts_unsealed: as of `checkpoint_fault`.
    """
    if not best.is_dir():
        return "is not there"
    if fault := checkpoint_fault(best, accepts_unsealed):
        return f"is not whole ({fault})"
    own = parts_of_history(read_seal(best).facts) if (best / SEAL).is_file() else []
    return None if all(map(is_same_part, own, history)) and len(own) <= len(history) else "is of another run"
