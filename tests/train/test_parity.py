"""The same run as TRL's, and the same run cut up another way, step by step."""

import pytest
import tiny_models
from train import parity

BOUND = 1e-5


def assert_close(found: parity.Deviation):
    assert max(found) < BOUND, found


@pytest.mark.parametrize("method", ["sft", "dft"])
def test_twenty_steps_equal_trls_own(method):
    assert_close(parity.against_trl(method))


@pytest.mark.failure_case(4)
@pytest.mark.parametrize("method", ["sft", "dft", "target-sft"])
def test_a_batch_of_8_is_2x4_is_1x8(method):
    assert_close(parity.accumulation(method, steps=3))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_families_tied_heads_and_checkpointing(family, tied):
    """Mixtral adds its load-balancing loss, with accumulation too."""
    changes = {"max_steps": 3, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    assert_close(parity.against_trl("dft", family=family, tied=tied, gradient_checkpointing=True, **changes))


FORMS = {
    "prompt-completion": (tiny_models.prompt_completion, {}),
    "whole prompt-completion": (tiny_models.prompt_completion, {"completion_only_loss": False}),
    "messages": (tiny_models.messages, {}),
    "assistant only": (tiny_models.messages, {"assistant_only_loss": True}),
    "text": (tiny_models.plain_text, {}),
    "tokens": (tiny_models.token_rows, {}),
}
LAYOUTS = {
    "padded": {},
    "truncated": {"max_length": 8},
    "bfd": {"packing": True, "max_length": 24},
    "bfd_split": {"packing": True, "packing_strategy": "bfd_split", "max_length": 12},
    "wrapped": {"packing": True, "packing_strategy": "wrapped", "max_length": 24},
    "padding-free": {"padding_free": True, "max_length": None},
}
PAIRS = [(form, "padded") for form in FORMS] + [("assistant only", layout) for layout in LAYOUTS if layout != "padded"]


@pytest.mark.parametrize(("form", "layout"), PAIRS)
def test_every_form_and_layout_trains_as_in_trl(form, layout):
    make, own = FORMS[form]
    changes = {"max_steps": 2, "per_device_train_batch_size": 3, **own, **LAYOUTS[layout]}
    assert_close(parity.against_trl("sft", data=make(12), **changes))


@pytest.mark.failure_case(5)
@pytest.mark.parametrize("method", ["target-sft", "iw-sft", "sft-kl", "psft"])
def test_packed_equals_padded(method):
    """One step over all rows; iw-sft weighs whole sequences, so its document boundaries matter."""
    rows = tiny_models.prompt_completion(6)
    whole = {"max_steps": 2, "num_train_epochs": 2, "per_device_train_batch_size": 6, "learning_rate": 0.3}
    padded = parity.history(parity.run(method, data=rows, **whole))
    for layout in ("bfd", "padding-free"):
        laid = parity.history(parity.run(method, data=rows, **whole, **LAYOUTS[layout]))
        assert_close(parity.deviation(laid, padded))


def test_accumulation_holds_for_models_that_take_no_label_count(monkeypatch):
    """The Trainer would count no labels for them, and each micro-batch would be a mean of its own."""
    monkeypatch.setattr("transformers.Qwen2ForCausalLM.accepts_loss_kwargs", False, raising=False)
    assert_close(parity.accumulation("sft", steps=2))
