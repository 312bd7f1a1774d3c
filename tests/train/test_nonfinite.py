"""A loss that is not finite stops training before it reaches the weights."""

import pytest
import tiny_models
import torch
from train import parity

from qtarget.teacher import LiveModel
from qtarget.train import NonFiniteLossError, TargetSFTConfig, TargetSFTTrainer


class BrokenOnce:
    """A teacher that says NaN about the rows that hold a word, from its third batch on."""

    def __init__(self, word: str):
        self.model, self.calls = LiveModel(tiny_models.tiny_model(seed=1)), 0
        self.token = tiny_models.tiny_tokenizer().convert_tokens_to_ids(word)

    def evidence(self, inputs, labels):
        evidence, self.calls = self.model.evidence(inputs, labels), self.calls + 1
        if self.calls >= 3:
            evidence.hidden[(inputs["input_ids"] == self.token)] = torch.nan
        return evidence


@pytest.mark.parametrize("layout", [{}, {"padding_free": True, "max_length": None}], ids=["padded", "padding-free"])
def test_training_stops_with_step_and_rows_and_the_last_good_weights(layout, tmp_path):
    rows = tiny_models.prompt_completion(4)
    rows = rows.map(lambda row, i: {"completion": "w0 w94" if i == 2 else "w1 w2"}, with_indices=True)
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(
            method="target-sft", **parity.common_args(max_steps=4, per_device_train_batch_size=4, **layout)
        ),
        train_dataset=rows.filter(lambda row: "w94" not in row["prompt"]),
        processing_class=tiny_models.tiny_tokenizer(),
        teacher=BrokenOnce("w94"),
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
