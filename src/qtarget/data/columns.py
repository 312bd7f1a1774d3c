"""The columns of a data set."""

from datasets import Dataset, IterableDataset

AnyDataset = Dataset | IterableDataset


def column_names(dataset: AnyDataset) -> list[str]:
    """The names of the columns; of a stream that does not know them, those of its first row."""
    return list(dataset.column_names or next(iter(dataset), {}))
