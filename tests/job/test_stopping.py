"""Ctrl-C and SIGTERM at every moment of `qtarget train`: what is said, what is kept, and how the run goes on."""

import json
import os
import shutil
import signal
from pathlib import Path

import matplotlib.figure  # noqa: F401  (imported once, for all processes that draw)
import pytest
import torch
from job.stopped import Signalling, ended
from safetensors.torch import load_file
from transformers import Trainer
from trl import SFTTrainer

from qtarget.job.build import JobTrainer
from qtarget.train.resumption.whole_checkpoints import checkpoint_fault

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")
TRAIN = ("train", "config.yaml", "--teacher", "null", "--method", "dft", "--eta", "null")
GO_ON = (*TRAIN, "--resume-from-checkpoint")
NO_SAVES = ("--save-strategy", "no")


def log(folder: Path) -> list[dict]:
    """What was logged, without times."""
    history = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    timed = ("runtime", "per_second", "total_flos")
    return [{k: v for k, v in entry.items() if not any(t in k for t in timed)} for entry in history]


def step_called(call: int, **more) -> Signalling:
    return Signalling(torch.optim.AdamW, "step", call, **more)


def weights_equal(one: Path, other: Path) -> bool:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return all(torch.equal(first[name], weight) for name, weight in second.items())


@pytest.mark.failure_case(23)
@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_the_first_ends_the_step_and_writes_a_checkpoint(here, number, code, name):
    said = ended([*TRAIN, *NO_SAVES], step_called(1, number=number), folder=here)
    assert said.code == code, said.err
    assert f"{name}: the step under way is finished and a checkpoint is written; a second one ends at once." in said.err
    assert f"stopped by {name} after step 2 of 4. Nothing is lost: out/checkpoint-2 holds all of it. " in said.err
    assert f"Go on with `qtarget {' '.join(GO_ON[:-1])} --save-strategy no --resume-from-checkpoint`." in said.err
    assert checkpoint_fault(here / "out" / "checkpoint-2") is None
    assert not (here / "out" / "model.safetensors").exists()
    assert not (here / "out" / ".unfinished").exists()


DROPPING = {"attention_dropout": 0.5}
WINDOWED = ("--logging-steps", "3", "--max-steps", "6", "--eval-strategy", "steps", "--eval-steps", "2")


@pytest.mark.failure_case(23)
def test_a_stopped_and_resumed_run_equals_the_unbroken_one(here):
    """Losses and weights to the bit, where dropout draws random numbers, logs average three steps, and the stop falls
    on a step with an evaluation, or into one."""
    shutil.copytree(here / "qwen2", here / "dropping")
    config = json.loads((here / "dropping" / "config.json").read_text())
    (here / "dropping" / "config.json").write_text(json.dumps({**config, **DROPPING}))
    words = (*WINDOWED, "--model", "dropping")
    assert ended([*TRAIN, *words, "--output-dir", "whole"], folder=here).code == 0
    evaluating = Signalling(JobTrainer, "prediction_step", 1)  # the second evaluation, at step 4
    said = ended([*TRAIN, *words, *NO_SAVES], step_called(1), folder=here)
    assert said.code == 130, said.err
    said = ended([*GO_ON, *words, *NO_SAVES], evaluating, folder=here)
    assert "after step 4 of 6" in said.err
    assert ended([*GO_ON, *words, *NO_SAVES], folder=here).code == 0
    assert log(here / "out") == log(here / "whole")
    assert weights_equal(here / "out", here / "whole")


@pytest.mark.failure_case(23)
def test_the_second_ends_at_once(here):
    said = ended(TRAIN, step_called(2, times=2), folder=here)
    assert said.code == 130, said.err
    assert "ended at once, after step 2, within a step. The last whole checkpoint is out/checkpoint-2; " in said.err
    assert "nothing is lost" in said.err
    said = ended([*TRAIN, *NO_SAVES, "--output-dir", "other"], step_called(2, times=2), folder=here)
    assert "No checkpoint was written yet" in said.err


def is_optimizer(content, path, *args, **kwargs) -> bool:
    return str(path).endswith("optimizer.pt")


@pytest.mark.failure_case(23)
def test_while_a_checkpoint_is_written_it_is_finished(here):
    said = ended(TRAIN, Signalling(torch, "save", 0, where=is_optimizer), folder=here)
    assert said.code == 130, said.err
    assert "after step 2 of 4. Nothing is lost: out/checkpoint-2 holds" in said.err
    assert checkpoint_fault(here / "out" / "checkpoint-2") is None
    said = ended(GO_ON, Signalling(torch, "save", 0, times=2, where=is_optimizer), folder=here)
    assert "ended at once, after step 4, within a step. The last whole checkpoint is out/checkpoint-2; " in said.err
    assert "the 2 steps after it are lost" in said.err
    assert not (here / "out" / "checkpoint-4").exists()


@pytest.mark.parametrize(("owner", "name"), [(SFTTrainer, "_prepare_dataset"), (Trainer, "__init__")])
def test_while_rows_and_models_are_prepared(here, owner, name):
    said = ended(TRAIN, Signalling(owner, name, number=signal.SIGTERM), folder=here)
    assert said.code == 143, said.err
    assert said.err == "stopped by SIGTERM before the first step: nothing was trained, and no file was written.\n"
    assert not (here / "out").exists()


def test_before_the_first_step(here):
    said = ended([*TRAIN, *NO_SAVES], Signalling(Trainer, "create_optimizer"), folder=here)
    assert "after step 1 of 4. Nothing is lost: out/checkpoint-1" in said.err
    said = ended([*GO_ON, *NO_SAVES], Signalling(Trainer, "create_optimizer", times=2), folder=here)
    assert said.code == 130
    assert "The last whole checkpoint is out/checkpoint-1; nothing is lost." in said.err


def test_in_the_last_evaluation_the_model_is_saved(here):
    said = ended(TRAIN, Signalling(JobTrainer, "prediction_step"), folder=here)
    assert said.code == 130
    assert (
        "stopped by Ctrl-C after the last step: model, card and record are in out, without the loss on the " in said.err
    )
    metrics = json.loads((here / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert "train" in metrics
    assert "eval" not in metrics


def is_last_save(trainer, folder=None, **kwargs) -> bool:
    return folder is None


@pytest.mark.failure_case(23)
def test_in_the_last_save(here):
    said = ended([*TRAIN, *NO_SAVES], Signalling(Trainer, "save_model", where=is_last_save), folder=here)
    assert said.code == 130
    assert "Ctrl-C: the model is saved first" in said.err
    assert (here / "out" / "train.yaml").exists()
    again = Signalling(Trainer, "save_model", where=is_last_save, times=2)
    said = ended([*TRAIN, "--output-dir", "other"], again, folder=here)
    assert "while the model was saved, so the one there is not whole. The last whole checkpoint is other/ch" in said.err
    said = ended([*GO_ON, "--output-dir", "other"], folder=here)
    assert said.code == 0, said.err
    assert weights_equal(here / "out", here / "other")
    assert json.loads((here / "other" / "metrics.json").read_text())["steps"] == 4
    assert "mean_loss" not in json.loads((here / "other" / "metrics.json").read_text())["train"]
