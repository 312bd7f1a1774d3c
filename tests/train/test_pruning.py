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


def test_the_best_stays_however_its_path_is_spelled(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    last = run / "checkpoint-6"
    prune_checkpoints(run, 2, {last, last.relative_to(run.parent).parent / "checkpoint-2"})
    assert left(run) == ["checkpoint-2", "checkpoint-6"]


def test_a_link_to_a_checkpoint_elsewhere_is_left_alone(run):
    elsewhere = (run / "checkpoint-2").rename(run.parent / "archive")
    (run / "checkpoint-2").symlink_to(elsewhere)
    prune_checkpoints(run, 1, {run / "checkpoint-6"})
    assert left(run) == ["checkpoint-2", "checkpoint-6"]
    assert sorted(each.name for each in elsewhere.iterdir()) == [SEAL, "weights"]
