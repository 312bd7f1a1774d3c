"""The rows of a source: files, a folder of them, one that `save_to_disk` wrote, or a name on the hub."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import (
    Dataset,
    DatasetDict,
    IterableDataset,
    get_dataset_config_names,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from pyarrow import ArrowInvalid

from qtarget.console import printable
from qtarget.data.user_files.formats import format_endings, reader_of
from qtarget.data.user_files.paths import describes_itself, looks_local, not_found
from qtarget.job.config.checked_job import DataSource
from qtarget.job.rows.named_files import refuse_rows_outside
from qtarget.job.rows.row_files import FileRows, first_rows, read_files, stream_files
from qtarget.job.rows.splits import check_no_split, no_such_split, splits_of_files

FIRST_ROWS = 1000
"""How many rows of a source are looked at, about, where not all are: by `--quick`, and of a stream."""


class ReadOptions(NamedTuple):
    """How rows are read.

    Attributes:
        streaming: one after the other while training runs, instead of all of them before it.
        row_limit: only about so many, the first ones; None for all.
    """

    streaming: bool = False
    row_limit: int | None = None


_WHOLE = ReadOptions()


def load_rows(source: DataSource, key: str, reading: ReadOptions = _WHOLE) -> FileRows:
    """The rows of one source.

    Args:
        key: the key of the configuration that names it, for error messages.

    Raises:
        ValueError: it does not exist (naming the closest path), its format or split is unknown, or a file is broken.
    """
    paths = [Path(name).expanduser() for name in source.names]
    if all(path.is_file() for path in paths):
        _check_endings(paths, key)
        check_no_split(source, key)
        return _from_files(paths, reading)
    for path, name in zip(paths, source.names, strict=True):
        if not path.exists() and (looks_local(name) or len(paths) > 1):
            raise ValueError(f"`{key}`: " + not_found(path, "the data"))
    if len(paths) > 1:
        other = next(path for path in paths if not path.is_file())
        raise ValueError(
            f"`{key}` is a list, and {other} in it is not a file; list files only, or name one directory, or write "
            f"each set as `- path: {other}`."
        )
    return _from_one(paths[0], source, key, reading)


def _from_one(path: Path, source: DataSource, key: str, reading: ReadOptions) -> FileRows:
    refuse_rows_outside(path, key)
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return _from_saved(path, source, key, reading)
    if path.is_dir() and not describes_itself(path) and source.split.isidentifier():
        return _from_folder(path, source, key, reading)
    if path.exists() and not path.is_dir():
        raise ValueError(f"`{key}`: {path} is neither a file nor a directory; write its rows to a file.")
    return _from_hub(source, key, reading)


def _check_endings(paths: Sequence[Path], key: str) -> None:
    unknown = [str(path) for path in paths if reader_of(path) is None]
    if unknown:
        raise ValueError(f"`{key}`: {', '.join(unknown)} must end in {format_endings()}.")


def _from_files(paths: Sequence[Path], reading: ReadOptions) -> FileRows:
    if reading.row_limit is not None:
        return first_rows(paths, reading.row_limit)
    return stream_files(paths) if reading.streaming else read_files(paths)


def _from_folder(folder: Path, source: DataSource, key: str, reading: ReadOptions) -> FileRows:
    """The files of the source's split; all of them where no name speaks of a split, unless some rows must be held out
    from training."""
    files = sorted(
        file for file in folder.rglob("*") if file.is_file() and reader_of(file) and not _hidden(file, folder)
    )
    if not files:
        raise ValueError(f"`{key}`: {folder} holds no file of rows; such files end in {format_endings()}.")
    splits = splits_of_files(folder, files)
    if list(splits) == [""]:
        if source.held_out:
            raise no_such_split(source, key, ["train"])
        check_no_split(source, key)
        return _from_files(files, reading)
    named = [split for split in splits if split]
    if source.split not in named:
        raise no_such_split(source, key, named)
    rows, notes = _from_files(splits[source.split], reading)
    unused = [str(file.relative_to(folder)) for file in splits.get("", [])]
    note = f"{', '.join(unused[:3])}{' …' if len(unused) > 3 else ''} in {folder} is not read: its name says no split"
    return FileRows(rows, (*notes, note) if unused else notes)


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)


def _from_saved(path: Path, source: DataSource, key: str, reading: ReadOptions) -> FileRows:
    try:
        saved: Any = load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError, ArrowInvalid) as error:
        raise ValueError(
            f"`{key}`: {path} is a folder that `save_to_disk` wrote, and it is damaged ({_first_line(error)}); save it "
            "again."
        ) from error
    if isinstance(saved, DatasetDict):
        if source.split not in saved:
            raise no_such_split(source, key, map(str, saved))
        saved = saved[source.split]
    elif source.held_out:
        raise no_such_split(source, key, ["train"])
    else:
        check_no_split(source, key)
    if reading.row_limit is not None:
        saved = saved.select(range(min(reading.row_limit, len(saved))))
    return FileRows(saved.to_iterable_dataset() if reading.streaming and reading.row_limit is None else saved, ())


def _from_hub(source: DataSource, key: str, reading: ReadOptions) -> FileRows:
    lazily = reading.streaming or reading.row_limit is not None
    rows = _load(source, key, lazily)
    if reading.row_limit is None:
        return FileRows(rows, ())
    taken = list(rows.take(reading.row_limit))
    return FileRows(Dataset.from_list(taken, features=rows.features), ())


def _load(source: DataSource, key: str, streaming: bool) -> Dataset | IterableDataset | Any:
    """`datasets.load_dataset`, with its errors in our words."""
    name = source.names[0]
    try:
        return load_dataset(name, name=source.config, split=source.split, streaming=streaming)
    except DatasetNotFoundError as error:
        raise ValueError(f"`{key}`: {name} is neither a path here nor a data set on the hub ({error}).") from error
    except ConnectionError as error:
        why = not_found(Path(name), "the data")
        raise ValueError(f"`{key}`: {why}, and the hub cannot be asked for it ({_first_line(error)}).") from error
    except (DatasetGenerationError, ArrowInvalid) as error:
        raise ValueError(
            f"`{key}`: the rows of {name} cannot be read: {_first_line(error.__cause__ or error)}"
        ) from error
    except ValueError as error:
        splits = re.search(r"(?:Unknown|Bad) split.*?\[(.*)\]", str(error), re.DOTALL)
        if splits:
            raise no_such_split(source, key, re.findall(r"[\w.-]+", splits[1])) from error
        if "Config name is missing" in str(error) or "BuilderConfig" in str(error):
            configs = ", ".join(get_dataset_config_names(name))
            raise ValueError(
                f"`{key}`: {name} has the configurations {configs}; write `dataset_config:` and one of these."
            ) from error
        raise ValueError(f"`{key}`: {name} cannot be loaded: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return printable(lines[0], 200) if lines else type(error).__name__
