"""The forward that a model's instance had is kept: other trainers', wrappers of the user's, hooks of accelerate's."""

import copy
import pickle

import pytest
import tiny_models
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from train import parity
from trl import SFTConfig, SFTTrainer

from qtarget.train import TargetSFTConfig, TargetSFTTrainer

IDS = torch.tensor([[5, 6, 7, 8]])


def ours(model, method="sft", **changes):
    return TargetSFTTrainer(model, TargetSFTConfig(method=method, **args(**changes)), **data())


def trls(model, **changes):
    return SFTTrainer(model, SFTConfig(**args(**changes)), **data())


def args(**changes):
    return parity.common_args(max_steps=1, per_device_train_batch_size=4, **changes)


def data():
    rows = {"train_dataset": tiny_models.token_rows(4), "eval_dataset": tiny_models.token_rows(4, 1)}
    return {**rows, "processing_class": tiny_models.tiny_tokenizer()}


def evaluation(trainer):
    return trainer.evaluate()["eval_loss"]


def test_trainers_of_trls_go_on_before_and_after_ours():
    parity.skip_where_trl_cannot_train()
    model = tiny_models.tiny_model()
    trainers = [make(model) for make in (trls, ours, trls, ours)]
    assert [evaluation(each) for each in trainers] == pytest.approx([evaluation(trainers[0])] * 4, rel=1e-5)
    for each in trainers:
        each.train()
    assert [evaluation(each) for each in trainers] == pytest.approx([evaluation(trainers[0])] * 4, rel=1e-5)


def test_two_of_ours_on_one_model_are_two_runs_after_one_another():
    apart = [tiny_models.tiny_model() for _ in range(2)]
    first, second = ours(apart[0]), ours(apart[0], "dft")
    first.train()
    second.train()
    ours(apart[1]).train()
    ours(apart[1], "dft").train()
    assert all(torch.equal(a, b) for a, b in zip(*(model.parameters() for model in apart), strict=True))
    assert "forward" in vars(apart[0])
    assert len(apart[0]._forwards_beneath_targets) == 1  # however many trainers


def counting(model):
    """A user's wrapper around the forward, and how often it was called."""
    calls, before = [], model.forward

    def forward(*args, **kwargs):
        calls.append(kwargs)
        return before(*args, **kwargs)

    model.forward = forward
    return calls


def test_a_wrapper_of_the_users_is_called_as_before():
    model = tiny_models.tiny_model()
    calls = counting(model)
    trainer = ours(model)
    trainer.train()
    calls.clear()
    model(input_ids=IDS)
    assert len(calls) == 1
    trainer.evaluate()
    model.generate(IDS, max_new_tokens=2, do_sample=False)
    assert len(calls) == 3


def test_a_wrapper_put_around_ours_is_called_and_passes_on():
    model = tiny_models.tiny_model()
    first = ours(model)
    calls = counting(model)
    before = evaluation(first)
    assert len(calls) == 1
    assert evaluation(ours(model)) == pytest.approx(before)
    calls.clear()
    model(input_ids=IDS)
    assert len(calls) == 1


class Counting(ModelHook):
    calls = 0

    def pre_forward(self, module, *args, **kwargs):
        self.calls += 1
        return args, kwargs


def test_accelerates_hook_on_the_whole_model_is_kept_in_copies_too():
    model, hook = tiny_models.tiny_model(), Counting()
    add_hook_to_module(model, hook)
    ours(model).train()
    hook.calls = 0
    model(input_ids=IDS)
    assert hook.calls == 1
    twin = copy.deepcopy(model)
    twin(input_ids=IDS)
    assert (hook.calls, twin._hf_hook.calls) == (1, 2)


def zeroed(model):
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    return model


def test_copies_compute_with_their_own_weights():
    model = tiny_models.tiny_model()
    ours(model)
    logits = model(input_ids=IDS).logits
    assert logits.abs().max() > 0
    assert zeroed(copy.deepcopy(model))(input_ids=IDS).logits.abs().max() == 0
    assert torch.equal(pickle.loads(pickle.dumps(model))(input_ids=IDS).logits, logits)
    twin = copy.deepcopy(model)
    assert evaluation(ours(zeroed(twin))) == pytest.approx(torch.tensor(tiny_models.VOCAB).log().item())
    assert torch.equal(model(input_ids=IDS).logits, logits)


@pytest.mark.parametrize("tuning", [LoraConfig(r=2), PromptTuningConfig(num_virtual_tokens=2)])
def test_an_adapters_model_keeps_it_too(tuning):
    tuning.task_type = "CAUSAL_LM"
    model = tiny_models.tiny_model()
    calls = counting(model)
    wrapped = get_peft_model(model, tuning)
    ours(wrapped).train()
    calls.clear()
    wrapped(input_ids=IDS)
    assert len(calls) == 1


def test_the_model_may_be_used_and_saved_after_training(tmp_path):
    model = tiny_models.tiny_model()
    ours(model).train()
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    torch.testing.assert_close(again(input_ids=IDS).logits, model(input_ids=IDS).logits)
    out = model(input_ids=IDS, labels=IDS)
    torch.testing.assert_close(out.loss, again(input_ids=IDS, labels=IDS).loss)
