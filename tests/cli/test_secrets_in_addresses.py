"""An address with a secret, wherever it is written: it is refused, and neither said nor kept."""

import os
from pathlib import Path

import pytest
from job.command import run

SECRET = "hunter2hunter2hunter2"
ADDRESSES = (
    f"https://me:{SECRET}@host/x.jsonl",
    f"https://me:pa/{SECRET}@host/x.jsonl",
    f"s3://{SECRET}@bucket/x",
    f"https://host/x.jsonl?part=1&token={SECRET}",
    f"https://host/x?X-Amz-Signature={SECRET}&part=1",
    f"https://host/x?sig={SECRET}",
    f"https://host/x#access_token={SECRET}",
    f"https://me:8000/{SECRET}@host/x",
    f"//me:{SECRET}@host/x",
    f"https://host/token={SECRET}/x",
    f"https://host/x?code={SECRET[:7]}",
)
COMMANDS = (
    ("train", "{}"),
    ("train", "--train-dataset", "{}"),
    ("train", "--train-dataset={}"),
    ("train", "--train-dataset", "[{{'{}': 1}}]"),
    ("validate", "--train-dataset", "[{{path: {{deep: ['{}']}}}}]"),
    ("validate", "--train-dataset", "a.jsonl, {}"),
    ("validate", "--{}", "1"),
    ("estimate", "--model", "{}"),
    ("init", "--model", "{}", "--train-dataset", "rows.jsonl"),
    ("teacher", "cache", "--teacher", "{}"),
    ("teacher", "verify", "{}"),
    ("teacher", "serve", "{}"),
    ("teacher", "serve", "m", "--host", "{}"),
    ("chat", "{}"),
    ("merge", "{}", "--out", "merged"),
    ("merge", "m", "--base", "{}", "--out", "{}"),
    ("eval", "{}", "--task", "lab-weak-operator", "--out", "ev"),
    ("eval", "m", "--task", "{}", "--out", "ev"),
    ("eval", "m", "--questions", "{}", "--out", "ev"),
    ("eval", "m", "--questions", "name={}", "--out", "{}"),
    ("eval", "m", "--task", "lab-weak-operator", "--out", "ev", "--generator", "http", "--url", "{}"),
    (
        "eval",
        "m",
        "--questions",
        "q.jsonl",
        "--grade",
        "judge",
        "--judge-url",
        "{}",
        "--judge-model",
        "j",
        "--out",
        "e",
    ),
    ("compare", "{}", "y"),
    ("compare", "x", "y", "--to", "{}"),
    ("recipes", "show", "{}"),
    ("recipes", "run", "{}"),
    ("lab", "build", "--world", "{}"),
    ("demo", "--setting", "{}"),
    ("study", "--results", "{}"),
    ("methods", "{}"),
    ("doctor", "--runs", "{}"),
    ("{}",),
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_word_of_a_command_is_not_repeated(address: str, tmp_path: Path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        said = run(capfd, *(word.format(address) for word in command))
        assert said.code == 2, command
        assert SECRET not in said.out + said.err, command
        assert "address" in said.err, command
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "word",
    [
        "https://host:8000/x.jsonl?part=1",
        "hf://datasets/me/rows@main/x.jsonl",
        "git+https://host/me/rows@main",
        "https://host:8000/@me",
        "me:word@host",
        "http://[::1]:8000",
        "https://host/x?token=",
    ],
)
def test_an_address_without_one_is_taken(word: str, tmp_path: Path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    said = run(capfd, "methods", word)
    assert word in said.err


CONFIG = "model: m\nmethod: sft\noutput_dir: out\n"
FILES = (
    CONFIG + 'train_dataset: [{{"{}": 1}}]\n',
    CONFIG + 'train_dataset:\n- path: a.jsonl\n  columns: {{prompt: "{}"}}\n',
    CONFIG + 'train_dataset: {{"{}": {{deep: 1}}}}\n',
    CONFIG + 'train_dataset: a.jsonl\n"{}": 1\n',
    CONFIG + 'train_dataset: a.jsonl\nrun_name: "to {}"\n',
    CONFIG + 'train_dataset: a.jsonl\nlearning_rate: "{}"\n',
)
NO_FILES = (
    CONFIG + 'train_dataset: a.jsonl: "{}"\n',
    CONFIG + '"{0}": 1\n"{0}": 2\n',
    CONFIG + 'train_dataset: {{"{0}": 1, "{0}": 2}}\n',
    CONFIG + 'train_dataset: !!int "{}"\n',
    '- "{}"\n',
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_file_is_not_repeated(address: str, tmp_path: Path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for lines in (*FILES, *NO_FILES):
        (tmp_path / "config.yaml").write_text(lines.format(address), encoding="utf-8")
        said = run(capfd, "validate", "config.yaml")
        assert said.code == 2, lines
        assert SECRET not in said.out + said.err, lines
        assert "address" in said.err or lines in NO_FILES, lines


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_task_file_is_not_repeated(address: str, tmp_path: Path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}", encoding="utf-8")
    for lines in (f'rows: "{address}"\ngrader: number\n', f'rows: a.jsonl\ngrader: {{"{address}": 1}}\n'):
        (tmp_path / "task.yaml").write_text(lines, encoding="utf-8")
        said = run(capfd, "eval", "m", "--task", "task.yaml", "--out", "ev")
        assert said.code == 2
        assert SECRET not in said.out + said.err
        assert "address" in said.err
    assert not (tmp_path / "ev").exists()


def test_the_environment_is_not_repeated(tmp_path: Path, monkeypatch, capfd):
    monkeypatch.setenv("HF_ENDPOINT", f"https://me:{SECRET}@mirror")
    said = run(capfd, "doctor", "--runs", str(tmp_path), "--json")
    assert "https://…@mirror" in said.out
    assert SECRET not in said.out + said.err
