"""The benchmark of a cut vocabulary, on next to nothing: two launches of two ranks."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


def test_both_ways_are_measured_and_learn_the_same(monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("vocabulary_parallel")
    sizes = replace(module.SIZES, hidden=64, feed_forward=64, vocab=512, length=16, rounds=3)
    row = module.measured("float32", sizes, rounds=1)
    assert set(row["mib"]) == set(row["seconds"]) == {"whole", "cut over ranks"}
    assert all(seconds > 0 for seconds in row["seconds"].values())
    assert row["most that a loss differs"] < 1e-5
    module.tell("float32", row)
    assert "cut over whole" in capsys.readouterr().out


def test_a_launch_that_fails_says_why(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("vocabulary_parallel")
    sizes = replace(module.SIZES, heads=7, hidden=64, vocab=512, length=16, rounds=1)
    with pytest.raises(RuntimeError, match="the launch failed"):  # 64 is no multiple of 7 heads
        module.launched(True, "float32", sizes)
