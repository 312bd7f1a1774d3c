"""Splits of a set of rows: which part of it a run takes, and which one is advised where that is not there."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from qtarget.console import printable
from qtarget.job.config.checked_job import DataSource
from qtarget.job.config.keys import RUN_KEYS

HELD_OUT = ("validation", "valid", "val", "dev", "test")
"""Names of splits that are not trained on, in the order in which they are advised for evaluation."""
_WORDS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""Words in names of files and folders, and the split that `datasets` takes such files for."""


def no_such_split(source: DataSource, key: str, splits: Iterable[str]) -> ValueError:
    """The error where a set has not the split that is asked for, with the line to write.

    For evaluation a split with rows to train on is never advised: what is measured on them says nothing.

    Args:
        key: of the configuration, "train_dataset" or "eval_dataset".
    """
    names = [str(name) for name in splits]
    there = f"`{key}`: {source.names[0]} has no split {source.split!r} (it has {printable(', '.join(names), 200)})"
    if key == "train_dataset":
        return ValueError(f"{there}; write `dataset_train_split: {_for_training(names)}`.")
    advised = next((name for name in HELD_OUT if name in names), None)
    if advised is None:
        return ValueError(
            f"{there}, so nothing in it is held out from training; write `eval_dataset: path/to/rows.jsonl` with rows "
            "that are not trained on, or leave `eval_strategy` out."
        )
    return ValueError(f"{there}; write `dataset_test_split: {advised}`.")


def check_no_split(source: DataSource, key: str) -> None:
    """Refuse a split of rows that have none: they would be taken whole, without a word.

    Args:
        key: of the configuration, "train_dataset" or "eval_dataset".

    Raises:
        ValueError: another split is asked for than the default of the key, or `train`.
    """
    split_key = "dataset_train_split" if key == "train_dataset" else "dataset_test_split"
    if source.split in ("train", RUN_KEYS[split_key][1]):
        return
    raise ValueError(
        f"`{key}`: {', '.join(source.names)} has no splits and is taken whole, so there is no split {source.split!r} "
        f"in it; remove `{split_key}: {source.split}` (or `split: {source.split}` of its set). Rows for evaluation are "
        "a file of their own: `eval_dataset: path/to/rows.jsonl`."
    )


def _for_training(names: Sequence[str]) -> str:
    named = [name for name in names if name.startswith("train")]
    others = [name for name in names if name not in (*HELD_OUT, "eval", "evaluation")]
    return next(iter([*named, *others, *names]))


def splits_of_files(folder: Path, files: Sequence[Path]) -> Mapping[str, list[Path]]:
    """Files of a folder by the split that their names, or their folders' names, speak of, as `datasets` sorts them.

    Where no name does, all are under "". Where some do, those that do not are under "" too.
    """
    splits: dict[str, list[Path]] = {}
    for file in files:
        words = re.split(r"[^a-zA-Z]+", str(file.relative_to(folder)).lower())
        split = next((_WORDS[word] for word in reversed(words) if word in _WORDS), "")
        splits.setdefault(split, []).append(file)
    return splits
