"""Which folders are whole checkpoints, and what `train` and `validate` say of the others."""

import json
import shutil
from pathlib import Path

import pytest
from job.command import run as command

from qtarget.job.whole_checkpoints import checkpoint_fault, checkpoints_in


@pytest.fixture
def whole(finished, tmp_path) -> Path:
    return shutil.copytree(finished / "checkpoint-4", tmp_path / "copy" / "checkpoint-4")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_a_checkpoint_without_a_part_is_not_whole(whole, name):
    assert checkpoint_fault(whole) is None
    (whole / name).unlink()
    assert checkpoint_fault(whole) == f"it has no {name}"


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"])
def test_nor_is_one_with_a_part_cut_off(whole, name):
    cut(whole / name)
    assert checkpoint_fault(whole) == f"{name} is damaged"


def test_nor_one_without_weights_or_of_another_step(whole):
    (whole.parent / "checkpoint-9").mkdir()
    assert checkpoint_fault(whole.parent / "checkpoint-9") == "it is empty"
    renamed = whole.rename(whole.parent / "checkpoint-7")
    assert checkpoint_fault(renamed) == "trainer_state.json is of step 4"
    (renamed / "model.safetensors").unlink()
    state = json.loads((renamed / "trainer_state.json").read_text())
    (renamed / "trainer_state.json").write_text(json.dumps({**state, "global_step": 7}))
    assert checkpoint_fault(renamed) == "it has no weights"
    assert checkpoints_in(whole.parent).newest is None


def test_weights_in_several_files_are_all_needed(whole):
    (whole / "model.safetensors").rename(whole / "model-1.safetensors")
    weights = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (whole / "model.safetensors.index.json").write_text(json.dumps(weights))
    assert checkpoint_fault(whole) == "it has no model-2.safetensors"
    shutil.copy(whole / "model-1.safetensors", whole / "model-2.safetensors")
    assert checkpoint_fault(whole) is None


def test_resuming_takes_the_newest_whole_one_and_says_what_it_skips(finished, here, capsys):
    shutil.copytree(finished / "checkpoint-2", here / "out" / "checkpoint-2")
    cut(shutil.copytree(finished / "checkpoint-4", here / "out" / "checkpoint-4") / "optimizer.pt")
    (here / "out" / "checkpoint-99").mkdir()
    skipped = "out/checkpoint-99 (it is empty), out/checkpoint-4 (optimizer.pt is damaged)"
    said = command(capsys, "validate", "config.yaml", "--resume-from-checkpoint")
    assert f"skipped {skipped}" in " ".join(said.out.split()), said.out
    said = command(capsys, "train", "config.yaml", "--resume-from-checkpoint")
    assert said.code == 0, said.err
    assert "resumes   out/checkpoint-2" in said.out
    assert f"skipped   {skipped}" in said.out
    assert "training  4 optimizer steps, of which 2 are done" in said.out
    assert "resume_from_checkpoint" not in (here / "out" / "train.yaml").read_text()


@pytest.mark.parametrize("subcommand", ["train", "validate"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--resume-from-checkpoint",
            "there is no checkpoint in out to resume from: not whole: out/checkpoint-99 (it is empty); leave "
            "`resume_from_checkpoint` out, and write `output_dir: out-2` (or --output-dir out-2).",
        ),
        (
            "--resume-from-checkpoint out/checkpoint-99",
            "`resume_from_checkpoint: out/checkpoint-99` is not whole (it is empty), so training cannot go on from it; "
            "out has no whole checkpoint, so leave the key out.",
        ),
        (
            "",
            "`output_dir: out` holds an earlier run, which left no whole checkpoint to go on from: not whole: "
            "out/checkpoint-99 (it is empty); write `output_dir: out-2` (or --output-dir out-2).",
        ),
    ],
)
def test_where_no_checkpoint_is_whole(here, capsys, subcommand, words, message):
    (here / "out" / "checkpoint-99").mkdir(parents=True)
    said = command(capsys, subcommand, "config.yaml", *words.split())
    assert (said.code, said.err) == (2, message + "\n")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("rows.jsonl", "`output_dir: rows.jsonl` is a file; write `output_dir: rows.jsonl-2`.\n"),
        (
            "rows.jsonl/out",
            "`output_dir: rows.jsonl/out` cannot be made, as {here}/rows.jsonl is a file; write `output_dir: out`.\n",
        ),
        ("/proc/out", "`output_dir: /proc/out` cannot be written to (/proc: "),
    ],
)
def test_an_output_folder_that_cannot_be_written_is_said_before_the_work(here, capsys, output, message):
    said = command(capsys, "train", "config.yaml", "--output-dir", output, "--model", "qwen2")
    assert said.code == 2
    assert said.err.startswith(message.format(here=here)), said.err
    assert said.out == ""
