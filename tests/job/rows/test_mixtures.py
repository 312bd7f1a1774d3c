"""Lists of sets: what is written under `train_dataset`, the order of a mixture, and how often its rows come."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from job.command import run as command
from job.directories import write_rows

from qtarget.job.config.checked_job import Job
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import read_job
from qtarget.job.training import prepare_training

CONFIG = "model: llama\nmethod: sft\noutput_dir: out\nbf16: false\nreport_to: none\n"
MIXTURE = """\
train_dataset:
  - path: a.jsonl
    share: 3
  - {path: b.csv, share: 1, columns: {prompt: question, completion: answer}}
"""


def a_row(i: int) -> dict:
    return {"prompt": f"w{i}", "completion": " w1"}


def b_row(i: int) -> dict:
    return {"prompt": f"w{i}", "completion": " w2"}


@pytest.fixture
def job(here):
    """Makes a run from lines of YAML, in a folder with 90 rows in one file and 40 in another."""
    write_rows(here / "a.jsonl", [a_row(i) for i in range(90)])
    (here / "b.csv").write_text("question,answer\n" + "".join(f"w{i}, w2\n" for i in range(40)))

    def make(lines: str) -> Job:
        steps = "" if "num_train_epochs" in lines else "max_steps: 1\n"
        (here / "run.yaml").write_text(CONFIG + steps + lines)
        return read_job(RunArguments(Path("run.yaml"), {}))

    return make


def spoken(rows: Any, trainer: Any) -> list[tuple[str, str]]:
    """Of each prepared row its text, and the part of it that is learned."""
    decode = trainer.text_tokenizer.decode
    return [(decode(row["input_ids"]), decode([label for label in row["labels"][1:] if label != -100])) for row in rows]


def answers(trainer: Any) -> list[str]:
    return [learned.removesuffix("<eos>").strip() for _, learned in spoken(trainer.train_dataset, trainer)]


def test_shares_are_the_parts_of_the_rows_and_each_comes_once(job):
    trainer = prepare_training(job(MIXTURE))
    counts = Counter("w1" if word == "w1" else "w2" for word in answers(trainer))
    assert 0.65 < counts["w1"] / len(trainer.train_dataset) < 0.85
    assert max(counts["w1"] / 90, counts["w2"] / 40) == 1
    texts = [text.split()[0] for text, _ in spoken(trainer.train_dataset, trainer)]
    for name, rows in (("w1", a_row), ("w2", b_row)):  # in the order of the file, none left out in between
        mine = [text for text, word in zip(texts, answers(trainer), strict=True) if word == name]
        assert mine == [rows(i)["prompt"] for i in range(counts[name])]
    first, second = trainer.facts.train.remarks
    assert (
        "a.jsonl (set 1 of train): prompt-completion rows (prompt, completion), read as prompt and completion; 90 "
        in first
    )
    assert "0.75 of the rows: " in first
    assert f"0.25 of the rows: {counts['w2']} of its 40 rows in an epoch, each once" in second


def test_a_seed_is_an_order(job):
    one, again, other = (answers(prepare_training(job(MIXTURE + f"seed: {seed}\n"))) for seed in (7, 7, 8))
    assert one == again != other


@pytest.mark.parametrize(
    ("stopping", "rows", "said"),
    [
        ("all_exhausted", 130, r"all \d+ rows in an epoch, each 1 to \d+ times"),
        ("all_exhausted_without_replacement", 130, "all 40 rows in an epoch, each once"),
    ],
)
def test_when_an_epoch_ends(job, stopping, rows, said):
    trainer = prepare_training(job(MIXTURE + f"mixture_stopping: {stopping}\n"))
    times = Counter(spoken(trainer.train_dataset, trainer))
    assert len(times) == rows
    assert (max(times.values()) > 1) == (stopping == "all_exhausted")
    assert any(re.search(said, note) for note in trainer.facts.train.remarks)


def test_a_stream_of_a_mixture_has_the_order_of_the_mixture(job):
    whole = spoken((trainer := prepare_training(job(MIXTURE))).train_dataset, trainer)
    streamed = prepare_training(job(MIXTURE + "streaming: true\n"))
    assert isinstance(streamed.train_dataset, datasets.IterableDataset)
    assert spoken(streamed.train_dataset, streamed)[:40] == whole[:40]


TURNS = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2 w3"}]
TOOLS = [{"type": "function", "function": {"name": "w9", "parameters": {"type": "object"}}}]
FORMS: dict[str, tuple[Any, str]] = {
    "share.jsonl": ({"conversations": [{"from": "human", "value": "w1"}, {"from": "gpt", "value": "w4"}]}, "w4 <eos>"),
    "alpaca.jsonl": ({"instruction": "w1", "input": "w6", "output": "w5"}, "w5 <eos>"),
    "pairs.jsonl": ({"prompt": "w1 ", "completion": "w6"}, "w6 <eos>"),
    "prompts.jsonl": ({"prompt": TURNS[:1], "completion": [{"role": "assistant", "content": "w7"}]}, "w7 <eos>"),
    "messages.jsonl": ({"messages": [*TURNS, *TURNS], "tools": TOOLS}, "w2 w3 <eos> w2 w3 <eos>"),
    "text.jsonl": ({"text": "w8 w9 w10"}, "w9 w10 <eos>"),
    "tokens.jsonl": ({"input_ids": [7, 8, 9, 2], "labels": [-100, -100, 9, 2]}, "w4 <eos>"),
    "weighed.jsonl": ({"text": "w11 w12 w13", "weight_spans": [[4, 7, 0.5]]}, "w12 w13 <eos>"),
}


@pytest.mark.parametrize("lines", ["", "streaming: true\n", "packing: true\nmax_length: 64\n"])
def test_sets_of_every_form_are_learned_as_each_alone(job, here, lines):
    for name, (row, _) in FORMS.items():
        write_rows(here / name, [row] * 6)
    (here / "questions.tsv").write_text("q\ta\n" + "w1\tw13\n" * 6)
    sets = [f"- {{path: {name}, share: 1}}\n" for name in FORMS]
    sets.append("- {path: questions.tsv, share: 1, columns: {question: q, answer: a}}\n")
    mixed = "train_dataset:\n" + "".join(sets) + lines + "mixture_stopping: all_exhausted_without_replacement\n"
    trainer = prepare_training(job(mixed + "eval_dataset:\n- path: text.jsonl\n- path: pairs.jsonl\n"))
    rows = list(trainer.train_dataset)
    if "packing" not in lines:
        expected = Counter({**{learned: 0 for _, learned in FORMS.values()}, "w13 <eos>": 6})
        expected.update(learned for _, learned in FORMS.values() for _ in range(6))
        assert Counter(learned for _, learned in spoken(rows, trainer)) == expected
        evaluated = [learned for _, learned in spoken(trainer.eval_dataset, trainer)]
        assert evaluated == ["w9 w10 <eos>"] * 6 + ["w6 <eos>"] * 6
    weights = Counter(weight for row in rows for weight in row["token_weight"])
    assert weights[0.5] == 6
    assert set(weights) == {0.5, 1.0}
    assert "ShareGPT rows (conversations), read as messages" in trainer.facts.train.remarks[0]


def test_what_became_of_the_rows_of_each_set_is_said(job, here, capsys):
    long = {"prompt": "w1 " * 40, "completion": "w2"}
    write_rows(here / "bad.jsonl", [a_row(0), {"prompt": "w1", "completion": ""}, long, a_row(1)])
    write_rows(here / "text.jsonl", [{"text": "w1 " * 40}] * 3)
    job("train_dataset:\n- path: bad.jsonl\n- path: text.jsonl\n")
    words = ("run.yaml", "--bad-rows", "skip", "--max-length", "16", "--bf16", "false", "--save-strategy", "no")
    said = command(capsys, "validate", *words, "--json")
    assert said.code == 0, said.err
    counts = json.loads(said.out)["train"]["counts"]
    assert [counts[name] for name in ("given", "rows", "masked", "cut", "learned")] == [7, 5, 1, 3, 2 * 2 + 3 * 15]
    assert counts["dropped"] == {"empty text": 1}
    first, second = counts["sets"].values()
    assert [first[name] for name in ("given", "rows", "masked", "cut", "learned")] == [4, 2, 1, 0, 4]
    assert [second[name] for name in ("given", "rows", "masked", "cut", "learned")] == [3, 3, 0, 3, 45]
    assert command(capsys, "train", *words).code == 0
    card = (here / "out" / "README.md").read_text()
    assert "2 sets with 7 rows; 5 rows in an epoch; " in card
    assert "bad.jsonl (set 1 of train): prompt-completion rows (prompt, completion), read as prompt and comp" in card
    assert "; 4 rows, 2 of them trained on; 6 tokens, 4 of them learned; 1 left out (1 empty text); 1 left" in card
    assert "text.jsonl (set 2 of train): text rows (text); 3 rows; 48 tokens, 45 of them learned; 3 cut at m" in card


def test_a_cache_is_written_of_a_mixture(job, here, capsys):
    write_rows(here / "text.jsonl", [{"text": f"w{i} w1"} for i in range(5)])
    write_rows(here / "chat.jsonl", [{"messages": [*TURNS, *TURNS]}] * 2)
    sets = "train_dataset:\n- {path: text.jsonl, share: 1}\n- {path: chat.jsonl, share: 1}\n"
    job(sets + "mixture_stopping: all_exhausted\nteacher: llama\nteacher_cache: cache\n")
    words = ("run.yaml", "--method", "target-sft", "--bf16", "false", "--save-strategy", "no")
    for name in ("teacher cache", "validate", "train"):
        said = command(capsys, *name.split(), *words)
        assert said.code == 0, said.err


def test_a_prompt_format_asks_the_questions_of_every_set(job, here):
    write_rows(here / "chat.jsonl", [{"messages": TURNS}] * 3)
    sets = "train_dataset:\n- path: chat.jsonl\n- {path: b.csv, columns: {prompt: question, completion: answer}}\n"
    trainer = prepare_training(job(sets + "prompt_format: plain\ntrain_rows: 5\n"))
    assert answers(trainer) == ["w2 w3"] * 3 + ["w2"] * 2
    assert "ShareGPT" not in trainer.facts.train.remarks[0]
    assert "messages rows (messages); 3 rows" in trainer.facts.train.remarks[0]


EMPTY = {"prompt": "", "completion": "w1"}
OUTSIDE = {"input_ids": [1, 999], "labels": [1, 999]}


def test_sets_of_other_kinds_have_splits(job, here):
    rows = datasets.Dataset.from_list([b_row(0)])
    datasets.DatasetDict(train=rows, extra=rows.select([0, 0])).save_to_disk(here / "saved")
    lines = "train_dataset:\n- path: a.jsonl\n- {path: saved, split: extra}\n"
    assert answers(prepare_training(job(lines)))[89:] == ["w1", "w2", "w2"]


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        ([a_row(0), EMPTY, EMPTY], "", r"Row 2 of the SET .*`prompt` is empty .* 2 rows are bad: 2 empty text"),
        ([EMPTY] * 2, "bad_rows: skip\n", r"The SET has no row left"),
        ([EMPTY] * 2, "bad_rows: skip\nstreaming: true\n", r"The SET has no row left"),
        ([{"prompt": "w1 " * 9, "completion": "w1"}], "max_length: 8\n", r"The SET has no label left"),
        ([OUTSIDE], "", r"`c\.jsonl \(set 2 of train\)`, prepared row 1: input_ids holds 999"),
        ([{**OUTSIDE, "seq_lengths": [2]}], "", "The SET is packed already"),
        ([{"what": "w1"}], "", r"The SET has the columns `what`"),
    ],
)
def test_errors_name_the_set_and_its_own_row(job, here, rows, words, said):
    write_rows(here / "c.jsonl", rows)
    with pytest.raises(ValueError, match=said.replace("SET", r"c\.jsonl \(set 2 of train\) data set")):
        next(iter(prepare_training(job("train_dataset:\n- path: a.jsonl\n- path: c.jsonl\n" + words)).train_dataset))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("train_dataset: []", "`train_dataset` is empty; write `train_dataset: rows.jsonl`"),
        ("train_dataset:\n- path: a.jsonl\n- b.csv", "holds sets and the bare name b.csv; write that as a set too"),
        ("train_dataset:\n- {path: a.jsonl, shares: 1}", 'set 1 has no key `shares`; did you mean "share"?'),
        (
            "train_dataset:\n- {pth: a.jsonl, shares: 1}\n- {path: b.csv, weight: 2}",
            '`train_dataset`: set 1 has no key `pth`; did you mean "path"? there is: path, share, '
            "split, config, columns\n"
            '`train_dataset`: set 1 has no key `shares`; did you mean "share"? there is: path, share, '
            "split, config, columns\n"
            "`train_dataset`: set 2 has no key `weight`; ",
        ),
        ("train_dataset:\n- path: a.jsonl\n- path: empty.jsonl", "set 2 of `train_dataset`: empty.jsonl has no rows; "),
        ("train_dataset:\n- path: a.jsonl\n- path: none.jsonl", "set 2 of `train_dataset`: "),
        (
            "train_dataset:\n- path: a.jsonl\n- {path: b.csv, split: dev}",
            "set 2 of `train_dataset`: b.csv has no splits",
        ),
        ("train_dataset:\n- {share: 1}", "gives no `path`; write `path: rows.jsonl`"),
        ("train_dataset:\n- {path: a.jsonl, share: -1}", "`share: -1` of a.jsonl is no number above 0"),
        ("train_dataset:\n- {path: a.jsonl, share: .nan}", "of a.jsonl is no number above 0"),
        ("train_dataset:\n- {path: a.jsonl, share: true}", "is no number above 0; write `share: 0.5`"),
        ("train_dataset:\n- {path: a.jsonl, share: 1}\n- path: b.csv", "b.csv has no `share`, and others have"),
        ("train_dataset:\n- {path: a.jsonl, columns: prompt}", "`columns: prompt` is no mapping"),
        ("train_dataset:\n- {path: a.jsonl, split: 3}", "`split: 3` is no text"),
        (
            "train_dataset:\n- {path: a.jsonl, columns: {prompt: no}}",
            "`columns` reads `prompt` from `no`, and the a.jsonl (set 1 of train) data set has the columns",
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
def test_what_is_no_list_of_sets_is_refused(job, here, lines, said):
    (here / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match=re.escape(said)):
        prepare_training(job(lines + "\n"))


@pytest.mark.parametrize("more", ["", "prompt_format: plain\n"])
def test_columns_of_all_sets_that_one_set_does_not_have(job, here, more):
    write_rows(here / "sg.jsonl", [FORMS["share.jsonl"][0]] * 2)
    sets = "train_dataset:\n- path: sg.jsonl\n- path: a.jsonl\n"
    with pytest.raises(ValueError, match="which is for every set without its own") as refusal:
        prepare_training(job(sets + "columns: {text: body}\n" + more))
    assert "the sg.jsonl (set 1 of train) data set has the columns `conversations`" in str(refusal.value)
    assert "into the set that it is meant for, as `- {path: …, columns: {text: body}}`, or remove it" in str(
        refusal.value
    )
    assert "text: conversations" not in str(refusal.value)


def test_a_run_says_how_often_rows_come(here, capsys, job):
    job(MIXTURE)
    words = "--bf16 false --save-strategy no --per-device-train-batch-size 2 --disable-tqdm"
    said = command(capsys, "train", "run.yaml", *words.split())
    assert said.code == 0, said.err
    assert "0.75 of the rows: " in said.out
    assert "0.25 of the rows: " in (here / "out" / "README.md").read_text()
    assert json.loads((here / "out" / "trainer_state.json").read_text())["global_step"] == 1


FILES = {
    "a set": (
        "- path: a.jsonl\n- {path: [a.jsonl, c.jsonl]}\n",
        "Row 96 of the a.jsonl, c.jsonl (set 2 of train) data set",
    ),
    "files": ("[a.jsonl, c.jsonl]\n", "Row 96 of the train data set"),
    "the same file twice": (
        "[a.jsonl, b.csv, a.jsonl, c.jsonl]\ncolumns: {prompt: prompt, completion: completion}\n",
        "",
    ),
    "a folder": ("folder\n", "Row 96 of the train data set"),
    "drawn": ("[a.jsonl, c.jsonl]\ntrain_rows: 98\ntrain_rows_seed: 1\n", "of the train data set"),
    "a file that is drawn from": ("c.jsonl\ntrain_rows: 8\ntrain_rows_seed: 1\n", "of the train data set"),
    "asked": ("[a.jsonl, c.jsonl]\nprompt_format: plain\n", "Row 96 of the train data set"),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("limit", [None, 1000])
def test_a_bad_row_is_named_by_its_file_and_its_number_there(job, here, case, limit):
    lines, named = FILES[case]
    write_rows(here / "c.jsonl", [{**a_row(i), "completion": "" if i == 5 else " w1"} for i in range(8)])
    (here / "b.csv").write_text("prompt,completion\nw1,w2\n")
    (here / "folder").mkdir()
    for name in ("a.jsonl", "c.jsonl"):
        (here / "folder" / name).write_bytes((here / name).read_bytes())
    with pytest.raises(
        ValueError, match=r"\(counted from 1; (folder/)?c\.jsonl, row 6\): `completion` is empty"
    ) as error:
        prepare_training(replace(job(f"train_dataset:{' ' if lines[0] != '-' else chr(10)}{lines}"), row_limit=limit))
    assert named in str(error.value)


@pytest.mark.parametrize("drawn", ["", "train_rows: 6\ntrain_rows_seed: 1\n"])
def test_a_conversation_that_cannot_be_learned_is_named_by_its_file(job, here, drawn):
    """Which is found once it is rendered."""
    write_rows(here / "good.jsonl", [{"messages": TURNS}] * 4)
    write_rows(here / "c.jsonl", [{"messages": TURNS}, {"messages": [{"role": "user", "content": "w1"}]}])
    with pytest.raises(ValueError, match=r"\(counted from 1; c\.jsonl, row 2\): `messages"):
        prepare_training(job("train_dataset: [good.jsonl, c.jsonl]\n" + drawn))


def test_a_bad_row_of_one_file_needs_no_other_place(job, here):
    write_rows(here / "c.jsonl", [a_row(0), EMPTY])
    with pytest.raises(ValueError, match=r"Row 2 of the train data set \(counted from 1\): "):
        prepare_training(job("train_dataset: c.jsonl\n"))
