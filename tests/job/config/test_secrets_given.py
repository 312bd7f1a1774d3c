"""Secrets in a configuration are refused, or kept out of all that is written and said."""

import pytest
from job.command import run

SECRET = "hunter2hunter2hunter2"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--teacher", f"https://me:{SECRET}@host:1/x"), "QTARGET_TEACHER_TOKEN"),
        (("--reference", f"http://me:{SECRET}@host"), "QTARGET_TEACHER_TOKEN"),
        (("--train-dataset", f"https://me:{SECRET}@host/rows.jsonl"), ".netrc"),
        (("--model", f"https://{SECRET}@host/model"), ".netrc"),
        (("--teacher-init-kwargs", f"{{token: {SECRET}}}"), "HF_TOKEN"),
        (("--model-init-kwargs", f"{{token: {SECRET}}}"), "HF_TOKEN"),
    ],
)
def test_what_would_be_saved_with_the_run_is_refused(here, capsys, words, said):
    found = run(capsys, "validate", "config.yaml", *words)
    assert found.code == 2
    assert said in found.err
    assert SECRET not in found.err + found.out


def test_a_token_of_the_hub_is_taken_and_not_repeated(here, capsys, monkeypatch):
    """In any file that training writes, and in anything it says; nor are the environment's."""
    environment = {"HF_TOKEN": "hf_env1", "WANDB_API_KEY": "wandb2", "QTARGET_TEACHER_TOKEN": "served3"}
    for name, value in environment.items():
        monkeypatch.setenv(name, f"{value}{SECRET}")
    said = run(capsys, "train", "config.yaml", "--hub-token", SECRET, "--logging-steps", "1")
    assert said.code == 0, said.err
    again = run(capsys, "train", "config.yaml", "--hub-token", SECRET)
    assert again.code == 2
    validated = run(capsys, "validate", "config.yaml", "--hub-token", SECRET, "--output-dir", "o2", "--json")
    assert validated.code == 0, validated.err
    written = ("teacher", "cache", "config.yaml", "--teacher-cache", "cache", "--hub-token", SECRET)
    cached = run(capsys, *written)
    assert cached.code == 0, cached.err
    told = "".join(each.out + each.err for each in (said, again, validated, cached))
    assert SECRET not in told
    files = [path for path in here.rglob("*") if path.is_file()]
    assert {"train.log", "metrics.json", "manifest.json"} <= {path.name for path in files}
    assert [str(path) for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_wrong_token_is_not_repeated_either(here, capsys):
    (here / "wrong.yaml").write_text(f"model: qwen2\ntrain_dataset: rows.jsonl\nhub_token: [{SECRET}]\n", "utf-8")
    found = run(capsys, "train", "wrong.yaml")
    assert found.code == 2
    assert "hub_token" in found.err
    assert SECRET not in found.err
