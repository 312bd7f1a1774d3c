"""Rows read from files, directories and the hub."""

from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from pyarrow import ArrowInvalid

from qtarget.data.json_lines import check_json
from qtarget.job.config.checked_job import DataSource
from qtarget.job.config.paths import looks_local, not_found

FORMATS: dict[str, str] = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}
"""How a file of rows ends, and the builder of `datasets` that reads it."""


def load_rows(source: DataSource, key: str) -> Dataset:
    """The rows of a source.

    Args:
        key: the key of the configuration that names it, for error messages.

    Raises:
        ValueError: it does not exist (naming the closest path), its format or split is unknown, or a file is broken.
    """
    paths = [Path(name).expanduser() for name in source.names]
    if all(path.is_file() for path in paths):
        return _from_files(paths, key)
    for path, name in zip(paths, source.names, strict=True):
        if not path.exists() and looks_local(name):
            raise ValueError(f"`{key}`: " + not_found(path, "the data"))
    if len(paths) > 1:
        other = next(path for path in paths if not path.is_file())
        raise ValueError(f"`{key}` is a list, and {other} in it is not a file; list files only, or name one directory.")
    path = paths[0]
    return _from_saved(path, source, key) if _is_saved(path) else _from_folder_or_hub(path, source, key)


def _from_files(paths: list[Path], key: str) -> Dataset:
    formats = {FORMATS.get(path.suffix) for path in paths}
    if None in formats or len(formats) > 1:
        raise ValueError(f"`{key}`: {', '.join(map(str, paths))} must all end in {_endings()}.")
    form = formats.pop()
    for path in paths if form == "json" else ():
        check_json(path)
    return _load(key, str(form), data_files=[str(path) for path in paths], split="train")


def _endings() -> str:
    """How files of rows may end, those of one format together: `.jsonl or .json, or all in .parquet`."""
    kinds = [[ending for ending, form in FORMATS.items() if form == kind] for kind in dict.fromkeys(FORMATS.values())]
    return ", or all in ".join(" or ".join(kind) for kind in kinds)


def _is_saved(path: Path) -> bool:
    """Whether `save_to_disk` wrote this directory."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def _from_saved(path: Path, source: DataSource, key: str) -> Dataset:
    saved: Any = load_from_disk(str(path))
    if not isinstance(saved, DatasetDict):
        return saved
    if source.split not in saved:
        raise ValueError(_no_split(key, source, ", ".join(map(str, saved))))
    return saved[source.split]


def _from_folder_or_hub(path: Path, source: DataSource, key: str) -> Dataset:
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if FORMATS.get(file.suffix) == "json"):
            check_json(file)
    try:
        return _load(key, source.names[0], name=source.config, split=source.split)
    except ValueError as error:
        if "Unknown split" in str(error):
            raise ValueError(_no_split(key, source, str(error).partition("one of ")[2].strip("[]. "))) from error
        raise


def _no_split(key: str, source: DataSource, splits: str) -> str:
    split_key = "dataset_train_split" if key == "train_dataset" else "dataset_test_split"
    first = splits.split(",")[0].strip("'\" ")
    return f"`{key}`: {source.names[0]} has no split {source.split!r} (it has {splits}); write `{split_key}: {first}`."


def _load(key: str, *args: Any, **kwargs: Any) -> Any:
    """`datasets.load_dataset`, with its errors in our words."""
    try:
        return load_dataset(*args, **kwargs)
    except DatasetNotFoundError as error:
        raise ValueError(f"`{key}`: {args[0]} is neither a path here nor a data set on the hub ({error}).") from error
    except (DatasetGenerationError, ArrowInvalid) as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(f"`{key}`: the rows of {kwargs.get('data_files', args[0])} cannot be read: {cause}") from error
