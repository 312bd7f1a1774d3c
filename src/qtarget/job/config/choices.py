"""Keys that take one of a few names, and keys that may not be empty: refused before a file is opened."""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, get_args

import torch

from qtarget.console import shortened
from qtarget.job.config.keys import all_keys
from qtarget.target.hyperparameters import suggestion

DTYPES = ("dtype", "teacher_dtype", "reference_dtype")
NEVER_EMPTY = {
    "model": "path/or/hub-name",
    "train_dataset": "rows.jsonl",
    "eval_dataset": "held_out.jsonl",
    "output_dir": "out",
    "teacher": "path/or/hub-name",
    "reference": "initial",
    "teacher_cache": "folder",
    "reference_cache": "folder",
}
"""Keys whose text may not be empty, and an example of one."""


def choice_complaints(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each key whose text is empty or is none of its names, with what may be written."""
    for key, value in values.items():
        names = names_of_key(key)
        if key in NEVER_EMPTY and value in ("", [], [""]):
            yield key, f"`{key}` is empty; write `{key}: {NEVER_EMPTY[key]}`."
        elif names and isinstance(value, str) and value not in names:
            yield key, f"`{key}: {shortened(value)}` is none of its names; {suggestion(value, names)}"


def names_of_key(key: str) -> list[str]:
    """The names that a key takes; none for one that takes others too."""
    if key in DTYPES:
        return ["auto", *(name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype))]
    hint = all_keys().get(key)
    kinds = [kind for kind in (get_args(hint) or (hint,)) if isinstance(kind, type) and issubclass(kind, Enum)]
    return [str(member.value) for kind in kinds for member in kind]
