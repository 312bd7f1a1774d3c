"""A run that was stopped where an evaluation was due goes on as the unbroken run, with all that evaluations decide."""

import os
import signal

import pytest
import tiny_models
from datasets import Dataset
from train import parity
from transformers import EarlyStoppingCallback, TrainerCallback

from qtarget.outcomes import Interruption
from qtarget.train import TargetSFTConfig, TargetSFTTrainer, stop_with_checkpoint

PLATEAU = {
    "lr_scheduler_type": "reduce_lr_on_plateau",
    "lr_scheduler_kwargs": {"factor": 0.5, "patience": 0},
    "metric_for_best_model": "eval_loss",
}
pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")


class Ending(TrainerCallback):
    """Sends SIGTERM to this process at the end of a step, or at an evaluation after it: at its `call`-th batch."""

    def __init__(self, step, call=None):
        self.step, self.call, self.calls = step, call, 0

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step and self.call is None:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_prediction_step(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.calls += 1
            if self.calls == self.call:
                os.kill(os.getpid(), signal.SIGTERM)


def trainer(folder, evaluation=None, callbacks=(), **changes):
    given = {"max_steps": 6, "save_strategy": "steps", "save_steps": 100, "eval_strategy": "steps", "eval_steps": 1}
    rows = evaluation or Dataset.from_list(tiny_models.token_rows(4, seed=5))
    args = parity.common_args(output_dir=str(folder), **{"learning_rate": 0.5, **given, **changes})
    return TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft", **args),
        train_dataset=Dataset.from_list(tiny_models.token_rows(16)),
        eval_dataset=rows,
        processing_class=tiny_models.tiny_tokenizer(),
        callbacks=list(callbacks),
    )


def stopped_and_resumed(folder, ending, make):
    """Trainers of the unbroken run, and of the rest of one that was stopped."""
    whole = make(folder / "whole", [])
    whole.train()
    stopped = make(folder / "again", [ending])
    with pytest.raises(Interruption), stop_with_checkpoint(stopped):
        stopped.train()
    again = make(folder / "again", [])
    again.train(resume_from_checkpoint=True)
    return whole, again


def logged(run):
    names = ("step", "learning_rate", "loss", "eval_loss", "eval_a_loss", "eval_b_loss")
    told = [{name: entry[name] for name in names if name in entry} for entry in run.state.log_history]
    return [entry for entry in told if len(entry) > 1]


@pytest.mark.failure_case(1)
@pytest.mark.parametrize("on_start", [False, True])
def test_an_evaluation_at_the_start_is_not_taken_for_the_missed_one(tmp_path, on_start):
    def make(folder, callbacks):
        best = {"load_best_model_at_end": True, "save_steps": 1}
        return trainer(folder, callbacks=callbacks, eval_on_start=on_start, **PLATEAU, **best)

    whole, again = stopped_and_resumed(tmp_path, Ending(3), make)
    assert logged(again) == logged(whole)
    best = [(run.state.best_metric, run.state.best_global_step) for run in (again, whole)]
    assert best[0] == best[1]


@pytest.mark.failure_case(1)
def test_one_that_is_broken_between_two_sets_is_made_up_for_with_both(tmp_path):
    sets = {name: Dataset.from_list(tiny_models.token_rows(4, seed=seed)) for name, seed in (("a", 5), ("b", 6))}

    def make(folder, callbacks):
        return trainer(folder, sets, callbacks, **{**PLATEAU, "metric_for_best_model": "eval_b_loss"})

    whole, again = stopped_and_resumed(tmp_path, Ending(3, 2), make)  # each set is one batch
    assert logged(again) == logged(whole)


def patient(folder, *patience, callbacks=(), **changes):
    """A run whose evaluations get worse; it ends after so many of them."""
    best = {"load_best_model_at_end": True, "save_steps": 1, "metric_for_best_model": "eval_loss", "max_steps": 8}
    stopping = [EarlyStoppingCallback(each) for each in patience]
    return trainer(folder, callbacks=[*stopping, *callbacks], **{**best, "learning_rate": 2.0, **changes})


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run that ended early, and the step that it ended at."""
    folder = tmp_path_factory.mktemp("ended")
    whole = patient(folder, 3)
    whole.train()
    assert 3 < whole.state.global_step < 8
    return folder, whole


@pytest.mark.failure_case(1)
@pytest.mark.parametrize("back", [0, 1, 2])
def test_early_stopping_counts_on(ended, tmp_path, back):
    """Also where it had ended the run when the checkpoint was written."""
    folder, whole = ended
    again = patient(tmp_path, 3)
    again.train(resume_from_checkpoint=str(folder / f"checkpoint-{whole.state.global_step - back}"))
    assert again.state.global_step == whole.state.global_step
    assert logged(again) == logged(whole)
    ours, theirs = (dict(run.model.named_parameters()) for run in (again, whole))
    assert all((ours[name] == weight).all() for name, weight in theirs.items())


@pytest.mark.failure_case(1)
def test_a_missed_evaluation_that_ends_the_run_ends_it_before_the_next_step(ended, tmp_path):
    _, whole = ended
    step = whole.state.global_step
    stopped = patient(tmp_path, 3, callbacks=[Ending(step)])
    with pytest.raises(Interruption), stop_with_checkpoint(stopped):
        stopped.train()
    again = patient(tmp_path, 3)
    again.train(resume_from_checkpoint=True)
    assert logged(again) == logged(whole)
    assert again.state.global_step == step


def test_more_patience_trains_on(ended, tmp_path):
    folder, whole = ended
    again = patient(tmp_path, 30, resume_changed=["code"])
    again.train(resume_from_checkpoint=str(folder / f"checkpoint-{whole.state.global_step}"))
    assert again.state.global_step == 8


def test_two_callbacks_of_one_kind_each_count_on_and_a_new_one_begins(ended, tmp_path):
    folder, _ = ended
    again = patient(tmp_path / "two", 30, 40, resume_changed=["code"])
    again.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    own = [each for each in again.callback_handler.callbacks if isinstance(each, EarlyStoppingCallback)]
    third = patient(tmp_path / "two", 30, 40, resume_changed=["code"])
    third.train(resume_from_checkpoint=str(tmp_path / "two" / "checkpoint-7"))
    now = [each for each in third.callback_handler.callbacks if isinstance(each, EarlyStoppingCallback)]
    assert [each.state() for each in now] == [each.state() for each in own]
    patient(tmp_path / "none", max_steps=2).train()
    patient(tmp_path / "none", 30, max_steps=4, resume_changed=["max_steps", "code"]).train(resume_from_checkpoint=True)
