"""A run that goes on from a checkpoint is the unbroken run: the rows it reads, and the tokens it counts."""

import functools
import shutil

import pytest
import tiny_models
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from train import parity
from transformers import DataCollatorForSeq2Seq

from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.resumption.run_identity import rows_digest


class Noting(TargetSFTTrainer):
    """Notes the rows of every micro-batch."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.__dict__.setdefault("rows", []).append(inputs["input_ids"].tolist())
        return super().compute_loss(model, inputs, *args, **kwargs)


def trainer(folder, rows, shuffled=False, **changes):
    """On a number of rows, which are streamed, or on a data set."""
    if isinstance(rows, int):
        count, rows = rows, IterableDataset.from_generator(lambda: iter(tiny_models.token_rows(count)))
    given = {"max_steps": 9, "save_strategy": "steps", "save_steps": 1, "logging_steps": 2, **changes}
    return Noting(
        tiny_models.tiny_model(),
        TargetSFTConfig(
            method="sft",
            **parity.common_args(output_dir=str(folder), per_device_train_batch_size=2, learning_rate=0.1, **given),
        ),
        train_dataset=rows.shuffle(seed=1, buffer_size=4) if shuffled else rows,
        processing_class=tiny_models.tiny_tokenizer(),
    )


@pytest.mark.failure_case(1)
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


@pytest.mark.failure_case(1)
@pytest.mark.parametrize("workers", [0, 1])
def test_rows_in_groups_of_like_length_go_on_in_a_later_epoch(tmp_path, workers):
    """Epochs of 6 steps; the order of the second must not hang on what the first drew."""
    changes = {
        "train_sampling_strategy": "group_by_length",
        "dataloader_num_workers": workers,
    }
    rows = Dataset.from_list(tiny_models.token_rows(12))
    whole = trainer(tmp_path, rows, **changes)
    whole.train()
    assert sorted(whole.rows[:6]) != sorted(whole.rows[6:12]), "an order of its own for every epoch"
    for step in (2, 6, 8):
        again = trainer(tmp_path, rows, **changes)
        again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert again.rows == whole.rows[step:], step


@pytest.mark.parametrize(
    "change", [{"ignore_data_skip": True}, {"accelerator_config": {"use_seedable_sampler": False}}]
)
def test_an_order_of_rows_that_no_resume_repeats_is_refused(tmp_path, change):
    with pytest.raises(ValueError, match=f"{next(iter(change))}.*would read other rows"):
        trainer(tmp_path, tiny_models.token_rows(12), **change)


@pytest.mark.failure_case(24)
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


class Padding:
    """A collator of the user's own."""

    def __init__(self, side: str = "right"):
        self.side = side

    def __call__(self, rows):
        width = max(len(row["input_ids"]) for row in rows)
        ids = [[*row["input_ids"], *[0] * (width - len(row["input_ids"]))] for row in rows]
        labels = [[*row["labels"], *[-100] * (width - len(row["labels"]))] for row in rows]
        return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}


class OtherPadding(Padding):
    pass


def collating(folder, collator, rows=None, **changes):
    rows = rows or [{"input_ids": [10, first, 12], "labels": [-100, first, 12]} for first in range(10, 18)]
    changes |= {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 2}
    return TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft", **parity.common_args(output_dir=str(folder), **changes)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_models.tiny_tokenizer(),
        data_collator=collator,
    )


@pytest.mark.failure_case(24)
def test_a_collator_of_ones_own_is_compared_by_its_code_and_its_attributes(tmp_path, monkeypatch):
    collating(tmp_path, Padding()).train()
    step = str(tmp_path / "checkpoint-1")
    with pytest.raises(ValueError, match=r"data_collator\.class: .*\.Padding then, .*\.OtherPadding now"):
        collating(tmp_path, OtherPadding()).train(resume_from_checkpoint=step)
    with pytest.raises(ValueError, match=r"data_collator\.side: right then, left now"):
        collating(tmp_path, Padding("left")).train(resume_from_checkpoint=step)
    collating(tmp_path, Padding()).train(resume_from_checkpoint=step)
    monkeypatch.setattr(Padding, "__call__", lambda self, rows: OtherPadding.__call__(self, rows))
    with pytest.raises(ValueError, match=r"code\.data_collator: Python"):
        collating(tmp_path, Padding()).train(resume_from_checkpoint=step)


def stepping(folder, **changes):
    given = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 2, **changes}
    return TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft", **parity.common_args(output_dir=str(folder), **given)),
        train_dataset=Dataset.from_list(tiny_models.token_rows(8)),
        eval_dataset=Dataset.from_list(tiny_models.token_rows(2)),
        processing_class=tiny_models.tiny_tokenizer(),
    )


def steps_of(log, name):
    return [entry["step"] for entry in log if name in entry]


@pytest.mark.failure_case(24)
def test_when_it_saves_evaluates_and_logs_is_what_the_run_that_goes_on_says(tmp_path):
    """And not what the checkpoint's own run said."""
    first = stepping(tmp_path, eval_strategy="steps", eval_steps=4, logging_steps=4, max_steps=6)
    first.train()
    changes = {"save_steps": 1, "logging_steps": 1, "eval_steps": 1, "resume_changed": ["eval_steps"]}
    again = stepping(tmp_path / "again", eval_strategy="steps", max_steps=6, **changes)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    saved = sorted(each.name for each in (tmp_path / "again").glob("checkpoint-*"))
    assert saved == [f"checkpoint-{step}" for step in (3, 4, 5, 6)]
    assert [step for step in steps_of(again.state.log_history, "eval_loss") if step > 2] == [3, 4, 5, 6]
    assert steps_of(again.state.log_history, "loss") == [3, 4, 5, 6]


PLATEAU = {"lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": "eval_loss", "eval_strategy": "steps"}
OF_PLATEAUS = {
    "lr_scheduler_kwargs": {**PLATEAU, "lr_scheduler_kwargs": {"factor": 0.9, "patience": 0}},
    "lr_scheduler_type": {**PLATEAU, "lr_scheduler_kwargs": {}, "lr_scheduler_type": "linear"},
}


@pytest.mark.failure_case(24)
@pytest.mark.parametrize("name", OF_PLATEAUS)
def test_of_a_schedule_that_waits_for_plateaus_the_checkpoint_decides_everything(tmp_path, name):
    stepping(tmp_path, **PLATEAU, eval_steps=2, lr_scheduler_kwargs={"factor": 0.5}).train()
    step = str(tmp_path / "checkpoint-2")
    with pytest.raises(ValueError, match=f"`resume_changed` names {name}, which the states in a checkpoint decide"):
        stepping(tmp_path, eval_steps=2, **OF_PLATEAUS[name], resume_changed=[name]).train(resume_from_checkpoint=step)


def test_of_other_schedules_the_arguments_may_change(tmp_path):
    cosine = {"lr_scheduler_type": "cosine_with_min_lr", "logging_steps": 1}
    stepping(tmp_path, **cosine, lr_scheduler_kwargs={"min_lr_rate": 0.1}).train()
    other = {**cosine, "lr_scheduler_kwargs": {"min_lr_rate": 0.9}, "resume_changed": ["lr_scheduler_kwargs"]}
    again = stepping(tmp_path, **other)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.state.log_history[-2]["learning_rate"] > 0.9e-2


@pytest.mark.failure_case(24)
def test_settings_of_a_librarys_collator_that_was_given_are_compared(tmp_path):
    def padding(**settings):
        return DataCollatorForSeq2Seq(tiny_models.tiny_tokenizer(), **settings)

    collating(tmp_path, padding()).train()
    step = str(tmp_path / "checkpoint-1")
    collating(tmp_path / "same", padding()).train(resume_from_checkpoint=step)
    with pytest.raises(ValueError, match=r"data_collator\.label_pad_token_id: -100 then, 5 now"):
        collating(tmp_path, padding(label_pad_token_id=5)).train(resume_from_checkpoint=step)
    with pytest.raises(ValueError, match=r"data_collator: .* then, None now"):
        collating(tmp_path, None).train(resume_from_checkpoint=step)
    partial = [functools.partial(Padding.__call__, Padding()), functools.partial(padding(), return_tensors="pt")]
    for each in partial:
        with pytest.raises(ValueError, match=r"code\.data_collator: "):
            collating(tmp_path, each).train(resume_from_checkpoint=step)


def test_a_collator_that_is_put_into_a_trainer_is_compared_too(tmp_path):
    def put(collator):
        run = collating(tmp_path, None)
        run.data_collator = collator
        return run

    put(Padding()).train()
    with pytest.raises(ValueError, match=r"data_collator\.side: right then, left now"):
        put(Padding("left")).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


class Levelled(Padding):
    """Learns nothing of rows of a level."""

    def __call__(self, rows):
        batch = super().__call__(rows)
        batch["labels"][torch.tensor([row["level"] for row in rows]), 1] = -100
        return batch


@pytest.mark.failure_case(24)
def test_all_columns_that_reach_a_collator_are_compared(tmp_path):
    def levelled(folder, odd, **changes):
        rows = [{"input_ids": [10, n, 12], "labels": [-100, n, 12], "level": n % 2 == odd} for n in range(10, 18)]
        return collating(folder, Levelled(), rows=rows, remove_unused_columns=False, **changes)

    levelled(tmp_path, 0).train()
    step = str(tmp_path / "checkpoint-1")
    levelled(tmp_path / "same", 0).train(resume_from_checkpoint=step)
    assert rows_digest(Dataset.from_list([{"a": True}, {"a": None}]), None)
    with pytest.raises(ValueError, match=r"  rows: 8 rows, sha256 .* then, 8 rows, sha256"):
        levelled(tmp_path, 1).train(resume_from_checkpoint=step)


def test_that_rows_of_a_stream_are_not_compared_is_said(tmp_path):
    trainer(tmp_path, 8, max_steps=2).train()
    with pytest.warns(
        UserWarning, match=r"Not compared with the run that wrote .*: the rows of a stream, the code of .*\.Noting\."
    ):
        trainer(tmp_path, 8, max_steps=2).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


@pytest.mark.failure_case(1)
def test_a_quantised_run_goes_on_in_the_precision_that_it_began_in(tmp_path):
    """Bit for bit, its best adapter too: peft would read the adapter as float32, and TRL trains it in bfloat16."""
    tiny_models.tiny_model("llama", width=64).save_pretrained(tmp_path / "base")
    whole, again = quantised(tmp_path / "whole"), quantised(tmp_path / "again")
    whole.train()
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "again" / "checkpoint-2")
    again.train(resume_from_checkpoint=True)
    ours, theirs = dict(again.model.named_parameters()), dict(whole.model.named_parameters())
    assert {str(w.dtype) for n, w in ours.items() if "lora_" in n} == {"torch.bfloat16"}
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())


def quantised(folder):
    from transformers import BitsAndBytesConfig

    args = parity.common_args(output_dir=str(folder), max_steps=4, save_strategy="steps", save_steps=2)
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2}
    return TargetSFTTrainer(
        str(folder.parent / "base"),
        TargetSFTConfig(method="dft", **args, **best),
        train_dataset=tiny_models.token_rows(),
        eval_dataset=tiny_models.token_rows(),
        processing_class=tiny_models.tiny_tokenizer(),
        quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )


@pytest.mark.failure_case(24)
def test_what_orders_a_streams_rows_is_compared(tmp_path):
    trainer(tmp_path, 100).train()
    with pytest.raises(ValueError, match="dataloader_num_workers: 0 then, 2 now"):
        trainer(tmp_path, 100, dataloader_num_workers=2).train(resume_from_checkpoint=True)
