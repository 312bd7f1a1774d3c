"""What is not finite is written nowhere: no checkpoint, no model."""

from pathlib import Path

import pytest
import tiny_models
import torch
from train import parity

from qtarget.train import NonFiniteWeightsError, TargetSFTConfig, TargetSFTTrainer, check_finite_weights
from qtarget.train.finite_weights import nonfinite_names

FORMATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn]


@pytest.mark.parametrize("dtype", FORMATS)
def test_one_value_is_found_in_every_format(dtype):
    sound = torch.ones(50, 7).to(dtype)
    broken = sound.clone()
    broken.view(-1)[200] = torch.nan
    largest = torch.full((3,), torch.finfo(dtype).max, dtype=torch.float64).to(dtype)
    assert nonfinite_names([("a", sound), ("b", broken), ("c", largest), ("d", torch.ones(0))]) == ["b"]
    if dtype is not torch.float8_e4m3fn:  # which has no infinity
        broken.view(-1)[200] = -torch.inf
        assert nonfinite_names([("b", broken)]) == ["b"]


def test_integers_and_weights_that_are_elsewhere_are_left_alone():
    assert nonfinite_names([("a", torch.ones(3, dtype=torch.uint8)), ("b", torch.ones(3, device="meta"))]) == []


def test_states_of_the_optimizer_are_named_by_their_weight():
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    check_finite_weights(model, optimizer)
    optimizer.state[model.bias]["exp_avg_sq"][0] = torch.inf
    check_finite_weights(model)
    with pytest.raises(NonFiniteWeightsError, match=r"stand in bias: exp_avg_sq\."):
        check_finite_weights(model, optimizer)


def built(tmp_path: Path, **changes):
    given = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "optim": "adamw_torch", **changes}
    return TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(**parity.common_args(method="sft", output_dir=str(tmp_path / "out"), **given)),
        train_dataset=tiny_models.prompt_completion(4),
        processing_class=tiny_models.tiny_tokenizer(),
    )


def plant_in_state(trainer):
    trainer.optimizer.state[trainer.model.lm_head.weight]["exp_avg"][0, 0] = torch.nan


def plant_in_weight(trainer):
    trainer.model.lm_head.weight.data[0, 0] = -torch.inf


@pytest.mark.failure_case(3)
@pytest.mark.parametrize("plant", [plant_in_state, plant_in_weight])
def test_no_checkpoint_is_written_of_a_step_whose_update_overflowed(tmp_path, plant):
    trainer = built(tmp_path)
    trainer.create_optimizer().register_step_post_hook(
        lambda *_: plant(trainer) if trainer.state.global_step == 1 else None
    )
    with pytest.raises(NonFiniteWeightsError, match=r"lm_head.weight.*checkpoint-2 was not written"):
        trainer.train()
    assert [each.name for each in (tmp_path / "out").glob("*checkpoint*")] == ["checkpoint-1"]


@pytest.mark.failure_case(3)
def test_no_model_is_saved(tmp_path):
    trainer = built(tmp_path, save_strategy="no")
    plant_in_weight(trainer)
    with pytest.raises(NonFiniteWeightsError, match=r"lm_head.weight.*model was not written"):
        trainer.save_model(str(tmp_path / "model"))
    assert not (tmp_path / "model").exists()


@pytest.mark.failure_case(3)
def test_training_does_not_begin_from_a_model_that_is_broken(tmp_path):
    trainer = built(tmp_path)
    plant_in_weight(trainer)
    with pytest.raises(NonFiniteWeightsError, match=r"lm_head.weight.*cannot begin"):
        trainer.train()
