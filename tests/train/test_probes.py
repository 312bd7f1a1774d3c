"""What is private in TRL and transformers is tried when a trainer is built: what moved is refused in words."""

import pytest
import tiny_models
from train import parity
from transformers import Trainer
from trl import SFTTrainer

from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.probes import HOOKS, STATE_KINDS


def build():
    return TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft", **parity.common_args()),
        train_dataset=tiny_models.token_rows(2),
        processing_class=tiny_models.tiny_tokenizer(),
    )


def refused():
    with pytest.raises(ImportError) as error:
        build()
    message = str(error.value)
    assert "Found transformers " in message
    assert "qtarget.train is tested with transformers 5.10.4 to 5.24 and trl 1.15 to 1.16" in message
    assert message.endswith("Write: pip install 'transformers>=5.10.4,<5.25' 'trl>=1.15,<1.17'")
    return message


@pytest.mark.parametrize("hook", HOOKS, ids=[hook.name for hook in HOOKS])
def test_a_method_with_other_parameters_is_refused(monkeypatch, hook):
    monkeypatch.setattr(hook.owner, hook.name, lambda self, other: None)
    names = ", ".join(hook.parameters)
    assert f"{hook.owner.__name__}.{hook.name} takes (other), not ({names})" in refused()


def test_a_method_that_is_gone_is_refused(monkeypatch):
    monkeypatch.delattr(Trainer, "_init_training_state")
    assert "these moved: Trainer._init_training_state is gone." in refused()


@pytest.mark.parametrize("name", STATE_KINDS)
def test_state_of_another_kind_is_refused(monkeypatch, name):
    """As if TRL had kept something else under the name, or renamed it."""
    build_by_trl = SFTTrainer.__init__

    def changed(self, *args, **kwargs):
        build_by_trl(self, *args, **kwargs)
        setattr(self, name, (lambda: 0) if name == "get_tp_size" else ...)

    monkeypatch.setattr(SFTTrainer, "__init__", changed)
    assert f"a trainer's `{name}` is " in refused()


def test_state_that_is_gone_is_refused(monkeypatch):
    build_by_trl = SFTTrainer.__init__

    def changed(self, *args, **kwargs):
        build_by_trl(self, *args, **kwargs)
        del self._tokenizer, self.aux_loss_enabled

    monkeypatch.setattr(SFTTrainer, "__init__", changed)
    assert "a trainer has no `_tokenizer`; a trainer has no `aux_loss_enabled`" in refused()


def test_labels_that_are_counted_otherwise_are_refused(monkeypatch):
    def every_label(self, batch_samples, device):
        return sum(int((batch["labels"] != -100).sum()) for batch in batch_samples)

    monkeypatch.setattr(Trainer, "_get_num_items_in_batch", every_label)
    assert "6 labels of two batches are counted as 10" in refused()


def test_a_loop_that_scales_the_loss_itself_is_refused(monkeypatch):
    monkeypatch.setattr(Trainer, "_run_epoch", lambda self: None)
    assert "Trainer._run_epoch uses no `current_gradient_accumulation_steps`" in refused()
