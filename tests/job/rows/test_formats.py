"""Rows from files and directories, and what is said of those that cannot be read."""

import json

import datasets
import pytest
from tiny_models import prompt_completion

from qtarget.data.json_lines import check_json
from qtarget.job.config.checked_job import DataSource
from qtarget.job.facts import rows_fingerprint
from qtarget.job.rows.formats import FORMATS, load_rows


def rows_of(*names: str, split: str = "train"):
    return load_rows(DataSource(tuple(map(str, names)), None, split), "train_dataset")


@pytest.fixture
def made(tmp_path, home):
    """The same rows in every form."""
    rows = prompt_completion(6, seed=4)
    texts = [json.dumps(row) for row in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(texts))
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(texts).encode())
    (tmp_path / "a.json").write_text(f"[{','.join(texts)}]")
    for ending, form in FORMATS.items():
        if form != "json":
            getattr(rows, f"to_{form}")(str(tmp_path / f"a{ending}"))
    rows.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(other=rows.select([0]), train=rows).save_to_disk(tmp_path / "dict")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "train.jsonl").write_text("\n".join(texts))
    return rows, tmp_path


@pytest.mark.parametrize("name", [*(f"a{ending}" for ending in FORMATS), "bom.jsonl", "saved", "dict", "folder"])
def test_one_content_in_every_form_has_one_fingerprint(made, name):
    rows, folder = made
    loaded = rows_of(folder / name)
    assert list(loaded) == list(rows)
    assert rows_fingerprint(loaded) == rows_fingerprint(rows)


def test_the_fingerprint_is_of_content_and_order(made):
    rows, _ = made
    assert rows_fingerprint(rows) != rows_fingerprint(rows.select(range(5)))
    assert rows_fingerprint(rows) != rows_fingerprint(rows.select([1, 0, 2, 3, 4, 5]))
    assert rows_fingerprint(rows) == rows_fingerprint(rows.select_columns(["completion", "prompt"]))


def test_several_files_are_one_set(made):
    rows, folder = made
    assert list(rows_of(folder / "a.jsonl", folder / "bom.jsonl")) == [*rows, *rows]


@pytest.mark.parametrize("name", ["dict", "folder"])
def test_a_split_that_is_not_there(made, name):
    with pytest.raises(ValueError, match=r"has no split 'validation' .*write `dataset_train_split: (other|train)`"):
        rows_of(made[1] / name, split="validation")


@pytest.mark.parametrize("names", [("folder", "a.jsonl"), ("a.jsonl", "folder")])
def test_a_list_of_a_file_and_a_directory(made, names):
    with pytest.raises(ValueError, match="folder in it is not a file"):
        rows_of(*(made[1] / name for name in names))


def test_a_broken_file_in_a_directory(made):
    _, folder = made
    (folder / "folder" / "train.jsonl").write_text('{"prompt": "a"}\n{"prompt"}\n')
    with pytest.raises(ValueError, match=r"train\.jsonl, line 2, column 10: this is not JSON .*\{\"prompt\"\}"):
        rows_of(folder / "folder")


def test_a_broken_parquet_file(made):
    (made[1] / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match=r"bad\.parquet.* cannot be read"):
        rows_of(made[1] / "bad.parquet")


def test_rows_may_leave_columns_out(tmp_path, home):
    (tmp_path / "a.jsonl").write_text('{"a": 1, "b": null}\n{"a": 2.5}\n{"b": "x"}\n')
    assert rows_of(tmp_path / "a.jsonl")["b"][:] == [None, None, "x"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}\n{"a": \xff}\n', "line 2: not UTF-8 (byte 7)"),
        (b'{"a": 1}\n\n{"a": "\\ud800"}\n', "line 3: half of a surrogate pair"),
        (b'[{"a": 1}, 3]', "row 1: a row is an object"),
        (b'[{"a": 1},\n{"a" 1}]', "line 2, column 6: this is not JSON"),
        (b"[]", "has no rows"),
        (b'{"a": [1]}\n{"a": {"b": 1}}\n', "line 2: `a` is an object, and on line 1 it is a list"),
        (b'{"a": true}\n{"a": 1}\n', "line 2: `a` is a number, and on line 1 it is true or false"),
    ],
)
def test_json_that_cannot_be_rows(tmp_path, content, said):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(ValueError, match="bad") as error:
        check_json(tmp_path / "bad.json")
    assert said in str(error.value)
