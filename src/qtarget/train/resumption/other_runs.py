"""Which checkpoints and results are of a run, and which of another: two runs are the same that began as the same."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtarget.disk.seal import SEAL, read_seal
from qtarget.train.resumption.run_history import RunPart, differences, parts_of_history


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
