"""The reference: initial model, adapter switched off, another model, or a snapshot that follows the student."""

import pytest
import tiny_models
import torch
from peft import LoraConfig
from train import parity
from transformers import TrainerCallback

import qtarget as qt
from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.forward import TargetCall, add_target_loss
from qtarget.train.reference import SNAPSHOT_FILE, Snapshot

LORA = {"r": 4, "lora_alpha": 64, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


def build(method, *, reference=None, peft=None, callbacks=None, **changes):
    settings = {"max_steps": 4, "learning_rate": 0.1, **changes}
    return TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method=method, **parity.common_args(**settings)),
        train_dataset=tiny_models.prompt_completion(32),
        processing_class=tiny_models.tiny_tokenizer(),
        peft_config=None if peft is None else LoraConfig(**LORA, **peft),
        reference=reference,
        callbacks=callbacks,
    )


def ran(method, **kwargs):
    trainer = build(method, **kwargs)
    trainer.train()
    return parity.history(trainer)


@pytest.fixture(scope="module")
def full():
    return {method: ran(method) for method in ("sft", "sft-kl")}


def test_the_initial_model_is_the_reference_and_stays(full):
    trainer = build("sft-kl")
    trainer.train()
    initial = tiny_models.tiny_model()
    for name, weight in trainer.reference.model.named_parameters():
        assert torch.equal(weight, initial.get_parameter(name))
    assert full["sft-kl"]["loss"][0] == pytest.approx(full["sft"]["loss"][0], rel=1e-5)  # no distance yet
    assert full["sft-kl"]["loss"][3] > full["sft"]["loss"][3] + 1e-4


def test_a_model_and_a_path_say_the_same(full, tmp_path):
    assert parity.deviation(ran("sft-kl", reference=tiny_models.tiny_model()), full["sft-kl"]) < (1e-6, 1e-6)
    tiny_models.tiny_model().save_pretrained(tmp_path)
    tiny_models.tiny_tokenizer().save_pretrained(tmp_path)
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft-kl", reference=str(tmp_path), **parity.common_args(max_steps=4, learning_rate=0.1)),
        train_dataset=tiny_models.prompt_completion(32),
        processing_class=tiny_models.tiny_tokenizer(),
    )
    trainer.train()
    assert max(parity.deviation(parity.history(trainer), full["sft-kl"])) < 1e-6


@pytest.mark.parametrize("peft", [{}, {"modules_to_save": ["lm_head"]}], ids=["lora", "lora and head"])
def test_with_an_adapter_the_reference_is_the_model_without_it(peft):
    own = ran("sft-kl", peft=peft, learning_rate=1.0)
    given = ran("sft-kl", peft=peft, learning_rate=1.0, reference=tiny_models.tiny_model())
    plain = ran("sft", peft=peft, learning_rate=1.0)
    assert max(parity.deviation(own, given)) < 1e-5
    assert own["loss"][3] > plain["loss"][3] + 1e-4  # the adapter has moved away from the reference


class Watch(TrainerCallback):
    """Keeps what a snapshot is, relative to the student, after each step."""

    def __init__(self):
        self.distances, self.trainer = [], None

    def on_step_end(self, args, state, control, **kwargs):
        pairs = self.trainer.model.named_parameters()
        self.distances.append(
            max(float((weight.detach() - self.trainer.reference.weights[name]).abs().max()) for name, weight in pairs)
        )


def watched(**kwargs):
    watch = Watch()
    trainer = build("psft", method_kwargs={"refresh_every": 2}, **kwargs)
    trainer.add_callback(watch)  # after the trainer's own refresh
    watch.trainer = trainer
    trainer.train()
    return trainer, watch.distances


@pytest.mark.parametrize("accumulation", [1, 2])
def test_psfts_snapshot_follows_every_so_many_optimizer_steps(accumulation):
    _, distances = watched(per_device_train_batch_size=4, gradient_accumulation_steps=accumulation)
    assert [distance == 0 for distance in distances] == [False, True, False, True]


def test_psfts_ratio_is_one_just_after_a_refresh():
    """Its loss is minus the mean ratio to the snapshot: -1 on-policy, a step later something else."""
    trainer, _ = watched()
    losses = parity.history(trainer)["loss"]
    assert losses[0::2] == pytest.approx([-1, -1], abs=1e-5)
    assert all(abs(loss + 1) > 1e-3 for loss in losses[1::2])


def test_an_impossible_label_has_its_log_probability_too():
    """Of e^-100, which single precision has no number for: on-policy the ratio to the snapshot is 1 there as well."""
    model = tiny_models.tiny_model()
    with torch.no_grad():
        model.lm_head.weight.mul_(1e4)
    add_target_loss(model)
    ids = torch.arange(5, 25).view(2, 10)
    evidence = Snapshot(model, every=1).evidence({"input_ids": ids}, ids)
    with torch.no_grad():
        logp = model(input_ids=ids).logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
    assert logp.min() < -100
    torch.testing.assert_close(evidence.logprobs[:, :-1], logp, rtol=1e-5, atol=1e-3)
    call = TargetCall(qt.method("psft"), reference=evidence, diagnostics=("trust",))
    trust = model(input_ids=ids, labels=ids, q_target=call).diagnostics["trust"]
    torch.testing.assert_close(trust, torch.ones_like(trust))


def test_a_snapshot_is_put_in_place_and_taken_out():
    model = tiny_models.tiny_model()
    snapshot = Snapshot(model, every=1)
    before = model.lm_head.weight.detach().clone()
    with torch.no_grad():
        model.lm_head.weight.add_(1)
    with snapshot.in_place():
        assert torch.equal(model.lm_head.weight, before)
    assert torch.equal(model.lm_head.weight, before + 1)
    assert torch.equal(snapshot.weights["lm_head.weight"], before)


def test_psft_resumes_bit_for_bit(tmp_path):
    """Saved at step 3, a step after the refresh: the snapshot differs from the student, and must come back."""
    changes = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "method_kwargs": {"refresh_every": 2}}
    changes |= {"optim": "adamw_torch", "learning_rate": 1e-2, "output_dir": str(tmp_path)}
    whole = build("psft", **changes)
    whole.train()
    again = build("psft", **changes)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert parity.history(again) == parity.history(whole)
    for one, two in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)
    (tmp_path / "checkpoint-3" / SNAPSHOT_FILE).unlink()
    with pytest.raises(ValueError, match=SNAPSHOT_FILE):
        build("psft", **changes).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_with_an_adapter_a_snapshot_holds_the_adapter_only():
    trainer = build("psft", peft={}, max_steps=2)
    trainer.train()
    assert all("lora_" in name for name in trainer.reference.weights)
