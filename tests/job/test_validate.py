"""`qtarget validate`: what it finds, and that it leaves nothing behind."""

import json
import math

import pytest
from job.command import run as command
from job.directories import write_rows


def test_everything_is_shown_and_nothing_is_left(here, capsys):
    said = command(capsys, "validate", "config.yaml")
    assert said.code == 0
    for shown in (
        "learning_rate: 0.01",
        "teacher 320",
        "16 rows",
        "4 optimizer steps of 2 rows",
        "gradient norm",
        "ready",
    ):
        assert shown in said.out
    assert not (here / "out").exists()


def test_the_figures_are_those_of_the_prepared_rows(here, capsys):
    found = json.loads(command(capsys, "validate", "config.yaml", "--json").out)
    row = json.loads((here / "rows.jsonl").read_text().splitlines()[0])
    shown, learned = (
        "".join(token["text"] for token in found["row"] if token["supervised"] == learned) for learned in (False, True)
    )
    assert (shown, learned) == (row["prompt"], row["completion"] + "<eos>")
    assert found["train"]["rows"] == found["train"]["counts"]["rows"] == 16
    assert found["vocabulary"] == {"tokenizer": 305, "model": 305, "teacher": 320}
    assert found["step"]["rows"] == 2
    assert 0 < found["step"]["gradient_norm"] < math.inf
    assert found["configuration"]["method_kwargs"]["eta"] == 0.3


def test_weights_of_tokens_are_shown(here, capsys, written):
    row = {"prompt": "w1 ", "completion": "w2 w3", "weight_spans": [[0, 2, 2.5]]}
    written("weighted.jsonl", row, row)
    words = "--model llama --method sft --eta null --teacher null --train-dataset weighted.jsonl --eval-dataset null"
    found = json.loads(command(capsys, "validate", "config.yaml", "--json", *words.split()).out)
    assert [(t["text"], t["supervised"], t["weight"]) for t in found["row"]] == [
        ("w1", False, 1.0),
        ("w2", True, 2.5),
        ("w3", True, 1.0),
        ("<eos>", True, 1.0),
    ]
    assert "w1 ⟦ w2·2.5 w3 <eos> ⟧" in command(capsys, "validate", "config.yaml", *words.split()).out


def test_rows_at_the_limit_are_counted(here, capsys):
    whole = json.loads(command(capsys, "validate", "config.yaml", "--json").out)["train"]["counts"]
    cut = json.loads(command(capsys, "validate", "config.yaml", "--json", "--max-length", "20").out)["train"]["counts"]
    assert whole["cut"] == 0 < cut["cut"]
    assert cut["tokens"] < whole["tokens"]
    assert cut["learned"] < whole["learned"]
    assert f"{cut['cut']} cut at max_length" in command(capsys, "validate", "config.yaml", "--max-length", "20").out


def test_a_step_that_moves_nothing_is_refused(here, capsys, written):
    row = {"prompt": "w1 ", "completion": "w2 w3", "weight_spans": [[0, 5, 0.0]]}
    written("weightless.jsonl", row, row)
    words = "--model llama --method sft --eta null --teacher null --train-dataset weightless.jsonl --eval-dataset null"
    said = command(capsys, "validate", "config.yaml", *words.split(), "--unspanned-weight", "0")
    assert said.code == 2
    assert "gradient of norm 0.0" in said.err


def test_a_quick_look_is_a_sample_and_says_so(here, capsys):
    row = json.dumps({"prompt": "w1 ", "completion": "w2 w3"})
    (here / "many.jsonl").write_text(f"{row}\n" * 1000 + "this is no row\n")
    words = "--train-dataset many.jsonl --eval-dataset null --method sft --eta null --teacher null --train-rows 1001"
    found = json.loads(command(capsys, "validate", "config.yaml", "--quick", "--json", *words.split()).out)
    assert (found["train"]["rows"], found["train"]["sampled"], found["train"]["sha256"]) == (1000, True, "")
    said = command(capsys, "validate", "config.yaml", "--quick", *words.split(), "--max-steps", "-1")
    assert said.code == 0, said.err
    shown = " ".join(said.out.split())
    assert "completion; a sample, the first 1,000 rows; 7,000 tokens, 5,000 of them learned" in shown
    assert "the rest was not looked at" in shown
    assert "2 rows each; how many is not known from a sample of the rows" in shown
    whole = command(capsys, "validate", "config.yaml", *words.split())
    assert (whole.code, "many.jsonl, line 1001, column 1: this is not JSON" in whole.err) == (2, True)


def test_of_a_stream_the_first_rows_are_looked_at(here, capsys):
    words = "--streaming --method sft --eta null --teacher null --eval-dataset null"
    said = command(capsys, "validate", "config.yaml", *words.split())
    assert said.code == 0, said.err
    shown = " ".join(said.out.split())
    assert "read as prompt and completion; a stream; its first 16 rows have " in shown
    assert "4 optimizer steps of 2 rows" in shown


@pytest.mark.parametrize("alone", [True, False])
def test_the_bad_rows_of_a_stream_are_counted_as_they_are_read(here, capsys, alone):
    """Those that only the look at the first rows has read are among them."""
    good, bad = {"prompt": "w1 ", "completion": "w2 w3"}, [{"prompt": "w1 ", "completion": each} for each in ("", None)]
    write_rows(here / "good.jsonl", [good] * 8)
    write_rows(here / "bad.jsonl", [good] * 5 + bad + [good])
    source = (
        "train_dataset: [good.jsonl, bad.jsonl]\n"
        if alone
        else "train_dataset:\n- {path: good.jsonl, share: .5}\n- {path: [good.jsonl, bad.jsonl], share: .5}\n"
        "mixture_stopping: all_exhausted\n"
    )
    lines = "model: llama\nmethod: sft\noutput_dir: out\nmax_steps: 1\nstreaming: true\nbad_rows: skip\nbf16: false\n"
    (here / "run.yaml").write_text(lines + source)
    found = json.loads(command(capsys, "validate", "run.yaml", "--json").out)["train"]["counts"]
    read = 16 if alone else 24
    assert (found["read"], found["dropped"]) == (read, {"empty text": 1, "null": 1})
    shown = " ".join(command(capsys, "validate", "run.yaml").out.split())
    assert f"of the {read} rows read so far 2 were left out (1 empty text, 1 null)" in shown
