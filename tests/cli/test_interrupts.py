"""Signals to a command: what is raised, which exit code it comes to, and that handlers come back."""

import json
import os
import signal
from pathlib import Path

import pytest
from job.stopped import Signalling, ended

from qtarget import lab
from qtarget.cli.interrupts import interruptible
from qtarget.evaluate.store import SAMPLES, Appender
from qtarget.outcomes import Interruption, stopped_by
from qtarget.train.stop_signals import StopSignals

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")
BOTH = [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]


@pytest.mark.parametrize(("number", "code", "name"), BOTH)
def test_a_command_without_words_of_its_own(number, code, name):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interruption, match=f"stopped by {name} before it was done") as stopped, interruptible():
        signal.raise_signal(number)
    assert stopped.value.exit_code == code
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("number", "code", "name"), BOTH)
def test_a_command_that_says_what_is_kept(number, code, name):
    """As `qtarget eval` and `teacher cache` do."""
    with pytest.raises(Interruption, match=f"^stopped by {name} with 10 of 20 samples") as stopped, interruptible():
        say_what_is_kept(number)
    assert stopped.value.exit_code == code


def say_what_is_kept(number: int) -> None:
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt as stop:
        raise stopped_by(stop, "with 10 of 20 samples") from stop


def test_the_first_signal_is_noted_and_the_second_raised():
    said, before = [], signal.getsignal(signal.SIGINT)
    with StopSignals(said.append) as signals:
        signal.raise_signal(signal.SIGTERM)
        assert (signals.received, signals.name, said) == (signal.SIGTERM, "SIGTERM", ["SIGTERM"])
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_launcher_that_hands_the_terminals_signal_on_gives_no_second_one(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setattr("qtarget.train.stop_signals.HANDED_ON_SECONDS", 3600.0)
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr("qtarget.train.stop_signals.HANDED_ON_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signals.received == signal.SIGINT


@pytest.mark.parametrize(("number", "code", "name"), BOTH)
def test_an_evaluation_that_is_stopped_keeps_every_sample(tmp_path, monkeypatch, number, code, name):
    monkeypatch.chdir(tmp_path)
    words = ["eval", str(lab.student_path(lab.world("weak-operator"))), "--task", "lab-weak-operator", "--out", "out"]
    words += ["--limit", "2", "--k", "2", "--max-new-tokens", "4", "--batch-size", "1"]
    said = ended(words, Signalling(Appender, "append", 2, number=number), folder=tmp_path)
    assert said.code == code, said.err
    assert f"stopped by {name} with 2 of 4 samples in out. They stay: the same command goes on from " in said.err
    samples = tmp_path / "out" / "lab-weak-operator" / SAMPLES
    kept = drawn(samples)
    assert len(kept) == 2
    assert ended(words, folder=tmp_path).code == 0
    assert drawn(samples)[:2] == kept
    assert len(drawn(samples)) == 4


def drawn(samples: Path) -> list[tuple]:
    """What was drawn, without the grades, which come at the end."""
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    return [(row["qid"], row["sample_i"], row["seed"], row["completion"]) for row in rows]
