"""A gradient that is not finite under a finite loss is kept from weights and optimizer, whichever way it came about."""

import re
import warnings

import pytest
import tiny_models
import torch
from train import parity

from qtarget.train import NonFiniteLossError, NonFiniteWeightsError, TargetSFTConfig, TargetSFTTrainer

WORD = "w94"
TOKEN = tiny_models.tiny_tokenizer().convert_tokens_to_ids(WORD)


class PlantedGradient:
    """Makes the gradient of a token's embedding NaN, while it is on. The loss is not touched."""

    def __init__(self, model):
        self.is_on, self.value = True, torch.nan
        model.get_input_embeddings().register_forward_hook(self.watch)

    def watch(self, module, args, output):
        if self.is_on and output.requires_grad:
            at = (args[0] == TOKEN)[..., None]
            output.register_hook(lambda grad: torch.where(at, self.value, grad))


def rows(count=8, planted=5):
    """Rows of which one holds the token."""
    made = tiny_models.prompt_completion(count).filter(lambda row: WORD not in row["prompt"] + row["completion"])
    return made.map(lambda row, i: {"completion": f"w0 {WORD} w1" if i == planted else "w1 w2"}, with_indices=True)


def built(data=None, model=None, **changes):
    given = {"method": "sft", "max_steps": 4, "per_device_train_batch_size": 2, "seed": 0, **changes}
    trainer = TargetSFTTrainer(
        model or tiny_models.tiny_model(),
        TargetSFTConfig(**parity.common_args(**given)),
        train_dataset=rows() if data is None else data,
        processing_class=tiny_models.tiny_tokenizer(),
    )
    return trainer, PlantedGradient(trainer.model)


def state_of(trainer):
    """Weights and optimizer states, copied."""
    weights = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    kept = trainer.optimizer.state.values()
    return weights, [{key: value.clone() for key, value in each.items()} for each in kept]


def kept_after_steps(trainer):
    """What `state_of` was after each optimizer step, by the step's number."""
    after = {}
    optimizer = trainer.create_optimizer()
    optimizer.register_step_post_hook(lambda *_: after.update({trainer.state.global_step + 1: state_of(trainer)}))
    return after


def assert_same(found, expected):
    for name, weight in found[0].items():
        assert torch.equal(weight, expected[0][name]), name
    assert len(found[1]) == len(expected[1])
    for ours, theirs in zip(found[1], expected[1], strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


CASES = {
    "clipped": {"max_grad_norm": 1.0, "optim": "adamw_torch"},
    "unclipped": {"max_grad_norm": 0.0, "optim": "adamw_torch"},
    "accumulated": {"gradient_accumulation_steps": 2, "max_steps": 2, "per_device_train_batch_size": 2},
    "flat": {"padding_free": True, "max_length": None},
    "tied": {"optim": "adamw_torch", "model": "tied"},
    "checkpointed": {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
}


@pytest.mark.failure_case(3)
@pytest.mark.parametrize("case", CASES)
def test_the_step_is_not_taken_and_the_row_is_named(case):
    changes = dict(CASES[case])
    model = tiny_models.tiny_model(tied=True) if changes.pop("model", None) else None
    trainer, plant = built(model=model, **changes)
    plant.value, after = torch.inf if case == "unclipped" else torch.nan, kept_after_steps(trainer)
    with pytest.raises(NonFiniteLossError, match=rf"The gradient of optimizer step \d is not finite.*{WORD}") as error:
        trainer.train()
    step = trainer.state.global_step
    assert f"optimizer step {step + 1} " in str(error.value)
    assert len(re.findall(r"row \d+ \('", str(error.value))) == 1
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())
    if step:
        assert_same(state_of(trainer), after[step])


@pytest.mark.failure_case(3)
def test_one_that_comes_at_the_very_last_step_is_not_taken():
    trainer, plant = built(max_steps=3)
    plant.is_on = False
    trainer.model.lm_head.weight.register_hook(
        lambda grad: grad * torch.nan if trainer.state.global_step == 2 else grad
    )
    with pytest.raises(NonFiniteLossError, match=r"optimizer step 3 is not finite.*those after step 2"):
        trainer.train()
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())


def test_an_adapter_and_frozen_weights():
    from peft import LoraConfig

    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(**parity.common_args(method="sft", max_steps=3)),
        train_dataset=rows(),
        processing_class=tiny_models.tiny_tokenizer(),
        peft_config=LoraConfig(r=2, target_modules=["q_proj"]),
    )
    broken = next(w for name, w in trainer.model.named_parameters() if "lora_A" in name)
    broken.register_hook(lambda grad: grad * torch.inf if trainer.state.global_step == 1 else grad)
    with pytest.raises(NonFiniteLossError, match="The gradient of optimizer step 2"):
        trainer.train()
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())


@pytest.mark.failure_case(3)
def test_a_skipped_step_changes_nothing_and_the_run_goes_on(tmp_path):
    trainer, _ = built(on_nonfinite="skip", optim="adamw_torch", max_grad_norm=1.0, output_dir=str(tmp_path))
    after = kept_after_steps(trainer)
    with pytest.warns(UserWarning, match=rf"(?s)gradient of optimizer step \d .*{WORD}.* is left out, number 1 of"):
        trainer.train()
    skipped = ({1, 2, 3, 4} - set(after)).pop()
    assert len(after) == 3
    logs = trainer.state.log_history
    assert [log.get("skipped_steps", 0) for log in logs[:4]] == [int(step >= skipped) for step in (1, 2, 3, 4)]
    of_step = {log["step"]: log for log in logs[:4]}
    assert "loss" not in of_step[skipped]
    assert "grad_norm" not in of_step[skipped]
    mean = sum(log["loss"] for log in logs[:4] if "loss" in log) / 3
    assert logs[-1]["train_loss"] == pytest.approx(mean, rel=1e-5)
    assert logs[-1]["skipped_steps"] == 1
    assert trainer.state.global_step == 4
    if skipped > 1:
        before, later = after[skipped - 1], after.get(skipped + 1)
        assert later is None or int(later[1][0]["step"]) == int(before[1][0]["step"]) + 1


def test_a_skipped_loss_that_is_not_finite_leaves_no_trace_in_the_figures():
    """Of a log over several steps: the mean over those that were taken."""
    trainer, plant = built(on_nonfinite="skip", logging_steps=4)
    plant.is_on = False
    losses = []
    whole = trainer._whole_loss

    def broken_once(out, num_items):
        loss = whole(out, num_items)
        losses.append(loss.item())
        return loss * torch.nan if trainer.state.global_step == 1 else loss

    trainer._whole_loss = broken_once
    with pytest.warns(UserWarning, match="The loss of optimizer step 2 is not finite"):
        trainer.train()
    log = trainer.state.log_history[0]
    assert log["loss"] == pytest.approx(sum(losses[i] for i in (0, 2, 3)) / 3, rel=1e-5)
    assert log["nll"] == pytest.approx(log["loss"], rel=0.3)


def test_the_run_stops_when_too_many_steps_were_skipped(tmp_path):
    """The count goes on in a resumed run."""
    plain = {"on_nonfinite": "skip", "max_skipped_steps": 2, "max_steps": 6, "output_dir": str(tmp_path)}
    every = rows(8).map(lambda row: {"completion": f"{WORD} w1"})
    trainer, plant = built(every, save_strategy="steps", save_steps=1, **plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(NonFiniteLossError, match=r"step 3 is not finite.*2 steps were left out before it"):
            trainer.train()
        again, plant = built(every, **plain)
        with pytest.raises(NonFiniteLossError, match=r"step 3 is not finite.*2 steps were left out before it"):
            again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        plant.is_on = False
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.state.log_history[-1]["skipped_steps"] == 2


def test_weights_that_are_lost_are_not_skipped():
    """Nothing is gained by leaving out the steps after the update that broke the weights."""
    trainer, plant = built(on_nonfinite="skip", max_steps=4)
    plant.is_on = False
    trainer.create_optimizer().register_step_post_hook(lambda *_: trainer.model.lm_head.weight.data.fill_(torch.nan))
    with pytest.raises(NonFiniteLossError, match=r"update of optimizer step 1 was too large.*lm_head.weight"):
        trainer.train()


@pytest.mark.parametrize("optim", ["lomo", "galore_adamw_layerwise"])
def test_skipping_is_refused_where_backward_passes_take_steps(optim):
    with pytest.raises(ValueError, match=r"skip.*within the backward pass.*on_nonfinite='stop'"):
        built(on_nonfinite="skip", optim=optim, optim_target_modules=["q_proj"])


def test_a_last_update_that_overflows_ends_the_run_with_an_error():
    trainer, plant = built(max_steps=2)
    plant.is_on = False

    def overflow(*_):
        if trainer.state.global_step == 1:
            trainer.model.lm_head.weight.data[0, 0] = torch.inf

    trainer.create_optimizer().register_step_post_hook(overflow)
    with pytest.raises(NonFiniteWeightsError, match=r"lm_head.weight.*optimizer step 2, the last one"):
        trainer.train()
