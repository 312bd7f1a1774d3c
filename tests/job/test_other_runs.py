"""A run that goes on into a folder of another run is refused, and deletes nothing of it."""

import shutil
from pathlib import Path

import pytest
from job.command import run
from job.test_resuming import BACK

from qtarget.disk.seal import SEAL, seal

ELSEWHERE = ("train", "config.yaml", "--resume-from-checkpoint", "out/checkpoint-2", "--output-dir", "B")


@pytest.fixture
def other(finished, here) -> Path:
    """Another run's result and checkpoints in B, beside out/checkpoint-2."""
    shutil.copytree(finished / "checkpoint-2", here / "out" / "checkpoint-2")
    other = shutil.copytree(finished, here / "B")
    for folder in (other, other / "checkpoint-2", other / "checkpoint-4"):
        facts = {"step": 4, "history": [{"after": 0, "identity": {"seed": 7}}]}
        seal(folder, {**facts, **({"step": 2} if folder.name == "checkpoint-2" else {})}, ["checkpoint-*", ".*"])
    return other


def content(folder: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in folder.rglob("*") if each.is_file() and each.name[0] != "."}


@pytest.mark.failure_case(2)
@pytest.mark.failure_case(24)
@pytest.mark.parametrize("left", ["all", "checkpoints", "result", "without manifest"])
def test_a_run_that_goes_on_into_a_folder_of_another_run_is_refused(other, capsys, left):
    if left == "checkpoints":
        for each in [each for each in other.iterdir() if each.is_file()]:
            each.unlink()
    elif left == "without manifest":
        for each in list(other.rglob(SEAL)):
            each.unlink()
    elif left == "result":
        for step in (2, 4):
            shutil.rmtree(other / f"checkpoint-{step}")
    before = content(other)
    said = run(capsys, *ELSEWHERE, "--save-total-limit", "1")
    assert said.code == 2, said.out
    held = "a model" if left == "result" else "B/checkpoint-4"
    assert f"`output_dir: B` holds {held} of another run than `resume_from_checkpoint: out/checkpoint-2`" in said.err
    assert "write `output_dir: B-2` (or --output-dir B-2)" in said.err
    assert content(other) == before


def test_one_into_a_folder_of_the_same_run_goes_on(finished, here, capsys):
    shutil.copytree(finished / "checkpoint-2", here / "out" / "checkpoint-2")
    for _ in range(2):
        said = run(capsys, *ELSEWHERE)
        assert said.code == 0, said.err
    said = run(capsys, *ELSEWHERE, *BACK[-4:], *BACK[:-4])
    assert said.code == 0, said.err


def test_checkpoints_of_another_run_are_not_pruned(other):
    from qtarget.train.resumption.pruning import prune_checkpoints

    facts = {"history": [{"after": 0, "identity": {"seed": 42}}]}
    for step in (5, 6):
        seal(shutil.copytree(other / "checkpoint-4", other / f"checkpoint-{step}"), {"step": step, **facts})
    prune_checkpoints(other, 1, {other / "checkpoint-6"}, 6)
    left = sorted(each.name for each in other.glob("checkpoint-*"))
    assert left == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
