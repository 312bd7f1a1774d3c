"""Arms from ranges: drawn by Optuna, the same whoever draws them; and what is said where Optuna is not installed."""

import sys

import pytest
from search.searched import ASKED, SPACE, results_of, write_file
from search.test_search import searched

from qtarget.search.drawn_arms import BATCH, next_points
from qtarget.search.search_space import NumberAxis, RangeArms, SearchArm

RANGES = RangeArms(
    {"method": "sft"}, {"eta": NumberAxis(0.0, 1.0), "learning_rate": NumberAxis(1e-5, 1e-3, log=True)}, draws=30
)
DRAWN = {
    **SPACE, "rungs": 2, "confirm_seeds": 1,
    "arms": [{"method": "sft"}, {"method": "target-sft", "eta": {"low": 0.1, "high": 0.9}, "draws": 5}],
}  # fmt: skip


def test_ranges_without_optuna_are_refused_with_the_line_that_installs_it(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    said = searched(capsys, *ASKED, space=write_file(here / "drawn.yaml", DRAWN))
    assert said.code == 2
    assert "pip install 'qtarget[search]'" in said.err


def drawn(best: float) -> list[tuple[dict[str, float], float]]:
    """All draws, told scores that are the higher, the nearer eta is to `best`."""
    told: list[tuple[dict[str, float], float | None]] = []
    while points := next_points(RANGES, told, seed=3):
        told += [(point, -abs(point["eta"] - best)) for point in points]
    return told


def test_points_are_within_the_ranges_and_the_same_each_time():
    pytest.importorskip("optuna")
    told = drawn(0.3)
    assert told == drawn(0.3)
    assert len(told) == RANGES.draws
    assert all(0 <= point["eta"] <= 1 and 1e-5 <= point["learning_rate"] <= 1e-3 for point, _ in told)
    assert len({point["learning_rate"] for point, _ in told}) > 20
    again = next_points(RANGES, told[:BATCH], seed=3)
    assert again == [point for point, _ in told[BATCH : 2 * BATCH]]


def test_later_points_are_nearer_to_what_scored():
    pytest.importorskip("optuna")
    told = drawn(0.3)
    first, last = ([abs(point["eta"] - 0.3) for point, _ in part] for part in (told[:10], told[-10:]))
    assert sum(last) < sum(first)


def test_arms_that_failed_are_told_so():
    pytest.importorskip("optuna")
    points = next_points(RANGES, [], seed=0)
    assert len(next_points(RANGES, [(point, None) for point in points], seed=0)) == BATCH


def test_a_search_over_a_range_races_what_it_draws(here, capsys, folder_state):
    pytest.importorskip("optuna")
    space = write_file(here / "drawn.yaml", DRAWN)
    said = searched(capsys, *ASKED, space=space)
    assert said.code == 0, said.err
    found = results_of(here / "s")
    assert len(found["arms"]) == 6
    etas = [each["keys"]["eta"] for each in found["arms"][1:]]
    assert len(set(etas)) == 5
    assert all(0.1 <= eta <= 0.9 for eta in etas)
    before = folder_state(here / "s")
    (here / "s" / found["arms"][3]["folder"] / "rung-1" / "result.json").unlink()
    assert searched(capsys, *ASKED, space=space).code == 0
    assert folder_state(here / "s") == before


def test_an_arm_with_a_schedule_is_named_in_words():
    arm = SearchArm(3, {"method": "target-sft", "eta": {"from": 0.2, "to": 0.8}, "learning_rate": 1e-4})
    assert arm.name == "target-sft eta=0.2 → 0.8 along progress learning_rate=0.0001"
    assert arm.folder == "03-target-sft-eta-0.2-0.8-along-progress-learning-rate-0.0001"
