"""A loss that is not finite stops training before it reaches the weights."""

from types import SimpleNamespace

import pytest
import tiny_models
import torch
from accelerate.utils import DistributedType
from train import parity

from qtarget.data import Asker
from qtarget.teacher import LiveModel
from qtarget.train import NonFiniteLossError, TargetSFTConfig, TargetSFTTrainer
from qtarget.train.nonfinite import FiniteStepCheck
from qtarget.train.nonfinite_rows import MicroBatch


class BrokenOnce:
    """A teacher that says NaN about the rows that hold a word, from its third optimizer step on."""

    def __init__(self, word: str, batches_a_step: int = 1):
        self.model, self.calls = LiveModel(tiny_models.tiny_model(seed=1)), 0
        self.first = 2 * batches_a_step + 1
        self.token = tiny_models.tiny_tokenizer().convert_tokens_to_ids(word)

    def evidence(self, inputs, labels):
        evidence, self.calls = self.model.evidence(inputs, labels), self.calls + 1
        if self.calls >= self.first:
            evidence.hidden[(inputs["input_ids"] == self.token)] = torch.nan
        return evidence


ACCUMULATED = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}


@pytest.mark.failure_case(3)
@pytest.mark.parametrize(
    "layout", [{}, {"padding_free": True, "max_length": None}, ACCUMULATED], ids=["padded", "padding-free", "four"]
)
def test_training_stops_with_step_and_rows_and_the_last_good_weights(layout, tmp_path):
    rows = tiny_models.prompt_completion(4)
    rows = rows.map(lambda row, i: {"completion": "w0 w94" if i == 2 else "w1 w2"}, with_indices=True)
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(
            method="target-sft", **parity.common_args(**{"max_steps": 4, "per_device_train_batch_size": 4, **layout})
        ),
        train_dataset=rows.filter(lambda row: "w94" not in row["prompt"]),
        processing_class=tiny_models.tiny_tokenizer(),
        teacher=BrokenOnce("w94", layout.get("gradient_accumulation_steps", 1)),
    )
    kept = {}

    def keep_weights(*_):
        kept.update({name: weight.detach().clone() for name, weight in trainer.model.named_parameters()})

    trainer.create_optimizer().register_step_post_hook(keep_weights)
    with pytest.raises(NonFiniteLossError, match=r"optimizer step 3 is not finite.*row \d \('.*w94.*after step 2"):
        trainer.train()
    assert trainer.state.global_step == 2
    for name, weight in trainer.model.named_parameters():
        assert torch.equal(weight, kept[name])
        assert weight.isfinite().all()
    assert [entry["step"] for entry in trainer.state.log_history] == [1, 2]
    assert all(entry["loss"] > 0 for entry in trainer.state.log_history)


def one_step_taught_by(teacher) -> TargetSFTTrainer:
    """A run of one step, of several micro-batches."""
    return TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="target-sft", **parity.common_args(max_steps=1, **ACCUMULATED)),
        train_dataset=tiny_models.prompt_completion(4),
        processing_class=tiny_models.tiny_tokenizer(),
        teacher=teacher,
    )


def test_the_micro_batch_is_named_and_a_run_after_it_starts_afresh():
    trainer = one_step_taught_by(BrokenSecond())
    with pytest.raises(NonFiniteLossError, match=r"rank 0 has nan, from row 1 \(.*micro-batch 2 of 4"):
        trainer.train()
    trainer.train()
    assert trainer.state.global_step == 1
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())


def test_a_run_that_was_broken_off_leaves_nothing_behind():
    """Interrupted after a micro-batch of NaN that nobody had looked at yet."""
    teacher = Interrupting()
    trainer = one_step_taught_by(teacher)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.train()
    assert trainer.state.global_step == 1


class BrokenSecond:
    """A teacher that says NaN about one batch, its second, and again when it is asked which row that was."""

    def __init__(self):
        self.model, self.batches, self.broken = LiveModel(tiny_models.tiny_model(seed=1)), 0, None

    def evidence(self, inputs, labels):
        evidence, self.batches = self.model.evidence(inputs, labels), self.batches + 1
        if self.batches == 2:
            self.broken = inputs["input_ids"]
        if self.batches <= 5 and self.broken is inputs["input_ids"]:
            evidence.hidden[0] = torch.nan
        return evidence


class Interrupting:
    """A teacher that says NaN about its first batch and is interrupted at its second."""

    def __init__(self):
        self.model, self.batches = LiveModel(tiny_models.tiny_model(seed=1)), 0

    def evidence(self, inputs, labels):
        evidence, self.batches = self.model.evidence(inputs, labels), self.batches + 1
        if self.batches == 1:
            evidence.hidden[0] = torch.nan
        if self.batches == 2:
            raise KeyboardInterrupt
        return evidence


@pytest.mark.parametrize(("steps_each_time", "read"), [(True, 1), (False, 0)])
def test_an_optimizer_that_steps_in_every_backward_pass_has_every_loss_read_before_it(steps_each_time, read):
    """LOMO, accumulating: there is no later moment at which the weights are still untouched."""
    gathered = []
    accelerator = SimpleNamespace(
        sync_gradients=False,
        has_lomo_optimizer=steps_each_time,
        distributed_type=DistributedType.NO,
        gather=lambda flag: gathered.append(flag) or flag,
    )
    args = SimpleNamespace(optim="adamw_torch")
    check = FiniteStepCheck(SimpleNamespace(accelerator=accelerator, args=args))
    check.add(MicroBatch(torch.tensor(1.0), {}, {}))
    assert len(gathered) == read
    assert len(check.unread) == 1 - read


@pytest.mark.failure_case(3)
def test_a_label_of_probability_zero_stops_training_though_its_loss_is_a_number():
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft", **parity.common_args(max_steps=2)),
        train_dataset=tiny_models.prompt_completion(4).map(lambda row: {"completion": "w94 w1"}),
        processing_class=tiny_models.tiny_tokenizer(),
    )
    bias = torch.zeros(tiny_models.VOCAB)
    bias[trainer.text_tokenizer.convert_tokens_to_ids("w94")] = -1e30
    trainer.model.lm_head.bias = torch.nn.Parameter(bias)
    before = trainer.model.lm_head.weight.detach().clone()
    with pytest.raises(NonFiniteLossError, match=r"step 1 is that of a probability of zero .*row 1 \('"):
        trainer.train()
    assert torch.equal(trainer.model.lm_head.weight, before)


@pytest.mark.parametrize(("bias", "kind"), [(-1e30, "that of a probability of zero"), (torch.nan, "not finite")])
def test_an_evaluation_at_an_impossible_label_says_so(bias, kind):
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft", **parity.common_args(per_device_eval_batch_size=1)),
        train_dataset=tiny_models.prompt_completion(4),
        eval_dataset=tiny_models.prompt_completion(4).map(
            lambda row, i: {"completion": "w94 w1" if i == 1 else "w1"}, with_indices=True
        ),
        processing_class=tiny_models.tiny_tokenizer(),
    )
    weights = torch.zeros(tiny_models.VOCAB)
    weights[trainer.text_tokenizer.convert_tokens_to_ids("w94")] = bias
    trainer.model.lm_head.bias = torch.nn.Parameter(weights)
    with pytest.warns(UserWarning, match=f"as that of .* % of the batches is {kind}"):
        metrics = trainer.evaluate()
    assert "eval_unsound" not in metrics


def test_a_loss_scaler_that_takes_no_step_any_more_ends_the_run():
    accelerator = SimpleNamespace(scaler=object(), optimizer_step_was_skipped=True)
    trainer = SimpleNamespace(accelerator=accelerator, asker=Asker.PYTHON, take_steps=lambda: None)
    check, state = FiniteStepCheck(trainer), SimpleNamespace(global_step=7)
    for skipped in [*[True] * 40, False, *[True] * 40]:
        accelerator.optimizer_step_was_skipped = skipped
        check.on_optimizer_step(None, state, None)
    with pytest.raises(NonFiniteLossError, match="41 optimizer steps in a row"):
        check.on_optimizer_step(None, state, None)
