"""Signals to a command: what is raised, which exit code it comes to, and that handlers come back."""

import os
import signal

import pytest

from qtarget.cli.interrupts import interruptible
from qtarget.outcomes import Interruption
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
    """As `qtarget eval` and `teacher cache` do, which know of KeyboardInterrupt only."""
    with pytest.raises(Interruption, match="10 of 20 samples stay") as stopped, interruptible():
        say_what_is_kept(number)
    assert stopped.value.exit_code == code


def say_what_is_kept(number: int) -> None:
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt as stop:
        raise Interruption("10 of 20 samples stay") from stop


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
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr("qtarget.train.stop_signals.HANDED_ON_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signals.received == signal.SIGINT
