"""Rows of Parquet files."""

import gzip
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from datasets.table import InMemoryTable

from qtarget.data.json_lines import PlacedRow

_ROWS = 1000
"""Rows that are made Python objects at once."""


def parquet_rows(file: BinaryIO, name: str) -> Iterator[PlacedRow]:
    """The rows of a Parquet file.

    Args:
        file: open for reading.
        name: of the file, for error messages.

    Raises:
        ValueError: it is no Parquet file, or damaged.
    """
    try:
        table = pq.ParquetFile(_with_random_access(file))
        count = 0
        for batch in table.iter_batches(_ROWS):
            columns: Any = Dataset(InMemoryTable(pa.Table.from_batches([batch])))[:]
            for values in zip(*columns.values(), strict=True):
                count += 1
                yield PlacedRow(f"row {count}", dict(zip(columns, values, strict=True)))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name} cannot be read as Parquet ({str(error).splitlines()[0]}); copy it again.") from error


def _with_random_access(file: BinaryIO) -> BinaryIO:
    """The file itself, or what it holds unpacked on the disk: the end of a Parquet file is read first."""
    if not isinstance(getattr(file, "raw", None), gzip.GzipFile):
        return file
    unpacked: Any = tempfile.TemporaryFile()  # noqa: SIM115  (gone with its last reader)
    shutil.copyfileobj(file, unpacked)
    unpacked.seek(0)
    return unpacked
