"""Lists of sets: what is written under `train_dataset`, the order of a mixture, and how often its rows come."""

import json
import re
from collections import Counter
from pathlib import Path

import datasets
import pytest
from job.command import run as command
from job.directories import write_rows

from qtarget.job.config.checked_job import Job
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import read_job
from qtarget.job.rows.layout import training_rows

CONFIG = "model: llama\nmethod: sft\noutput_dir: out\n"
MIXTURE = """\
train_dataset:
  - path: a.jsonl
    share: 3
  - {path: b.csv, share: 1, columns: {prompt: question, completion: answer}}
"""


def a_row(i: int) -> dict:
    return {"prompt": f"w{i}", "completion": f"a{i}"}


def b_row(i: int) -> dict:
    return {"prompt": f"w{i}", "completion": f"b{i}"}


@pytest.fixture
def job(here):
    """Makes a run from lines of YAML, in a folder with 90 rows in one file and 40 in another."""
    write_rows(here / "a.jsonl", [a_row(i) for i in range(90)])
    (here / "b.csv").write_text("question,answer\n" + "".join(f"w{i},b{i}\n" for i in range(40)))

    def make(lines: str) -> Job:
        steps = "" if "num_train_epochs" in lines else "max_steps: 1\n"
        (here / "run.yaml").write_text(CONFIG + steps + lines)
        return read_job(RunArguments(Path("run.yaml"), {}))

    return make


def test_shares_are_the_parts_of_the_rows_and_each_comes_once(job):
    taken = training_rows(job(MIXTURE))
    sets = Counter(row["completion"][0] for row in taken.taken)
    assert 0.65 < sets["a"] / len(taken.taken) < 0.85
    for name, row in (("a", a_row), ("b", b_row)):  # in the order of the file, none left out in between
        mine = [each for each in taken.taken if each["completion"][0] == name]
        assert mine == [row(i) for i in range(sets[name])]
    assert max(sets["a"] / 90, sets["b"] / 40) == 1
    assert taken.notes[0].startswith("0.75 of the rows from a.jsonl: ")
    assert f"{sets['b']} of its 40 rows in an epoch, each once" in taken.notes[1]


def test_a_seed_is_an_order(job):
    one, again, other = (
        list(training_rows(job(MIXTURE + seed)).taken) for seed in ("seed: 7\n", "seed: 7\n", "seed: 8\n")
    )
    assert one == again != other


def test_until_every_row_has_come(job):
    taken = training_rows(job(MIXTURE + "mixture_stopping: all_exhausted\n"))
    times = Counter(row["completion"] for row in taken.taken)
    assert len(times) == 130
    assert max(times.values()) > 1
    assert any(re.search(r"all \d+ rows in an epoch, each 1 to \d+ times", note) for note in taken.notes)


def test_every_row_once(job):
    taken = training_rows(job(MIXTURE + "mixture_stopping: all_exhausted_without_replacement\n"))
    assert Counter(row["completion"] for row in taken.taken) == Counter(
        [*(f"a{i}" for i in range(90)), *(f"b{i}" for i in range(40))]
    )


def test_sets_without_shares_come_one_after_the_other(job):
    lines = "train_dataset:\n- path: a.jsonl\n- {path: b.csv, columns: {prompt: question, completion: answer}}\n"
    assert list(training_rows(job(lines)).taken) == [*map(a_row, range(90)), *map(b_row, range(40))]


def test_a_stream_of_a_mixture_has_the_order_of_the_mixture(job):
    whole = list(training_rows(job(MIXTURE)).taken)
    stream = training_rows(job(MIXTURE + "streaming: true\n")).taken
    assert isinstance(stream, datasets.IterableDataset)
    assert list(stream)[:40] == whole[:40]


def test_sets_of_other_kinds_have_splits(job, here):
    rows = datasets.Dataset.from_list([b_row(0)])
    datasets.DatasetDict(train=rows, extra=rows.select([0, 0])).save_to_disk(here / "saved")
    lines = "train_dataset:\n- path: a.jsonl\n- {path: saved, split: extra}\n"
    assert list(training_rows(job(lines)).taken)[90:] == [b_row(0), b_row(0)]


def test_conversations_from_a_file_and_from_a_saved_set_go_together(job, here):
    turns = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]
    write_rows(here / "chat.jsonl", [{"messages": turns}])
    datasets.Dataset.from_list([{"messages": turns}]).save_to_disk(here / "saved")
    taken = training_rows(job("train_dataset:\n- path: chat.jsonl\n- path: saved\n")).taken
    assert list(taken) == [{"messages": turns}] * 2


def test_weights_in_whole_numbers_and_in_fractions_go_together(job, here):
    write_rows(here / "one.jsonl", [{**a_row(0), "weight_spans": [[0, 1, 2]]}])
    write_rows(here / "two.jsonl", [{**a_row(1), "weight_spans": [[0, 1, 0.5]]}, a_row(2)])
    taken = training_rows(job("train_dataset:\n- path: one.jsonl\n- path: two.jsonl\n- path: a.jsonl\n"))
    assert [row["weight_spans"] for row in taken.taken][:4] == [[[0, 1, 2]], [[0, 1, 0.5]], None, None]
    assert taken.notes == ("`weight_spans` is null in the rows of a.jsonl: no such column is in there",)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("train_dataset: []", "`train_dataset` is empty; write `train_dataset: rows.jsonl`"),
        ("train_dataset:\n- path: a.jsonl\n- b.csv", "holds sets and the bare name b.csv; write that as a set too"),
        ("train_dataset:\n- {path: a.jsonl, shares: 1}", 'a set has no key `shares`; did you mean "share"?'),
        ("train_dataset:\n- {share: 1}", "gives no `path`; write `path: rows.jsonl`"),
        ("train_dataset:\n- {path: a.jsonl, share: -1}", "`share: -1` of a.jsonl is no number above 0"),
        ("train_dataset:\n- {path: a.jsonl, share: .nan}", "of a.jsonl is no number above 0"),
        ("train_dataset:\n- {path: a.jsonl, share: true}", "is no number above 0; write `share: 0.5`"),
        ("train_dataset:\n- {path: a.jsonl, share: 1}\n- path: b.csv", "b.csv has no `share`, and others have"),
        ("train_dataset:\n- {path: a.jsonl, columns: prompt}", "`columns: prompt` is no mapping"),
        ("train_dataset:\n- {path: a.jsonl, split: 3}", "`split: 3` is no text"),
        (
            "train_dataset:\n- {path: a.jsonl, columns: {prompt: no}}",
            "there is no such column; it has prompt, completion",
        ),
        ("train_dataset: a.jsonl\neval_dataset:\n- {path: b.csv, share: 1}", "takes every row of its sets"),
        ("train_dataset: a.jsonl\nmixture_stopping: all_exhausted", "`train_dataset` is none; remove it"),
        ("train_dataset:\n- path: a.jsonl\neval_strategy: epoch", "nothing to evaluate on; write `eval_dataset: path"),
        ("train_dataset:\n- path: a.jsonl\n- path: none.jsonl", "none.jsonl is not there"),
        (
            "train_dataset: a.jsonl\nstreaming: true\nnum_train_epochs: 1",
            "how long an epoch is is not known; write `max_steps",
        ),
        (
            "train_dataset: a.jsonl\nstreaming: true\ntrain_rows: 3\ntrain_rows_seed: 1",
            "knows only the next ones; remove",
        ),
        (
            "train_dataset: a.jsonl\nstreaming: true\ntrain_sampling_strategy: group_by_length",
            "`train_sampling_strategy: group_by_length` sorts rows",
        ),
    ],
)
def test_what_is_no_list_of_sets_is_refused(job, lines, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        training_rows(job(lines + "\n"))


def test_columns_of_two_types_are_refused(job, here):
    write_rows(here / "c.jsonl", [{"prompt": 3, "completion": "x"}])
    with pytest.raises(ValueError, match=r"`prompt` of c\.jsonl is int64, and of another set string; give columns"):
        training_rows(job("train_dataset:\n- path: a.jsonl\n- path: c.jsonl\n"))


def test_a_run_says_how_often_rows_come(here, capsys, job):
    job(MIXTURE)
    words = "--bf16 false --save-strategy no --per-device-train-batch-size 2 --disable-tqdm"
    said = command(capsys, "train", "run.yaml", *words.split())
    assert said.code == 0, said.err
    assert "0.75 of the rows from a.jsonl: " in said.out
    assert "0.25 of the rows from b.csv: " in (here / "out" / "README.md").read_text()
    assert json.loads((here / "out" / "trainer_state.json").read_text())["global_step"] == 1
