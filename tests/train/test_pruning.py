"""Old checkpoints go, and no more than those."""

import os

import pytest

from qtarget.disk.seal import SEAL, seal
from qtarget.train.resumption.pruning import prune_checkpoints


@pytest.fixture
def run(tmp_path):
    for step in (2, 4, 6):
        folder = tmp_path / "out" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "weights").write_text(str(step))
        seal(folder, {"step": step})
        os.utime(folder / SEAL, (step, step))
    return tmp_path / "out"


def left(run):
    return sorted(each.name for each in run.iterdir())


@pytest.mark.failure_case(2)
def test_the_best_stays_however_its_path_is_spelled(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    last = run / "checkpoint-6"
    prune_checkpoints(run, 2, {last, last.relative_to(run.parent).parent / "checkpoint-2"}, 6)
    assert left(run) == ["checkpoint-2", "checkpoint-6"]


@pytest.mark.parametrize(
    ("step", "stays"), [(6, ["checkpoint-4", "checkpoint-6"]), (4, ["checkpoint-2", "checkpoint-4"])]
)
def test_a_clock_that_was_set_back_is_not_asked(run, step, stays):
    """Of a run that went back to step 2 the checkpoint of step 6 is an old one."""
    for old in (2, 4, 6):
        os.utime(run / f"checkpoint-{old}" / SEAL, (100 - old, 100 - old))
    prune_checkpoints(run, 2, {run / f"checkpoint-{step}"}, step)
    assert left(run) == stays


def test_checkpoints_of_a_branch_that_was_left_go_first(run):
    for step, line in ((2, [[1, 0]]), (4, [[1, 0]]), (6, [[1, 0], [2, 2]])):
        seal(run / f"checkpoint-{step}", {"step": step, "branches": line})
    prune_checkpoints(run, 2, {run / "checkpoint-6"}, 6)
    assert left(run) == ["checkpoint-2", "checkpoint-6"]


@pytest.mark.failure_case(2)
def test_a_link_to_a_checkpoint_elsewhere_is_left_alone(run):
    elsewhere = (run / "checkpoint-2").rename(run.parent / "archive")
    (run / "checkpoint-2").symlink_to(elsewhere)
    prune_checkpoints(run, 1, {run / "checkpoint-6"}, 6)
    assert left(run) == ["checkpoint-2", "checkpoint-6"]
    assert sorted(each.name for each in elsewhere.iterdir()) == [SEAL, "weights"]
