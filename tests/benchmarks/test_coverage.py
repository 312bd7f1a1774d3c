"""The page of statistics says what the simulation of coverage found, and how often it drew."""

import importlib
import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def coverage():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("coverage")
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def results():
    return json.loads((ROOT / "benchmarks" / "results" / "coverage.json").read_text(encoding="utf-8"))


def test_every_cell_has_the_draws_that_the_page_states(coverage, results):
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert coverage.page_with(page, results) == page
    assert f"{results['draws']:,} draws in every cell" in page
    rows = [*results["averages"], *results["pairs"]]
    assert {cell["draws"] for row in rows for cell in row["intervals"].values()} == {results["draws"]}


def test_ours_holds_the_truth_as_often_as_it_says_within_the_error_of_the_simulation(results):
    error = (0.95 * 0.05 / results["draws"]) ** 0.5
    rows = [*results["averages"], *results["pairs"]]
    assert min(row["intervals"]["ours"]["coverage"] for row in rows) >= 0.95 - 2.5 * error


def test_more_seeds_do_not_widen_ours_beyond_the_error_of_the_simulation(results):
    widths: dict = {}
    for row in sorted(results["pairs"], key=lambda row: row["seeds"]):
        if row["seeds"] > 1:
            world = row["questions"], row["seed_spread"], *row["beta"]
            widths.setdefault(world, []).append(row["intervals"]["ours"]["width"])
    assert any(len(by_seeds) > 2 for by_seeds in widths.values())
    assert [w for w in widths.values() if any(more > 1.03 * fewer for fewer, more in pairwise(w))] == []


def test_a_small_simulation_fills_every_cell(coverage, monkeypatch):
    monkeypatch.setattr(coverage, "AVERAGES", [(10, 1.0, 1.0)])
    monkeypatch.setattr(coverage, "SEEDS", [(1, 10), (2, 10)])
    monkeypatch.setattr(coverage, "PAIRS", [(0.0, 1.0, 1.0)])
    monkeypatch.setattr(coverage, "_truth", lambda rng, world: 0.06)
    found = {"draws": 3, "k": 16, "averages": list(coverage.averages(3)), "pairs": list(coverage.pairs(3))}
    rows = [*found["averages"], *found["pairs"]]
    assert [len(row["intervals"]) for row in rows] == [5, 3, 3]
    assert {cell["draws"] for row in rows for cell in row["intervals"].values()} == {3}
    assert "3 draws in every cell" in coverage.tables(found)
