"""Several sets of rows as one: one after the other, or mixed by shares."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, IterableDataset, concatenate_datasets, interleave_datasets

from qtarget.console import printable
from qtarget.job.config.checked_job import DataSource, Job, MixtureStopping
from qtarget.job.rows.row_files import FileRows
from qtarget.job.rows.sources import ReadOptions, load_rows
from qtarget.job.rows.typed_columns import common_type

AnyRows = Dataset | IterableDataset
Canonical = Callable[[AnyRows, DataSource], AnyRows]
"""Gives the rows of one set the columns that all sets of a mixture have."""


def with_named_columns(rows: AnyRows, source: DataSource) -> AnyRows:
    """Rows whose columns have the names that the set's `columns` gives them, as in `columns: {prompt: question}`.

    Raises:
        ValueError: there is no such column.
    """
    named = source.columns or {}
    for target, column in named.items():
        if not isinstance(column, str) or column not in (rows.column_names or ()):
            raise ValueError(
                f"`columns: {{{target}: {column}}}` of {', '.join(source.names)}: there is no such column; it has "
                f"{printable(', '.join(rows.column_names or ()), 200)}."
            )
    return rows.rename_columns({column: target for target, column in named.items() if column != target})


def load_sets(job: Job, source: DataSource, key: str, canonical: Canonical = with_named_columns) -> FileRows:
    """The rows of a source; where it is a list of sets, all of them as one.

    With shares, each next row is drawn from a set by its share, and within a set rows keep their order. The same seed
    draws the same order, on every rank and on resume.

    Args:
        canonical: applied to the rows of each set before they are put together.

    Raises:
        ValueError: as `load_rows`; or sets whose columns do not go together.
    """
    reading = ReadOptions(job.streaming and key == "train_dataset", job.sample)
    loaded = [load_rows(part, key, reading) for part in source.sets or (source,)]
    rows = [canonical(each.rows, part) for each, part in zip(loaded, source.sets or (source,), strict=True)]
    notes = [note for each in loaded for note in each.notes]
    if not source.sets:
        return FileRows(rows[0], tuple(notes))
    rows = _with_equal_types(rows, source, key)
    notes += _lacking_columns(rows, source)
    if source.sets[0].share is None:
        return FileRows(concatenate_datasets(rows), tuple(notes))
    mixture = _Mixture(job, source)
    return FileRows(mixture.mixed(rows), (*notes, *mixture.notes(rows)))


class _Mixture:
    """How sets are mixed: the probability of each to give the next row, the seed of the draw, and when it ends."""

    def __init__(self, job: Job, source: DataSource) -> None:
        shares = [part.share or 0.0 for part in source.sets]
        self.probabilities = [share / sum(shares) for share in shares]
        self.names = [", ".join(part.names) for part in source.sets]
        self.stopping: MixtureStopping = job.mixture_stopping
        self.seed, self.is_whole = job.args.seed, job.sample is None

    def mixed(self, rows: Sequence[AnyRows]) -> Any:
        sets: list[Any] = list(rows)
        return interleave_datasets(
            sets, probabilities=self.probabilities, seed=self.seed, stopping_strategy=self.stopping
        )

    def notes(self, rows: Sequence[AnyRows]) -> list[str]:
        """How often the rows of each set come in one epoch, found by mixing their numbers."""
        shares = [
            f"{share:.3g} of the rows from {name}" for share, name in zip(self.probabilities, self.names, strict=True)
        ]
        finite = [each for each in rows if isinstance(each, Dataset)]
        if not self.is_whole or len(finite) < len(rows):
            return shares
        numbers = [
            Dataset.from_dict({"set": [i] * len(each), "row": range(len(each))}) for i, each in enumerate(finite)
        ]
        drawn = self.mixed(numbers)
        times = [Counter[int]() for _ in finite]
        for batch in drawn.iter(10_000):
            for index, row in zip(batch["set"], batch["row"], strict=True):
                times[index][row] += 1
        return [f"{share}: {_seen(len(each), count)}" for share, each, count in zip(shares, finite, times, strict=True)]


def _seen(rows: int, times: Counter[int]) -> str:
    most, least = max(times.values(), default=0), min(times.values(), default=0)
    part = f"{len(times):,} of its {rows:,} rows" if len(times) < rows else f"all {rows:,} rows"
    if most <= 1:
        return f"{part} in an epoch, each once"
    often = f"{most} times" if most == least else f"{least} to {most} times"
    return f"{part} in an epoch, each {often}"


def _lacking_columns(rows: Sequence[AnyRows], source: DataSource) -> list[str]:
    names = dict.fromkeys(name for each in rows for name in each.column_names or ())
    return [
        f"`{printable(name)}` is null in the rows of {', '.join(part.names)}: no such column is in there"
        for name in names
        for each, part in zip(rows, source.sets, strict=True)
        if name not in (each.column_names or names)
    ]


def _with_equal_types(rows: Sequence[AnyRows], source: DataSource, key: str) -> list[Any]:
    """The sets with one type for each column; a set that lacks a column does so still."""
    types: dict[str, pa.DataType] = {}
    for each, part in zip(rows, source.sets, strict=True):
        for column in (each.features or Features()).arrow_schema:
            known = types.get(column.name, pa.null())
            try:
                types[column.name] = common_type(known, column.type)
            except TypeError as error:
                raise ValueError(
                    f"`{key}`: `{printable(column.name)}` of {', '.join(part.names)} is {column.type}, and of another "
                    f"set {known}; give columns of one name one type, or name them anew with `columns`."
                ) from error
    return [_retyped(each, types) for each in rows]


def _retyped(rows: AnyRows, types: Mapping[str, pa.DataType]) -> AnyRows:
    features = rows.features or Features()
    wrong = {column.name: types[column.name] for column in features.arrow_schema if column.type != types[column.name]}
    wrong = {name: kind for name, kind in wrong.items() if not pa.types.is_null(features.arrow_schema.field(name).type)}
    return rows.cast(Features({**features, **Features.from_arrow_schema(pa.schema(wrong))})) if wrong else rows
