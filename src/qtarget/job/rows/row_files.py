"""Files of rows as one `datasets` set: read once into an Arrow file among `datasets`' own, streamed, or sampled."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import datasets.config
import pyarrow as pa
from datasets import Dataset, Features, IterableDataset, Value
from datasets.table import InMemoryTable
from filelock import FileLock

from qtarget.console import printable
from qtarget.data import FilesInfo
from qtarget.data.json_lines import PlacedRow, kind_of_value
from qtarget.data.user_files.formats import rows_in
from qtarget.disk.files import replacing, write_json
from qtarget.disk.place import check_place
from qtarget.job.rows.reading_progress import reading_progress
from qtarget.job.rows.row_chunks import CHUNK_ROWS, row_chunks
from qtarget.job.rows.typed_columns import ColumnTypes, filled_column
from qtarget.outcomes import UnusableRow

_VERSION = 2
"""Of what is made of files; part of the names of what was made."""


class FileRows(NamedTuple):
    """The rows of some files, and sentences about what was made of them that a user may not expect."""

    rows: Dataset | IterableDataset
    notes: tuple[str, ...]


class _WiderColumnsError(Exception):
    """A later row has a column, or a type, that the first rows of all files had not."""


@dataclass
class _ColumnsOfFiles:
    """The columns that each file was found to have."""

    names: dict[str, set[str]] = field(default_factory=dict)

    def add(self, path: Path, names: Sequence[str]) -> None:
        self.names.setdefault(str(path), set()).update(names)

    def notes(self) -> tuple[str, ...]:
        """A sentence for each column that some files lack."""
        every = dict.fromkeys(name for names in self.names.values() for name in sorted(names))
        lacking = {name: [path for path, names in self.names.items() if name not in names] for name in every}
        return tuple(
            f"`{printable(name)}` is null in the rows of {_listed(paths)}: no such column is in there"
            for name, paths in lacking.items()
            if paths
        )


def read_files(paths: Sequence[Path]) -> FileRows:
    """All rows of some files, in their order, as one set. A column that a file lacks is null in its rows.

    They are kept in the folder of `datasets`' own files, so the same files are read once.

    Raises:
        ValueError: a file cannot be read, has no rows, or a column has two types; names the file and the place. Or the
            folder of `datasets`' files cannot be written to.
        OSError: there is no room for the rows on the disk.
    """
    kept = Path(datasets.config.HF_DATASETS_CACHE)
    check_place(kept, f"`HF_DATASETS_CACHE={kept}`")
    folder = kept / "qtarget-rows" / _identity(paths)
    table, notes = folder / "rows.arrow", folder / "notes.json"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # the ranks of a run read the same files: the first one reads, the others wait
        if not table.is_file():
            _write(paths, table, notes)
    made = json.loads(notes.read_text(encoding="utf-8"))
    info = _files_info(paths, made["rows"], made["columns"])
    return FileRows(Dataset.from_file(str(table), info=info), tuple(made["notes"]))


def first_rows(paths: Sequence[Path], count: int) -> FileRows:
    """The first rows of some files, about `count` in all and as many of each; nothing behind them is read.

    Raises:
        ValueError: as `read_files`, as far as the rows are read.
    """
    return _first_rows(paths, -(-count // len(paths)))[0]


def stream_files(paths: Sequence[Path]) -> FileRows:
    """The rows of some files as they come, in their order; each row is checked when it comes.

    The columns, and the types of their values, are those of each file's first rows.

    Raises:
        ValueError: as `first_rows`; while rows come, a row that is no row, or has other columns or types.
    """
    seen, types = _first_rows(paths, CHUNK_ROWS)
    features = {name: Value("string") if kind == Value("null") else kind for name, kind in types.features.items()}
    kinds = {name: types.first[name][0] if name in types.first else "text" for name in features}
    rows: Any = IterableDataset.from_generator(
        _streamed_rows, features=Features(features), gen_kwargs={"paths": list(paths), "kinds": kinds}
    )
    return FileRows(rows, seen.notes)


def _streamed_rows(paths: list[Path], kinds: dict[str, str]) -> Iterator[dict[str, Any]]:
    try:
        for path in paths:
            for placed in rows_in(path):
                for name, value in placed.row.items():
                    if value is not None and kinds.get(name) != kind_of_value(value):
                        raise _odd_in_stream(path, placed, name, kinds)
                yield placed.row
    except ValueError as error:
        raise UnusableRow(str(error)) from error


def _odd_in_stream(path: Path, placed: PlacedRow, name: str, kinds: dict[str, str]) -> ValueError:
    known = f"in the first rows it is {kinds[name]}" if name in kinds else "the first rows have no such column"
    return ValueError(
        f"{path}, {placed.place}: `{printable(name)}` is {kind_of_value(placed.row[name])}, and {known}; give a column "
        "one type and name it in the first rows (null will do), or write `streaming: false`."
    )


def _first_rows(paths: Sequence[Path], each: int) -> tuple[FileRows, ColumnTypes]:
    """The first `each` rows of every file."""
    types, columns = ColumnTypes(), _ColumnsOfFiles()
    parts: list[tuple[dict[str, pa.Array], int]] = []
    counts = [0] * len(paths)
    for i, path in enumerate(paths):
        for chunk in row_chunks([path], each):
            counts[i] += len(chunk.rows)
            arrays = types.take(path, chunk.rows)
            columns.add(path, list(arrays))
            parts.append((arrays, len(chunk.rows)))
    schema = types.features.arrow_schema
    table = pa.concat_tables([pa.Table.from_batches([_batch(arrays, schema, rows)]) for arrays, rows in parts])
    info = _files_info(paths, counts, schema.names)
    return FileRows(Dataset(InMemoryTable(table), info=info), columns.notes()), types


def _write(paths: Sequence[Path], table: Path, notes: Path) -> None:
    """Write the rows to `table`. Files whose later rows have columns that the first have not are read twice."""
    types = ColumnTypes()
    for chunk in row_chunks(paths, CHUNK_ROWS):
        types.take(chunk.path, chunk.rows)
    try:
        _write_table(paths, types, table, notes)
    except _WiderColumnsError:
        with reading_progress("looking at", paths) as progress:
            for chunk in row_chunks(paths, progress=progress):
                types.take(chunk.path, chunk.rows)
        _write_table(paths, types, table, notes)


def _write_table(paths: Sequence[Path], types: ColumnTypes, table: Path, notes: Path) -> None:
    """Write the rows, in columns of the given types.

    Raises:
        _WiderColumnsError: a row does not fit them.
    """
    schema, known, columns = types.features.arrow_schema, dict(types.types), _ColumnsOfFiles()
    counts = [0] * len(paths)
    with reading_progress("reading", paths) as progress, replacing(table) as file:
        with pa.ipc.new_stream(file, schema) as writer:
            for i, path in enumerate(paths):
                for chunk in row_chunks([path], progress=progress):
                    arrays = types.take(path, chunk.rows)
                    if types.types != known:
                        raise _WiderColumnsError
                    columns.add(path, list(arrays))
                    writer.write_batch(_batch(arrays, schema, len(chunk.rows)))
                    counts[i] += len(chunk.rows)
        write_json(notes, {"notes": columns.notes(), "rows": counts, "columns": schema.names})


def _files_info(paths: Sequence[Path], counts: Sequence[int], columns: Sequence[str]) -> FilesInfo:
    files = [(str(path), count) for path, count in zip(paths, counts, strict=True)]
    return FilesInfo(files=files, columns=list(columns))


def _batch(arrays: dict[str, pa.Array], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    columns = [filled_column(arrays.get(field.name), field.type, rows) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _identity(paths: Sequence[Path]) -> str:
    """Another for other files, other content of them as far as size and time of change tell, or another order."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(json.dumps([_VERSION, stats]).encode()).hexdigest()[:32]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
