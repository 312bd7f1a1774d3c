"""A run that was stopped where an evaluation was due goes on as the unbroken run, with all that evaluations decide."""

import os
import signal

import pytest
import tiny_models
from datasets import Dataset
from train import parity
from transformers import TrainerCallback

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
    args = parity.common_args(output_dir=str(folder), learning_rate=0.5, **{**given, **changes})
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
