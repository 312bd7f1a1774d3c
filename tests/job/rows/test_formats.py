"""Files of rows in every format: the same rows come out, and what cannot be read is named with its place."""

import gzip
import io
import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from tiny_models import prompt_completion

from qtarget.data.json_lines import json_rows
from qtarget.data.user_files.delimited import csv_rows, tsv_rows
from qtarget.data.user_files.formats import FORMATS, RowReader, rows_in
from qtarget.data.user_files.parquet import parquet_rows
from qtarget.job.config.checked_job import DataSource
from qtarget.job.facts import rows_fingerprint
from qtarget.job.rows.sources import load_rows

WRITERS: dict[RowReader, Callable[[datasets.Dataset, Path], object]] = {
    json_rows: lambda rows, path: rows.to_json(str(path)),
    csv_rows: lambda rows, path: rows.to_csv(str(path)),
    tsv_rows: lambda rows, path: rows.to_csv(str(path), sep="\t"),
    parquet_rows: lambda rows, path: rows.to_parquet(str(path)),
}


def loaded(*names, split: str = "train"):
    return load_rows(DataSource(tuple(map(str, names)), None, split), "train_dataset")


def rows_of(*names):
    return loaded(*names).rows


@pytest.fixture
def made(tmp_path, home):
    """The same rows in every form."""
    rows = prompt_completion(6, seed=4)
    texts = [json.dumps(row) for row in rows]
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(texts).encode())
    (tmp_path / "array.json").write_text(json.dumps(list(rows), indent=2))
    for ending, reader in FORMATS.items():
        WRITERS[reader](rows, tmp_path / f"a{ending}")
        (tmp_path / f"a{ending}.gz").write_bytes(gzip.compress((tmp_path / f"a{ending}").read_bytes()))
    (tmp_path / "SHOUTED.CSV").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.csv").read_bytes())
    (tmp_path / "packed.jsonl").write_bytes((tmp_path / "a.jsonl.gz").read_bytes())
    rows.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(other=rows.select([0]), train=rows).save_to_disk(tmp_path / "dict")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "train.jsonl").write_text("\n".join(texts))
    return rows, tmp_path


def test_rows_are_counted_from_1_in_files_that_have_no_lines(made):
    rows, folder = made
    for name in ("array.json", "a.parquet"):
        assert [placed.place for placed in rows_in(folder / name)] == [f"row {i}" for i in range(1, len(rows) + 1)]
    assert next(iter(rows_in(folder / "bom.jsonl"))).place == "line 1"


@pytest.mark.parametrize(
    "name",
    [
        *(f"a{ending}" for ending in FORMATS),
        *(f"a{ending}.gz" for ending in FORMATS),
        *("bom.jsonl", "array.json", "SHOUTED.CSV", "packed.jsonl", "saved", "dict", "folder"),
    ],
)
def test_one_content_in_every_form_has_one_fingerprint(made, name):
    rows, folder = made
    found = rows_of(folder / name)
    assert list(found) == list(rows)
    assert rows_fingerprint(found) == rows_fingerprint(rows)


def test_the_fingerprint_is_of_content_and_order(made):
    rows, _ = made
    assert rows_fingerprint(rows) != rows_fingerprint(rows.select(range(5)))
    assert rows_fingerprint(rows) != rows_fingerprint(rows.select([1, 0, 2, 3, 4, 5]))
    assert rows_fingerprint(rows) == rows_fingerprint(rows.select_columns(["completion", "prompt"]))


def test_several_files_are_one_set_whatever_their_formats(made):
    rows, folder = made
    assert list(rows_of(folder / "a.jsonl", folder / "a.csv", folder / "a.parquet.gz")) == [*rows, *rows, *rows]


def test_a_column_that_a_file_lacks_is_null_there_and_that_is_said(tmp_path, home):
    (tmp_path / "a.jsonl").write_text('{"prompt": "1", "completion": "2"}\n')
    (tmp_path / "b.csv").write_text("prompt,answer\nx,y\n")
    rows, notes = loaded(tmp_path / "a.jsonl", tmp_path / "b.csv")
    assert list(rows) == [
        {"prompt": "1", "completion": "2", "answer": None},
        {"prompt": "x", "completion": None, "answer": "y"},
    ]
    assert notes == (
        f"`completion` is null in the rows of {tmp_path / 'b.csv'}: no such column is in there",
        f"`answer` is null in the rows of {tmp_path / 'a.jsonl'}: no such column is in there",
    )


def test_cells_of_a_table_are_the_text_that_they_are(tmp_path, home):
    cells = ["1", "", "NA", "null", "007", "1e5", "2024-01-01", "true", "nan"]
    (tmp_path / "a.csv").write_text("prompt,completion\n" + "".join(f"{cell},x\n" for cell in cells))
    assert [row["prompt"] for row in rows_of(tmp_path / "a.csv")] == cells


def test_text_of_json_stays_text_whatever_it_looks_like(tmp_path, home):
    (tmp_path / "a.jsonl").write_text('{"prompt": "2024-01-01", "id": "1", "source": "s", "messages": []}\n' * 2)
    assert rows_of(tmp_path / "a.jsonl")[1] == {"prompt": "2024-01-01", "id": "1", "source": "s", "messages": []}


def test_objects_keep_their_fields_and_the_order_of_these(tmp_path, home):
    calls = [{"b": 1, "a": {"z": [1, "x", None]}}, {"a": 2, "c": None}, {}]
    rows = [{"messages": [{"role": "assistant", "tool_calls": [call]}]} for call in calls]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [{"messages": None}, *rows])))
    found = [row["messages"] for row in rows_of(tmp_path / "a.jsonl")]
    assert json.dumps(found) == json.dumps([None, *(row["messages"] for row in rows)])


def test_columns_that_come_late_are_columns(tmp_path, home):
    lines = [{"prompt": "x"}] * 1500 + [{"prompt": "y", "completion": "z", "n": 0.5}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [{"prompt": "w", "n": 1}, *lines])))
    rows, notes = loaded(tmp_path / "a.jsonl")
    assert (rows[0], rows[-1], notes) == ({"prompt": "w", "n": 1.0, "completion": None}, lines[-1] | {"n": 0.5}, ())


def test_a_file_that_has_changed_is_read_again(tmp_path, home):
    (tmp_path / "a.jsonl").write_text('{"prompt": "x"}\n')
    assert len(rows_of(tmp_path / "a.jsonl")) == 1
    (tmp_path / "a.jsonl").write_text('{"prompt": "x"}\n{"prompt": "y"}\n')
    assert len(rows_of(tmp_path / "a.jsonl")) == 2


def test_an_array_is_not_read_whole(tmp_path):
    row = json.dumps({"prompt": "x" * 1000})
    (tmp_path / "a.json").write_text(f"[{','.join([row] * 20_000)}]")
    tracemalloc.start()
    with (tmp_path / "a.json").open("rb") as file:
        assert sum(1 for _ in json_rows(file, "a.json")) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20 < (tmp_path / "a.json").stat().st_size


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_one_however_it_is_cut(monkeypatch, piece, indent):
    monkeypatch.setattr("qtarget.data.json_lines._PIECE", piece)
    rows = [{"a": 'é [{]}"\\' * i, "n": [i, {"k": None, "f": 1e-7 * i}]} for i in range(20)]
    file = io.BytesIO(json.dumps(rows, indent=indent, ensure_ascii=False).encode())
    assert [placed.row for placed in json_rows(file, "a.json")] == rows


def test_a_value_without_an_end_is_not_read_whole(monkeypatch):
    monkeypatch.setattr("qtarget.data.json_lines._PIECE", 64)
    monkeypatch.setattr("qtarget.data.json_lines.LONGEST_LINE", 1 << 20)
    file = io.BytesIO(b'[{"a": 1},\n{"a": "' + b"x" * (8 << 20))
    with pytest.raises(ValueError, match=r"bad.json, line 2: a value is longer than 1 MiB; is this a file of rows"):
        list(json_rows(file, "bad.json"))
    assert file.tell() < 4 << 20


BROKEN = {
    "bytes": (b'{"a": 1}\n{"a": \xff}\n', "bad.json, line 2: not UTF-8 (byte 7)"),
    "bytes in an array": (b'[{"a": 1},\n{"a": \xff}]', "bad.json, line 2: not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "bad.json: the text is UTF-16; save the file as UTF-8"),
    "half a character": (b'{"a": 1}\n\n{"a": "\\ud800"}\n', "bad.json, line 3: half of a surrogate pair"),
    "half a character in an array": (b'[{"a": "\\uD83D"}]', "bad.json, line 1: half of a surrogate pair"),
    "no object": (b'[{"a": 1}, 3]', "bad.json, row 2: a row is an object"),
    "a list": (b'{"a": 1}\n  \n"x"\n', 'bad.json, line 3: a row is an object like {"prompt": …}, and this is text'),
    "no colon": (b'[{"a": 1},\n{"a" 1}]', "bad.json, line 2, column 6: this is not JSON (Expecting ':' delimiter)"),
    "no comma": (b'[{"a": 1}\n {"a": 2}]', "bad.json, line 2, column 2: this is not JSON (Expecting ',' delimiter)"),
    "no end": (b'[{"a": 1}\n', "this is not JSON (the array does not end)"),
    "a comma too many": (b'[{"a": 1},]', "bad.json, line 1, column 11: this is not JSON (Expecting value)"),
    "more than an array": (b'[{"a": 1}] x', "bad.json, line 1, column 12: this is not JSON (text after the end"),
    "an array without rows": (b"[]", "bad.json has no rows"),
    "nothing": (b"", "bad.json has no rows; write one JSON object a line"),
    "blank lines": (b"\n \n", "bad.json has no rows"),
    "deep": (b"[" * 100_000, "bad.json, line 1: lists or objects are nested too deeply"),
    "deep in a line": (
        b'{"a": 1}\n{"a": ' + b"[" * 100_000,
        "bad.json, line 2: lists or objects are nested too deeply",
    ),
    "twice": (b'{"a": {"b": 1, "b": 2}}', "bad.json, line 1: `b` is written twice in one object; keep one"),
    "NaN": (b'{"a": 1}\n{"a": NaN}', "bad.json, line 2: NaN is not a value of JSON"),
    "infinity": (b'[{"a": -Infinity}]', "bad.json, line 1: -Infinity is not a value of JSON"),
    "a long number": (b'{"a": {"b": [12345678901234567890123]}}', "is a number beyond 64 bits; write it as text"),
    "an escape sequence": (
        b'{"a": "\x1b[31mred\x07"\n',
        r"bad.json, line 1, column 8: this is not JSON (Invalid control",
    ),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", "bad.json, line 1: not UTF-8 (byte 1)"),
    "list and object": (b'{"a": [1]}\n{"a": {"b": 1}}\n', "line 2: `a` is an object, and on line 1 it is a list"),
    "truth and number": (b'{"a": true}\n{"a": 1}\n', "line 2: `a` is a number, and on line 1 it is true or false"),
    "lists of two kinds": (b'{"a": [1]}\n{"a": ["x"]}\n', "line 2: `a` holds values of another type than on line 1"),
    "objects and text": (b'{"a": [{"b": 1}, "x"]}\n', "line 1: `a` holds values of another type than on line 1"),
    "a column's name": (b'{"\x7f\\u001b[2J": 1}\n{"\x7f\\u001b[2J": "x"}', r"line 2: `\x7f\x1b[2J` is text"),
}


TABLES = {
    "a cell too many": (b"a,b\n1,2\n1,2,3\n", "bad.csv, line 3: 3 cells for 2 columns (a, b)"),
    "a cell too few": (b'a,b\n"x\n\ny",2\n1\n', "bad.csv, line 5: 1 cells for 2 columns"),
    "two of one name": (b"a,a\n1,2\n", "bad.csv, line 1: two columns are named `a`"),
    "semicolons": (b"a;b\n1;2\n", "line 1: the columns are separated by semicolons, not by commas"),
    "tabs": (b"a\tb\n1\t2\n", "separated by tabs, not by commas; save the file with commas or name it .tsv"),
    "an open quote": (b'a,b\n"x,y\nz,1\n', "bad.csv, line 2: these are no cells separated by commas"),
    "a quote inside": (b'a,b\n"x"y,1\n', "bad.csv, line 2: these are no cells"),
    "Latin-1": (b"a,b\nx,y\n\xe9,1\n", "bad.csv, line 3: not UTF-8; save the file as UTF-8"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "bad.csv: the text is UTF-16"),
    "a program": (b"\x7fELF\0\0\0", "bad.csv is no text"),
    "nothing": (b"", "bad.csv has no rows; write the names of the columns on the first line"),
    "names alone": (b"a,b\n\n", "bad.csv has no rows"),
}


FILES = {
    "bad.parquet": (b"PAR1 no", "bad.parquet cannot be read as Parquet"),
    "bad.parquet.gz": (gzip.compress(b"PAR1 no"), "bad.parquet.gz cannot be read as Parquet"),
    "empty.parquet": (b"", "empty.parquet cannot be read as Parquet"),
    "cut.jsonl.gz": (gzip.compress(b'{"a": 1}\n' * 3000)[:40], "cut.jsonl.gz cannot be unpacked"),
    "bent.jsonl.gz": (gzip.compress(b'{"a": 1}\n')[:-3] + b"xxx", "bent.jsonl.gz cannot be unpacked"),
    "rows.xml": (b"", "rows.xml must end in .jsonl, .json, .csv, .tsv"),
    "rows.jsonl.zst": (b"", "rows.jsonl.zst must end in .jsonl"),
    "rows": (b"", "rows must end in .jsonl"),
}


BAD_FILES = {
    **{f"JSON: {case}": ("bad.json", *broken) for case, broken in BROKEN.items()},
    **{f"table: {case}": ("bad.csv", *broken) for case, broken in TABLES.items()},
    **{name: (name, *broken) for name, broken in FILES.items()},
}


@pytest.mark.failure_case(12)
@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_cannot_be_rows(tmp_path, home, case):
    name, content, said = BAD_FILES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        rows_of(tmp_path / name)
    assert all(sign.isprintable() for sign in str(error.value))


def test_a_file_that_may_not_be_read(tmp_path, home, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"a\.jsonl cannot be read: Permission denied"):
        rows_of(tmp_path / "a.jsonl")


def test_a_type_that_changes_from_one_file_to_the_next(tmp_path, home):
    (tmp_path / "a.jsonl").write_text('{"prompt": "x"}\n')
    (tmp_path / "b.jsonl").write_text('{"prompt": 1}\n')
    with pytest.raises(
        ValueError, match=r"b\.jsonl, line 1: `prompt` is a number, and in .*a\.jsonl, line 1, it is text"
    ):
        rows_of(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
