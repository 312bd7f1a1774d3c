"""`qtarget train` of a run that diverges: an error, and no file with a number that is not finite."""

import json
import shutil

import pytest
import torch
from job.command import run
from safetensors.torch import load_file

from qtarget.job.build import JobTrainer
from qtarget.train import TargetSFTTrainer
from qtarget.train.token_means import TokenMeans

ALONE = ("--teacher", "null", "--method", "sft", "--eta", "null")


def weights_in(folder):
    """Every tensor that stands in a safetensors file, by file and name."""
    files = folder.rglob("*.safetensors")
    return {f"{file}: {name}": value for file in files for name, value in load_file(file).items()}


@pytest.mark.failure_case(3)
@pytest.mark.parametrize(
    "words", [("--learning-rate", "1e38"), ("--learning-rate", "1e20", "--max-grad-norm", "0")], ids=["clipped", "not"]
)
def test_nothing_that_is_not_finite_is_written(here, capsys, words):
    said = run(capsys, "train", "config.yaml", *ALONE, "--save-steps", "1", "--max-steps", "30", *words)
    assert said.code == 1
    assert "learning_rate" in said.err
    assert "Traceback" not in said.err
    kept = weights_in(here / "out")
    assert [name for name, value in kept.items() if not value.isfinite().all()] == []
    assert not (here / "out" / "model.safetensors").exists()


@pytest.mark.failure_case(3)
def test_a_last_update_that_overflows_leaves_no_model_with_a_card(here, capsys, monkeypatch):
    build = JobTrainer.create_optimizer

    def overflowing(self, *args, **kwargs):
        optimizer = build(self, *args, **kwargs)
        optimizer.register_step_post_hook(lambda *_: self.state.global_step == 3 and lose(self))
        return optimizer

    def lose(trainer):
        trainer.model.lm_head.weight.data[0, 0] = torch.inf

    monkeypatch.setattr(JobTrainer, "create_optimizer", overflowing)
    said = run(capsys, "train", "config.yaml", *ALONE)
    assert said.code == 1
    assert "lm_head.weight" in said.err
    assert "The last whole checkpoint is out/checkpoint-2; the 2 steps after it are lost" in said.err
    assert not (here / "out" / "model.safetensors").exists()
    assert not (here / "out" / "checkpoint-4").exists()
    said = run(capsys, "train", "config.yaml", *ALONE, "--save-strategy", "no", "--output-dir", "o2")
    assert said.code == 1
    assert "optimizer step 4, the last one" in said.err
    assert not list((here / "o2").glob("*.safetensors"))


def test_a_skipped_step_stands_in_table_metrics_and_card(here, capsys, monkeypatch):
    whole = TargetSFTTrainer._whole_loss

    def broken_once(self, out, num_items):
        loss = whole(self, out, num_items)
        return loss * torch.nan if self.model.training and self.state.global_step == 1 else loss

    monkeypatch.setattr(TargetSFTTrainer, "_whole_loss", broken_once)
    said = run(
        capsys, "train", "config.yaml", *ALONE, "--max-steps", "3", "--save-steps", "1", "--on-nonfinite", "skip"
    )
    assert said.code == 0, said.err
    assert "skipped" in said.out
    record = json.loads((here / "out" / "metrics.json").read_text("utf-8"))
    assert record["train"]["skipped_steps"] == 1
    assert "for 3 optimizer steps (of which 1 left out, " in (here / "out" / "README.md").read_text("utf-8")
    state = (here / "out" / "checkpoint-3" / "trainer_state.json").read_text("utf-8")
    assert "NaN" not in state
    assert "Infinity" not in state
    assert "repeats the run" in (here / "out" / "README.md").read_text("utf-8")
    shutil.rmtree(here / "out" / "checkpoint-3")
    words = ("--max-steps", "3", "--resume-from-checkpoint", "--on-nonfinite", "stop")
    assert run(capsys, "train", "config.yaml", *ALONE, *words).code == 0
    card = " ".join((here / "out" / "README.md").read_text("utf-8").split())
    assert "repeats the run" not in card
    assert "It does not repeat the run: 1 step was left out under `on_nonfinite: skip`" in card


def test_a_loss_on_the_evaluation_rows_that_is_no_number_is_null_and_said(here, capfd, monkeypatch):
    measure = TokenMeans.add

    def broken_in_evaluation(self, mode, out, batch):
        measure(self, mode, out if mode == "train" else out._replace(loss=out.loss * torch.nan), batch)

    monkeypatch.setattr(TokenMeans, "add", broken_in_evaluation)
    words = ("train", "config.yaml", *ALONE, "--eval-strategy", "steps", "--eval-steps", "1", "--save-steps", "1")
    for going_on in ((), ("--resume-from-checkpoint", "out/checkpoint-1")):
        said = run(capfd, *words, "--max-steps", "2", *going_on)
        assert said.code == 0, said.err
        assert "The loss on the evaluation rows is nan" in " ".join((said.out + said.err).split())
        check_json(here / "out")


def check_json(folder):
    """Every file of JSON is one for any reader, and the record says what the loss was."""
    read = {
        file.relative_to(folder).as_posix(): json.loads(file.read_text("utf-8"), parse_constant=pytest.fail)
        for file in folder.rglob("*.json")
    }
    assert {"metrics.json", "trainer_state.json", "checkpoint-2/trainer_state.json"} <= read.keys()
    assert read["metrics.json"]["eval"]["loss"] is None
    assert read["metrics.json"]["not_finite"] == {"eval.loss": "nan"}
