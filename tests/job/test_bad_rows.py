"""Bad rows on the command line: refused with rc 2 in its language, or left out; what became of rows is said thrice."""

import json

import pytest
from job.command import run as command
from job.directories import write_rows

GOOD = {"prompt": "w1", "completion": " w2 w3"}
ALONE = tuple("--method sft --eta null --teacher null --eval-dataset null --save-strategy no --max-steps 1".split())  # noqa: SIM905


def test_a_bad_row_is_refused_before_anything_runs(here, capsys):
    write_rows(here / "own.jsonl", [GOOD, {**GOOD, "completion": ""}, GOOD])
    for name in ("train", "validate"):
        said = command(capsys, name, "config.yaml", "--train-dataset", "own.jsonl", *ALONE)
        assert said.code == 2
        assert "Row 2 of the train data set (counted from 1): `completion` is empty ('')" in said.err
        assert "write `bad_rows: skip` (or --bad-rows skip)" in said.err
        assert "TargetSFTConfig" not in said.err
    assert not (here / "out").exists()


def test_what_became_of_rows_is_the_same_in_validate_train_and_the_card(here, capsys):
    rows = [GOOD] * 3 + [{**GOOD, "completion": ""}] + [{"prompt": "w1 " * 40, "completion": " w2"}] * 2
    write_rows(here / "own.jsonl", rows)
    words = ["--train-dataset", "own.jsonl", "--bad-rows", "skip", "--max-length", "16", *ALONE]
    counts = json.loads(command(capsys, "validate", "config.yaml", "--json", *words).out)["train"]["counts"]
    assert (counts["given"], counts["rows"], counts["masked"]) == (6, 3, 2)
    assert counts["dropped"] == {"empty text": 1}
    sentence = (
        f"6 rows, 3 of them trained on; {counts['tokens']} tokens, {counts['learned']} of them learned; "
        "1 left out (1 empty text); 2 left out, for max_length cuts off every label"
    )
    assert sentence in " ".join(command(capsys, "validate", "config.yaml", *words).out.split())
    assert sentence in command(capsys, "train", "config.yaml", *words).out
    assert f"| training rows | {sentence} |" in (here / "out" / "README.md").read_text()


def test_a_form_is_said_and_overridden(here, capsys):
    write_rows(here / "own.jsonl", [{"question": "w1", "answer": " w2", "why": "w3"}] * 4)
    words = ["--train-dataset", "own.jsonl", *ALONE]
    said = " ".join(command(capsys, "validate", "config.yaml", *words).out.split())
    assert "question-answer rows (question, answer), read as prompt and completion; not read: why" in said
    columns = ("--columns", "{prompt: question, completion: answer}")
    mapped = command(capsys, "validate", "config.yaml", *words, *columns)
    assert "prompt-completion rows (question, answer)" in " ".join(mapped.out.split())
    assert "<user>" in said
    assert "<user>" not in mapped.out


def test_former_keys_name_the_new_one(here, capsys):
    said = command(capsys, "validate", "config.yaml", "--prompt-column", "question", "--completion-column", "answer")
    assert said.code == 2
    assert "write `columns: {prompt: question, completion: answer}`" in said.err


@pytest.mark.failure_case(18)
def test_a_columns_name_does_not_break_the_cards_table(here, capsys):
    write_rows(here / "own.jsonl", [{**GOOD, "a\nb|c\x1b[31m": 1}] * 4)
    assert command(capsys, "train", "config.yaml", "--train-dataset", "own.jsonl", *ALONE).code == 0
    card = (here / "out" / "README.md").read_text()
    assert r"`a\nb\|c\x1b[31m`" in card
    assert "\x1b" not in card
