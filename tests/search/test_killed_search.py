"""kill -9 of a search at several moments, with its commands and without; two searches at once: the same table."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from job.command import run as command
from job.gates import Gate
from job.stopped import Signalling, end_of, started
from search.searched import ASKED, SPACE, results_of, write_file

from qtarget.search import search_runs
from qtarget.study.own_commands import FailedCommandError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes")
SHORT = {**SPACE, "confirm_seeds": 1, "arms": [{"method": ["sft", "target-sft"]}]}
SEARCH = ("search", "config.yaml", "--space", "short.yaml", *ASKED)
LAUNCHER = (sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1")
MOMENTS = 6
"""At which the search is killed, spread over all files that it and its commands replace."""


@pytest.fixture
def short(here) -> Path:
    write_file(here / "short.yaml", SHORT)
    return here


def forked(folder: Path, out: str, *signals: Signalling) -> int:
    """The code with which a search ends in a process of its own; its commands run in it."""
    place = folder / f"said-{time.monotonic_ns()}"
    place.mkdir()
    ended = end_of(started((*SEARCH, "--out", out), *signals, folder=place), place)
    assert ended.code in (0, -signal.SIGKILL), ended.err
    return ended.code


def test_a_search_that_was_killed_goes_on_to_the_same_table(short, folder_state):
    assert forked(short, "whole") == 0
    whole = folder_state(short / "whole")
    replaced = sum(1 for path in (short / "whole").rglob("*") if path.is_file())
    ends = []
    for moment in range(MOMENTS):
        out, at = f"killed-{moment}", max(1, moment * replaced // MOMENTS)
        ends.append(forked(short, out, Signalling(os, "replace", at, signal.SIGKILL)))
        assert forked(short, out) == 0
        state = folder_state(short / out)
        assert {name: text.replace(out, "whole") for name, text in state.items()} == whole
    assert ends.count(-signal.SIGKILL) >= 3, ends


def test_a_search_that_is_told_to_stop_waits_until_its_commands_have_ended(short, monkeypatch):
    """A command that takes a second to end after it was told, as a training that finishes its step."""

    def slow_to_end(words, log, around):
        os.kill(os.getpid(), signal.SIGTERM)  # of the search, which runs this in a thread
        for _ in range(6000):
            if around.is_stopped():
                time.sleep(1)
                (short / "ended").touch()
                raise FailedCommandError("stopped", "", 143)
            time.sleep(0.05)
        raise AssertionError("nobody told it")

    monkeypatch.setattr(search_runs, "run_qtarget", slow_to_end)
    place = short / "said"
    place.mkdir()
    ended = end_of(started((*SEARCH, "--out", "told"), folder=place), place)
    assert ended.code == 143, ended.err
    assert "stopped by SIGTERM in a search: runs that are done stay in told" in ended.err
    assert (short / "ended").exists()
    assert not list((short / "told").rglob("result.json"))


def test_two_searches_at_once_share_the_runs(short, folder_state):
    assert forked(short, "whole") == 0
    places = [short / f"said-{number}" for number in range(2)]
    for place in places:
        place.mkdir()
    children = [started((*SEARCH, "--out", "both"), folder=place) for place in places]
    ends = [end_of(child, place) for child, place in zip(children, places, strict=True)]
    assert [ended.code for ended in ends] == [0, 0], ends
    assert folder_state(short / "both")["scores"] == folder_state(short / "whole")["scores"]
    logs = list((short / "both").glob("*/*/*/log.txt"))
    assert len(logs) == 6
    assert [log.read_text().count("$ train") for log in logs] == [1] * 6


@pytest.mark.parametrize("launch", [(), ("--launch", " ".join(LAUNCHER))], ids=["by itself", "launched"])
def test_a_killed_search_leaves_its_run_to_the_orphan_and_then_goes_on(short, folder_state, launch):
    """With real processes: the search is killed, and its launcher, while its training runs on."""
    write_file(short / "short.yaml", {**SHORT, "rungs": 1, "steps": 2, "arms": [{"method": "sft"}]})
    words = [sys.executable, "-m", "qtarget", *SEARCH, "--out", "real", *launch]
    gate, report = Gate(short / "gates"), short / "said.txt"
    search = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=gate.environment)
    with gate.reached(search) as orphan:
        launcher = orphan.parent()
        search.kill()
        search.wait()
        if launch:
            launcher.kill()
        assert orphan.is_running()
        with report.open("wb") as said:
            again = subprocess.Popen(words, stdout=said, stderr=said)
        while "waiting for its end" not in (text := report.read_text()):
            assert again.poll() is None, text
            time.sleep(0.05)
    assert again.wait() == 0, report.read_text()
    assert not orphan.is_running()
    failed = [path for path in (short / "real").rglob("result.json") if '"failed": ""' not in path.read_text()]
    assert failed == []
    first = (short / "real" / "arms" / "01-sft" / "rung-1" / "log.txt").read_text()
    assert "is being written" not in first  # nobody trained beside the orphan
    assert first.count("$ qtarget train") == 1  # and what it trained is taken
    assert "Every arm is sft" in folder_state(short / "real")["table.md"]


@pytest.mark.parametrize("launch", [(), ("--launch", " ".join(LAUNCHER))], ids=["by itself", "launched"])
def test_a_training_that_is_killed_is_no_failed_arm_and_the_same_command_runs_it_again(short, launch):
    """With real processes: kill -9 of the training alone, as the system does where memory is short."""
    write_file(short / "short.yaml", {**SHORT, "rungs": 1, "steps": 2, "arms": [{"method": "sft"}]})
    words = [sys.executable, "-m", "qtarget", *SEARCH, "--out", "real", *launch]
    gate, output = Gate(short / "gates"), {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    search = subprocess.Popen(words, **output, encoding="utf-8", env=gate.environment)
    with gate.reached(search) as training:
        training.kill()
    _, said = search.communicate()
    assert search.returncode == 1
    assert "was killed by SIGKILL (out of memory?)" in said
    assert "the same command" in said
    assert not list((short / "real").rglob("result.json"))
    assert forked(short, "real") == 0
    assert [each["failed"] for each in results_of(short / "real")["arms"]] == [""]


def test_the_other_arms_are_done_before_a_search_ends_by_a_killed_one(short, capsys, monkeypatch):
    plain = search_runs.run_qtarget

    def killed(words, log, around):
        if words[0] == "train" and "01-sft" in words[1]:
            raise FailedCommandError("`qtarget train` was killed by SIGKILL", "was killed by SIGKILL", -9)
        return plain(words, log, around)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_runs, "run_qtarget", killed)
        ended = command(capsys, *SEARCH, "--out", "s")
    assert ended.code == 1
    assert "arms/01-sft/rung-1: `qtarget train` was killed by SIGKILL" in ended.err
    assert [path.parts[-3] for path in (short / "s").rglob("result.json")] == ["02-target-sft"]
    assert command(capsys, *SEARCH, "--out", "s").code == 0
    assert [each["failed"] for each in results_of(short / "s")["arms"]] == ["", ""]
