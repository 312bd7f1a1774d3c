"""A LoRA adapter as teacher: on the student's own base, or as a model of its own."""

import pytest
import tiny_models
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from train import parity
from transformers import AutoModelForCausalLM

from qtarget.teacher import LiveModel, SecondAdapter
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
OWN_MODEL = {"teacher_init_kwargs": {"attn_implementation": "sdpa"}}
"""Says how the teacher is to be loaded, so it is loaded on a base of its own."""


def save_base_and_adapter(folder):
    """A base with its tokenizer, and an adapter of another rank, on other layers, with dropout."""
    tiny_models.tiny_model().save_pretrained(folder / "base")
    tiny_models.tiny_tokenizer().save_pretrained(folder / "base")
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    torch.manual_seed(5)
    layers = ["k_proj", "v_proj", "up_proj"]
    config = LoraConfig(r=8, target_modules=layers, init_lora_weights=False, lora_dropout=0.5)
    get_peft_model(base, config).save_pretrained(folder / "adapter")
    return str(folder / "base"), str(folder / "adapter")


def built(base, adapter, method="target-sft", peft=None, **changes):
    given = {"reference" if method == "sft-kl" else "teacher": adapter}
    settings = {"max_steps": 4, "learning_rate": 0.5, **given, **changes}
    return TargetSFTTrainer(
        base,
        TargetSFTConfig(method=method, **parity.common_args(**settings)),
        train_dataset=tiny_models.prompt_completion(32),
        processing_class=tiny_models.tiny_tokenizer(),
        peft_config=LoraConfig(**LORA, **(peft or {})),
    )


def ran(*args, **kwargs):
    trainer = built(*args, **kwargs)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_base_and_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        {"gradient_checkpointing": True},
        {"peft": {"modules_to_save": ["lm_head"]}},
    ],
    ids=["plain", "accumulation", "checkpointing", "head trained"],
)
def test_on_the_students_base_it_says_what_it_says_on_its_own(folders, changes):
    shared, apart = ran(*folders, **changes), ran(*folders, **changes, **OWN_MODEL)
    assert isinstance(shared.teachers[0], SecondAdapter)
    assert isinstance(apart.teachers[0], LiveModel)
    assert max(parity.deviation(parity.history(shared), parity.history(apart))) < 1e-5


def test_it_is_a_reference_too(folders):
    shared = ran(*folders, method="sft-kl")
    apart = ran(*folders, method="sft-kl", reference_init_kwargs=OWN_MODEL["teacher_init_kwargs"])
    assert isinstance(shared.reference, SecondAdapter)
    assert max(parity.deviation(parity.history(shared), parity.history(apart))) < 1e-5


def test_the_students_adapter_alone_is_trained_and_saved_and_resumes(folders, tmp_path):
    changes = {"save_strategy": "steps", "save_steps": 2, "output_dir": str(tmp_path)}
    trainer = built(*folders, **changes)
    next(w for name, w in trainer.model.named_parameters() if "lora_A.default" in name).requires_grad_(False)
    before = {name: (weight.requires_grad, weight.clone()) for name, weight in trainer.model.named_parameters()}
    trainer.train()
    trained = {name for name, (flag, _) in before.items() if flag}
    assert all("default" in name for name in trained)
    for name, weight in trainer.model.named_parameters():
        assert weight.requires_grad == before[name][0]
        assert torch.equal(weight, before[name][1]) != (name in trained)
    assert trainer.model.active_adapter == "default"
    saved = load_file(tmp_path / "checkpoint-2" / "adapter_model.safetensors")
    assert len(saved) == len(trained) + 1
    assert not [path for path in (tmp_path / "checkpoint-2").iterdir() if path.is_dir()]
    again = built(*folders, **changes)
    next(w for name, w in again.model.named_parameters() if "lora_A.default" in name).requires_grad_(False)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert parity.history(again)["loss"] == parity.history(trainer)["loss"]


def test_a_student_without_an_adapter_gets_a_model_of_its_own(folders):
    base, adapter = folders
    trainer = TargetSFTTrainer(
        base,
        TargetSFTConfig(method="target-sft", teacher=adapter, **parity.common_args(max_steps=1)),
        train_dataset=tiny_models.prompt_completion(32),
        processing_class=tiny_models.tiny_tokenizer(),
    )
    ids = torch.arange(5, 25)[None]
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload()
    hidden = trainer.teachers[0].evidence({"input_ids": ids}).hidden
    torch.testing.assert_close(hidden, merged.eval().model(input_ids=ids).last_hidden_state, rtol=1e-4, atol=1e-5)
    assert not any(weight.requires_grad for weight in trainer.teachers[0].model.parameters())


def test_an_adapter_whose_start_changes_the_base_does_not_share_it(folders):
    trainer = built(*folders, peft={"init_lora_weights": "olora"})
    assert isinstance(trainer.teachers[0], LiveModel)
