"""The sets that a configuration lists, read one by one; `qtarget.train.RowMixture` puts them together."""

from collections.abc import Callable
from typing import Any, NamedTuple

from datasets import Dataset, IterableDataset

from qtarget.job.config.checked_job import DataSource, Job
from qtarget.job.rows.row_files import FileRows
from qtarget.job.rows.sources import ReadOptions, load_rows
from qtarget.train import RowMixture, RowSet

AnyRows = Dataset | IterableDataset


class SourceRows(NamedTuple):
    """The rows of a source, or of the sets in its place.

    Attributes:
        source: of each.
        notes: sentences about what was made of files.
    """

    rows: list[AnyRows]
    source: list[DataSource]
    notes: tuple[str, ...]


def load_sets(job: Job, source: DataSource, key: str) -> SourceRows:
    """The rows of a source; where it is a list of sets, of each of them.

    Raises:
        ValueError: as `load_rows`.
    """
    reading = ReadOptions(job.streaming and key == "train_dataset", job.row_limit)
    parts = list(source.sets or (source,))
    loaded = [_load_set(part, key, reading, i if source.sets else None) for i, part in enumerate(parts, 1)]
    return SourceRows([each.rows for each in loaded], parts, tuple(note for each in loaded for note in each.notes))


def _load_set(part: DataSource, key: str, reading: ReadOptions, number: int | None) -> FileRows:
    """The rows of a source; an error says which set of a list it is, by its number."""
    try:
        return load_rows(part, key, reading)
    except ValueError as error:
        if number is None:
            raise
        raise ValueError(f"set {number} of `{key}`: {str(error).removeprefix(f'`{key}`: ')}") from error


def mixture_of(job: Job, loaded: SourceRows, rows: list[Any], select: Callable[[Any], Any]) -> RowMixture:
    """Sets, whether laid out or not, as one.

    Args:
        select: takes the rows of the mixture that the run takes.
    """
    sets = [
        RowSet(each, ", ".join(part.names), part.share, part.columns)
        for each, part in zip(rows, loaded.source, strict=True)
    ]
    return RowMixture(tuple(sets), job.mixture_stopping, job.args.seed, select)
