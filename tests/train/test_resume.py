"""A run that goes on from a checkpoint is the unbroken run: the rows it reads, and the tokens it counts."""

import pytest
import tiny_models
from datasets import IterableDataset
from train import parity

from qtarget.train import TargetSFTConfig, TargetSFTTrainer


class Noting(TargetSFTTrainer):
    """Notes the rows of every micro-batch."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.__dict__.setdefault("rows", []).append(inputs["input_ids"].tolist())
        return super().compute_loss(model, inputs, *args, **kwargs)


def trainer(folder, rows, shuffled=False, **changes):
    stream = IterableDataset.from_generator(lambda: iter(tiny_models.token_rows(rows)))
    given = {"max_steps": 9, "save_strategy": "steps", "save_steps": 1, "logging_steps": 2, **changes}
    return Noting(
        tiny_models.tiny_model(),
        TargetSFTConfig(
            method="sft",
            **parity.common_args(output_dir=str(folder), per_device_train_batch_size=2, learning_rate=0.1, **given),
        ),
        train_dataset=stream.shuffle(seed=1, buffer_size=4) if shuffled else stream,
        processing_class=tiny_models.tiny_tokenizer(),
    )


@pytest.mark.parametrize(("rows", "accumulation", "shuffled"), [(8, 1, True), (12, 2, False), (100, 1, False)])
def test_a_stream_goes_on_where_it_stopped(tmp_path, rows, accumulation, shuffled):
    """Passes of 4 or 3 steps in a run of 9; the last stream is longer than the run."""
    changes = {"shuffled": shuffled, "gradient_accumulation_steps": accumulation}
    whole = trainer(tmp_path, rows, **changes)
    whole.train()
    for step in (4, 6):
        again = trainer(tmp_path, rows, **changes)
        again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert again.rows == whole.rows[step * accumulation :], step
        assert again.state.epoch == whole.state.epoch
    log, first = again.state.log_history[-2], whole.state.log_history[-2]
    assert (log["step"], log["num_tokens"]) == (first["step"], first["num_tokens"])
    assert log["loss"] == pytest.approx(first["loss"], rel=1e-5)


def test_a_longer_run_goes_on_behind_the_shorter_one(tmp_path):
    """The first run's length, not the second's, says where it stopped."""
    trainer(tmp_path, 8, max_steps=6).train()
    whole, again = trainer(tmp_path / "whole", 8), trainer(tmp_path, 8, resume_changed=["max_steps"])
    whole.train()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert again.rows == whole.rows[6:]


def test_tokens_are_counted_on(tmp_path):
    """Those since the last log too; checkpoints of before have no count, and start at 0."""
    whole = trainer(tmp_path, 8)
    whole.train()
    counts = {e["step"]: e["num_tokens"] for e in whole.state.log_history if "num_tokens" in e}
    again = trainer(tmp_path, 8, restore_callback_states_from_checkpoint=True)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    resumed = {e["step"]: e["num_tokens"] for e in again.state.log_history if "num_tokens" in e}
    assert resumed == counts
    assert counts[8] > counts[6] > counts[4]
