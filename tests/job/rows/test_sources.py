"""Where rows come from: files, folders, saved sets; which split of them is taken, and which is advised."""

import json
import re
from pathlib import Path

import datasets
import pytest

from qtarget.job.config.checked_job import DataSource
from qtarget.job.rows import sources
from qtarget.job.rows.sources import ReadOptions, load_rows
from qtarget.outcomes import UnusableRow

ROWS = [{"prompt": f"w{i}", "completion": f"w{i + 1}"} for i in range(6)]


def write(path: Path, *rows: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def loaded(*names, split="train", key="train_dataset", held_out=False, **reading):
    source = DataSource(tuple(map(str, names)), None, split, held_out=held_out)
    return load_rows(source, key, ReadOptions(**reading))


def saved(folder: Path, *splits: str) -> Path:
    rows = datasets.Dataset.from_list(ROWS)
    (datasets.DatasetDict(dict.fromkeys(splits, rows)) if splits else rows).save_to_disk(folder)
    return folder


def hub_like(folder: Path, *splits: str) -> Path:
    """A folder that describes its files as a data set on the hub does; `datasets` itself reads it."""
    lines = "".join(f"  - split: {split}\n    path: {split}.jsonl\n" for split in splits)
    for split in splits:
        write(folder / f"{split}.jsonl", *ROWS)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{lines}---\n# rows\n")
    return folder


def folder_of(folder: Path, *splits: str) -> Path:
    for split in splits:
        write(folder / f"{split}-00000-of-00001.jsonl", *ROWS)
    return folder


MAKERS = {"saved": saved, "folder": folder_of, "hub": hub_like}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    ("there", "advised"),
    [
        (("train", "validation"), "validation"),
        (("dev", "train", "val"), "val"),
        (("test", "train", "valid", "validation"), "validation"),
        (("dev", "train"), "dev"),
    ],
)
def test_what_is_held_out_is_advised_for_evaluation(tmp_path, home, maker, there, advised):
    folder = MAKERS[maker](tmp_path / "rows", *there)
    if maker == "folder":  # such names are all `validation` there, as `datasets` has it
        advised = "validation"
    with pytest.raises(ValueError, match=rf"has no split 'other' .*write `dataset_test_split: {advised}`") as error:
        loaded(folder, split="other", key="eval_dataset")
    assert "split: train" not in str(error.value)


@pytest.mark.parametrize("maker", MAKERS)
def test_rows_that_are_trained_on_are_never_advised_for_evaluation(tmp_path, home, maker):
    folder = MAKERS[maker](tmp_path / "rows", "train")
    with pytest.raises(ValueError, match="nothing in it is held out from training; write `eval_dataset: path") as error:
        loaded(folder, split="test", key="eval_dataset")
    assert "split: train" not in str(error.value)


@pytest.mark.parametrize("maker", MAKERS)
def test_training_takes_what_is_named_for_it(tmp_path, home, maker):
    folder = MAKERS[maker](tmp_path / "rows", "test", "train")
    assert list(loaded(folder).rows) == ROWS
    with pytest.raises(ValueError, match=r"has no split 'validation' .*write `dataset_train_split: train`"):
        loaded(folder, split="validation")


@pytest.mark.parametrize("maker", ["saved", "folder"])
def test_rows_without_splits_are_not_held_out_from_themselves(tmp_path, home, maker):
    folder = saved(tmp_path / "rows") if maker == "saved" else write(tmp_path / "rows" / "a.jsonl", *ROWS).parent
    assert list(loaded(folder, split="test", key="eval_dataset").rows) == ROWS  # named for evaluation: taken whole
    with pytest.raises(ValueError, match="nothing in it is held out"):
        loaded(folder, split="test", key="eval_dataset", held_out=True)


def test_a_folder_of_files_of_several_formats_is_one_set(tmp_path, home):
    write(tmp_path / "rows" / "b" / "x.jsonl", ROWS[1])
    (tmp_path / "rows" / "a.csv").write_text("prompt,completion\nw0,w1\n")
    (tmp_path / "rows" / "notes.md").write_text("no rows")
    write(tmp_path / "rows" / ".hidden.jsonl", ROWS[2])
    assert list(loaded(tmp_path / "rows").rows) == ROWS[:2]


def test_a_file_that_no_split_takes_is_named(tmp_path, home):
    folder = folder_of(tmp_path / "rows", "train")
    write(folder / "more.jsonl", *ROWS)
    rows, notes = loaded(folder)
    assert list(rows) == ROWS
    assert notes == (f"more.jsonl in {folder} is not read: its name says no split",)


def test_folders_that_hold_no_rows(tmp_path, home):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no file of rows; such files end in \.jsonl"):
        loaded(tmp_path / "empty")
    (saved(tmp_path / "damaged") / "state.json").write_text("{")
    with pytest.raises(ValueError, match="damaged is a folder that `save_to_disk` wrote, and it is damaged"):
        loaded(tmp_path / "damaged")
    write(tmp_path / "broken" / "a.jsonl", {"a": 1}, {"a": "x"})
    with pytest.raises(ValueError, match=r"broken/a\.jsonl, line 2: `a` is text"):
        loaded(tmp_path / "broken")


@pytest.mark.parametrize("names", [("folder", "a.jsonl"), ("a.jsonl", "folder")])
def test_a_list_of_a_file_and_a_directory(tmp_path, home, names):
    write(tmp_path / "a.jsonl", *ROWS)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"folder in it is not a file; .* write each set as `- path: "):
        loaded(*(tmp_path / name for name in names))


def test_a_name_that_is_nowhere(tmp_path, home, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach 'user/rows' on the Hub")

    monkeypatch.setattr(sources, "load_dataset", unreachable)
    with pytest.raises(ValueError, match=re.escape("user/rows is not there: there is no directory")) as error:
        loaded("user/rows")
    assert "the hub cannot be asked for it (Couldn't reach 'user/rows' on the Hub)" in str(error.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "saved", "hub"])
def test_a_stream_gives_the_same_rows_one_after_the_other(tmp_path, home, name):
    write(tmp_path / "a.jsonl", *ROWS)
    datasets.Dataset.from_list(ROWS).to_csv(tmp_path / "a.csv")
    saved(tmp_path / "saved", "train")
    hub_like(tmp_path / "hub", "train")
    rows = loaded(tmp_path / name, streaming=True).rows
    assert isinstance(rows, datasets.IterableDataset)
    assert list(rows) == list(rows) == ROWS


def test_a_stream_goes_on_where_it_stopped(tmp_path, home):
    rows = loaded(write(tmp_path / "a.jsonl", *ROWS[:3]), write(tmp_path / "b.jsonl", *ROWS[3:]), streaming=True).rows
    stream = iter(rows)
    assert [next(stream) for _ in range(4)] == ROWS[:4]
    rows.load_state_dict(rows.state_dict())
    assert list(rows) == ROWS[4:]


def test_a_stream_is_checked_as_it_comes(tmp_path, home):
    many = [*ROWS, *[ROWS[0]] * 1000]
    with pytest.raises(
        UnusableRow, match=r"a\.jsonl, line 1007: `completion` is a number, and in the first rows it is"
    ):
        list(loaded(write(tmp_path / "a.jsonl", *many, {"completion": 3}), streaming=True).rows)
    with pytest.raises(
        UnusableRow, match=r"line 1007: `more` is text, and the first rows have no such column; .*streaming"
    ):
        list(loaded(write(tmp_path / "b.jsonl", *many, {"more": "x"}), streaming=True).rows)
    write(tmp_path / "c.jsonl", *many).open("a").write('{"prompt"\n')
    rows = iter(loaded(tmp_path / "c.jsonl", streaming=True).rows)
    assert next(rows) == ROWS[0]
    with pytest.raises(UnusableRow, match=r"c\.jsonl, line 1007, column 10: this is not JSON"):
        list(rows)


@pytest.mark.parametrize("name", ["a.jsonl", "saved", "hub"])
def test_a_sample_is_the_first_rows_and_reads_no_others(tmp_path, home, name):
    write(tmp_path / "a.jsonl", *ROWS).open("a").write("this is no row\n" * 5)
    saved(tmp_path / "saved", "train")
    hub_like(tmp_path / "hub", "train")
    assert list(loaded(tmp_path / name, row_limit=4).rows) == ROWS[:4]


@pytest.mark.parametrize("maker", ["files", "folder", "saved"])
@pytest.mark.parametrize(
    ("key", "split", "line"),
    [
        ("train_dataset", "validation", "dataset_train_split: validation"),
        ("train_dataset", "train[:2]", "dataset_train_split: train[:2]"),
        ("eval_dataset", "validation", "dataset_test_split: validation"),
    ],
)
@pytest.mark.parametrize("reading", [{}, {"streaming": True}, {"row_limit": 2}])
def test_rows_without_splits_are_not_taken_for_one(tmp_path, home, maker, key, split, line, reading):
    if maker == "folder" and not split.isidentifier():
        pytest.skip("`datasets` itself takes such a part of a folder")
    names = [write(tmp_path / "rows" / name, *ROWS) for name in ("a.jsonl", "b.jsonl")]
    if maker != "files":
        names = [names[0].parent if maker == "folder" else saved(tmp_path / "saved")]
    with pytest.raises(ValueError, match=re.escape(f"remove `{line}` (or `split: {split}` of its set)")) as error:
        loaded(*names, split=split, key=key, **reading)
    assert "has no splits" in str(error.value)
    assert "`eval_dataset: path/to/rows.jsonl`" in str(error.value)


@pytest.mark.parametrize(
    ("key", "split"), [("train_dataset", "train"), ("eval_dataset", "test"), ("eval_dataset", "train")]
)
def test_the_default_split_is_all_rows_where_there_are_no_splits(tmp_path, home, key, split):
    assert list(loaded(write(tmp_path / "a.jsonl", *ROWS), split=split, key=key).rows) == ROWS


@pytest.mark.failure_case(19)
@pytest.mark.parametrize(
    "name", ["../secret.jsonl", "/etc/passwd", "https://somewhere/rows.jsonl", "zip://a::../b.zip"]
)
@pytest.mark.parametrize("where", ["state.json", "dataset_dict.json", "README.md", ".huggingface.yaml", "a slice"])
def test_a_folder_that_names_rows_outside_of_it_is_refused(tmp_path, where, name):
    write(tmp_path / "secret.jsonl", *ROWS)
    folder, file, split = tmp_path / "rows", where, "train"
    if where == "state.json":
        saved(folder, "train")
        file = "train/state.json"
        state = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps({**state, "_data_files": [{"filename": name}]}), encoding="utf-8")
    elif where == "dataset_dict.json":
        saved(folder, "train")
        (folder / file).write_text(json.dumps({"splits": ["train", name]}), encoding="utf-8")
    else:
        split, file = ("train[:2]", "README.md") if where == "a slice" else ("train", where)
        hub_like(folder, "train")
        said = f"configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: ['{name}']\n"
        (folder / file).write_text(f"---\n{said}---\n" if file == "README.md" else said, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"`train_dataset`: \S*{re.escape(file)} names '{re.escape(name)}', which is"):
        loaded(folder, split=split)
