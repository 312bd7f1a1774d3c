"""`qtarget tasks`."""

import json

import pytest
from job.command import run as command
from rich.cells import cell_len

from qtarget.evaluate.tasks import TASKS


@pytest.mark.parametrize("width", [80, 120])
def test_every_task_is_in_the_table(capsys, monkeypatch, width: int):
    monkeypatch.setenv("COLUMNS", str(width))
    said = command(capsys, "tasks")
    assert said.code == 0
    assert all(name in said.out for name in TASKS)
    assert "qwen-boxed, 16 × T 1, 4096" in " ".join(said.out.split())
    assert all(cell_len(line) <= width for line in said.out.splitlines())


def test_as_json(capsys):
    said = {entry["name"]: entry for entry in json.loads(command(capsys, "tasks", "--json").out)}
    assert list(said) == list(TASKS)
    assert said["gpqa"]["gated"]
    assert said["medmcqa"]["source"] == {"hub": "openlifescienceai/medmcqa", "config": None, "split": "validation"}
    assert said["amc23"]["ask"]["k"] == 16
