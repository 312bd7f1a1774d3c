"""Outcomes of runs as JSON files that say when they are damaged."""

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qtarget.disk.files import read_json_object, write_digested_json
from qtarget.disk.held_folders import check_not_replaced


def write_outcome(outcome: Any, path: Path) -> None:
    """Write an outcome, a dataclass, as JSON.

    Raises:
        SecondWriterError: the folder was removed or replaced since this process locked it.
    """
    check_not_replaced(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_digested_json(path, asdict(outcome), indent=None)


def values_of_outcome(path: Path, keys: Collection[str], whose: str) -> dict[str, Any]:
    """The values of a file that `write_outcome` wrote.

    Args:
        keys: of which an outcome has some.
        whose: what it is the outcome of, in words.

    Raises:
        ValueError: the file is damaged, or no outcome.
    """
    try:
        values = read_json_object(path, "remove it")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged; remove it to run it again.") from error
    if not set(keys) & values.keys():
        raise ValueError(
            f"{path} is no outcome of {whose}, so its folder holds something else; write another folder for results."
        )
    return values
