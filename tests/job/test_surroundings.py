"""`qtarget doctor`: what it finds is so, and what would fail makes it end with 1."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import metadata

import pytest
import torch
from job.command import run as command
from rich.cells import cell_len

from qtarget.console import SafeConsole
from qtarget.job.surroundings import devices, disks, libraries, trial
from qtarget.job.surroundings.examine import examine
from qtarget.job.surroundings.view import surroundings_view
from qtarget.train.versions import TESTED


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return examine(tmp_path_factory.mktemp("runs"))


def test_on_this_machine_runs_work(found):
    by_name = {(each.part, each.name): each for each in found}
    assert [each for each in found if each.state == "fails"] == []
    assert {name for part, name in by_name if part == "versions"} == {"python", "qtarget", *TESTED}
    assert torch.__version__ in by_name["versions", "torch"].found
    assert "tested: 2.6 to" in by_name["versions", "torch"].found
    assert "loss" in by_name["trainer", "one step"].found
    assert {"float32 on cpu", "bfloat16 on cpu"} <= {name for part, name in by_name if part == "precision"}
    assert {"runs", "models of the hub", "rows", "GGUF conversions"} == {n for p, n in by_name if p == "disks"}
    assert {"train", "qlora", "gguf", "inspect", "vllm"} <= {name for part, name in by_name if part == "extras"}


def test_the_trial_step_says_nothing_itself(capfd, recwarn):
    assert [each.state for each in trial.trainer_found()] == ["fine", "fine"]
    assert capfd.readouterr().out == ""
    assert not [str(each.message) for each in recwarn if "qtarget" in str(each.filename)]


def test_the_command_prints_it_at_80_columns_or_as_json(found, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("qtarget.job.surroundings.examine.examine", lambda runs: found)
    monkeypatch.setenv("COLUMNS", "80")
    said = command(capsys, "doctor", "--runs", str(tmp_path))
    assert said.code == 0
    assert max(map(cell_len, said.out.splitlines())) <= 80
    assert "runs work here" in said.out
    as_json = json.loads(command(capsys, "doctor", "--json").out)
    assert [each["name"] for each in as_json] == [each.name for each in found]


def test_a_folder_that_cannot_be_written_to_fails(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("qtarget.job.surroundings.examine.trainer_found", lambda: [])
    said = command(capsys, "doctor", "--runs", str(tmp_path / "file" / "runs"), "--json")
    runs = next(each for each in json.loads(said.out) if each["name"] == "runs")
    assert (said.code, runs["state"]) == (1, "fails")
    assert "is a file" in runs["found"]


def test_versions_too_old_missing_and_too_new(monkeypatch):
    versions = {"torch": "1.0", "transformers": "99.0"}

    def installed(name):
        if name == "trl":
            raise metadata.PackageNotFoundError(name)
        return versions.get(name, "5.1")

    monkeypatch.setattr(libraries.metadata, "version", installed)
    states = {each.name: each for each in libraries.versions_found()}
    assert (states["torch"].state, states["trl"].state, states["transformers"].state) == ("fails", "fails", "note")
    assert "pip install 'torch>=2.6" in states["torch"].remedy
    assert "is not installed" in states["trl"].found


def test_beside_a_library_that_is_too_old_it_still_says_so(tmp_path):
    """In a process of its own, where the trainer refuses to be imported."""
    code = (
        "from importlib import metadata; real = metadata.version\n"
        "metadata.version = lambda name: '0.1' if name == 'trl' else real(name)\n"
        "from qtarget.cli.main import main; main(['doctor', '--json', '--runs', '.'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    found = {(each["part"], each["name"]): each for each in json.loads(said.stdout)}
    assert said.returncode == 1
    assert found["versions", "trl"]["state"] == "fails"
    assert "pip install 'trl" in found["versions", "trl"]["remedy"]
    assert found["trainer", "private parts of TRL"]["state"] == "fails"
    assert "Traceback" not in said.stderr


def test_extras_that_are_missing_are_named_with_the_line(monkeypatch):
    real = metadata.version

    def installed(name):
        if name in ("gguf", "peft"):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(libraries.metadata, "version", installed)
    states = {each.name: each for each in libraries.extras_found()}
    assert (states["gguf"].state, states["gguf"].remedy) == ("note", "pip install 'qtarget[gguf]'")
    assert (states["train"].state, "peft" in states["train"].found) == ("fails", True)
    assert "dev" not in states


def test_a_part_of_trl_that_moved_is_said(monkeypatch):
    from qtarget.train import probes

    def moved():
        raise probes.moved(["SFTTrainer._prepare_dataset is gone"])

    monkeypatch.setattr(probes, "check_hooks", moved)
    (only,) = trial.trainer_found()
    assert only.state == "fails"
    assert "_prepare_dataset is gone" in only.found
    assert only.remedy.startswith("pip install")


def test_more_threads_than_cores_are_noted(monkeypatch):
    monkeypatch.setattr(devices, "usable_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    threads = next(each for each in devices.devices_found() if each.name == "threads")
    assert (threads.state, "OMP_NUM_THREADS=2" in threads.remedy) == ("note", True)


def test_a_precision_that_does_not_compute_is_said(monkeypatch):
    monkeypatch.setattr(devices, "_speed", lambda device, name: "not implemented" if name == "float32" else 10.0)
    states = {each.name: each for each in devices.precisions_found()}
    assert (states["float32 on cpu"].state, states["bfloat16 on cpu"].state) == ("fails", "fine")
    with pytest.raises(ValueError, match="does not compute in float32"):
        devices.product_speed("cpu", "float32")


def test_little_room_on_a_disk_is_noted(monkeypatch, tmp_path):
    usage = type("Usage", (), {"free": 10**9})
    monkeypatch.setattr(disks.shutil, "disk_usage", lambda folder: usage)
    runs = next(disks.disks_found(tmp_path / "not" / "there"))
    assert (runs.state, "little room" in runs.remedy) == ("note", True)
    assert os.listdir(tmp_path) == []


def test_the_verdict_names_what_fails(found):
    console = SafeConsole(width=80)
    with console.capture() as captured:
        console.print(surroundings_view([replace(found[0], state="fails", remedy="write this")], 80))
    shown = captured.get()
    assert "a run would fail here: python" in shown
    assert "write this" in shown
