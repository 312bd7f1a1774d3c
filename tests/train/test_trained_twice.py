"""A trainer that trains again: what the run is that begins then is told as it is then."""

import pytest
import tiny_models
import torch
from datasets import Dataset
from peft import LoraConfig
from train import parity

from qtarget.disk.seal import read_seal
from qtarget.train import TargetSFTConfig, TargetSFTTrainer


def trainer(folder, **kwargs):
    changes = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 2}
    return TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft", **parity.common_args(output_dir=str(folder), learning_rate=0.1, **changes)),
        train_dataset=Dataset.from_list(tiny_models.token_rows(16)),
        processing_class=tiny_models.tiny_tokenizer(),
        **kwargs,
    )


def parts(folder):
    return [(each["after"], each["identity"]) for each in read_seal(folder).facts["history"]]


@pytest.mark.failure_case(24)
def test_arguments_and_rows_that_were_changed_since_are_compared_and_told(tmp_path):
    run = trainer(tmp_path)
    run.train()
    run.args.max_steps, run.args.max_grad_norm = 6, 0.01
    with pytest.raises(ValueError, match=r"max_grad_norm: 0\.0 then, 0\.01 now(.|\n)*max_steps: 4 then, 6 now"):
        run.train(resume_from_checkpoint=True)
    run.args.resume_changed = ["max_steps", "max_grad_norm"]
    run.train(resume_from_checkpoint=True)
    told = [(after, each["max_steps"], each["max_grad_norm"]) for after, each in parts(tmp_path / "checkpoint-6")]
    assert told == [(0, 4, 0.0), (4, 6, 0.01)]
    run.train_dataset = run.train_dataset.select(range(4))
    with pytest.raises(ValueError, match=r"rows: 16 rows, .* then, 4 rows, .* now"):
        run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


@pytest.mark.failure_case(1)
@pytest.mark.parametrize("given", ["nothing", "adapter", "optimizer class"])
def test_the_same_trainer_goes_on_as_the_same_run(tmp_path, given):
    kwargs = {
        "adapter": {"peft_config": LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")},
        "optimizer class": {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.1})},
    }.get(given, {})
    run = trainer(tmp_path, **kwargs)
    run.train()
    first = parts(tmp_path / "checkpoint-4")
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert parts(tmp_path / "checkpoint-4") == first
    assert len(first) == 1


@pytest.mark.failure_case(24)
@pytest.mark.parametrize("has_adapter", [False, True])
def test_a_run_that_begins_anew_begins_with_trained_weights(tmp_path, has_adapter):
    lora = {"peft_config": LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")} if has_adapter else {}
    run = trainer(tmp_path, **lora)
    run.train()
    first = parts(tmp_path / "checkpoint-2")
    run.train()
    second = parts(tmp_path / "checkpoint-2")
    assert first[0][1]["weights"] != second[0][1]["weights"]
    assert "the optimizer's state, which an earlier training of this trainer left" in second[0][1]["not_compared"]
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [each["weights"] for _, each in parts(tmp_path / "checkpoint-4")] == [second[0][1]["weights"]]
    with pytest.raises(ValueError, match=r"weights: sha256 .* then, sha256 .* now"):
        trainer(tmp_path, **lora).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def content(folder):
    return {str(each): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.mark.failure_case(2)
@pytest.mark.failure_case(24)
def test_a_run_does_not_go_on_among_the_checkpoints_of_another(tmp_path):
    trainer(tmp_path / "A").train()
    other = trainer(tmp_path / "B")
    other.args.learning_rate = 0.2
    other.train()
    before = content(tmp_path / "B")
    for start in (str(tmp_path / "A" / "checkpoint-2"), tmp_path / "A" / "checkpoint-2"):
        with pytest.raises(
            ValueError, match=r"B` holds .*checkpoint-4 of another run than .*A/checkpoint-2"
        ) as refused:
            trainer(tmp_path / "B").train(resume_from_checkpoint=start)
        assert f"trainer.train(resume_from_checkpoint='{tmp_path / 'B' / 'checkpoint-4'}')" in str(refused.value)
        assert f"`TargetSFTConfig(output_dir='{tmp_path / 'B-2'}')`" in str(refused.value)
    assert content(tmp_path / "B") == before


def test_a_run_goes_on_among_checkpoints_of_its_own(tmp_path):
    trainer(tmp_path / "A").train()
    for _ in range(2):
        trainer(tmp_path / "C").train(resume_from_checkpoint=str(tmp_path / "A" / "checkpoint-2"))
    assert (tmp_path / "C" / "checkpoint-4").is_dir()
