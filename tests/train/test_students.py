"""Adapters, quantised weights, precisions and heads."""

import pytest
import tiny_models
import torch
from peft import LoraConfig, PromptTuningConfig
from train import parity
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from qtarget.models.loading import causal_lm_from
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


def both(method="sft", *, model=None, changes=None, **kwargs):
    """Our run and TRL's on the same student."""
    parity.skip_where_trl_cannot_train()
    settings = parity.common_args(**{"max_steps": 3, "learning_rate": 0.1, **(changes or {})})
    shared = {"train_dataset": tiny_models.prompt_completion(), "processing_class": tiny_models.tiny_tokenizer()}
    trainers = [
        TargetSFTTrainer(
            (model or tiny_models.tiny_model)(), TargetSFTConfig(method=method, **settings), **shared, **_fresh(kwargs)
        ),
        SFTTrainer((model or tiny_models.tiny_model)(), SFTConfig(**settings), **shared, **_fresh(kwargs)),
    ]
    for trainer in trainers:
        trainer.train()
    return trainers


def _fresh(kwargs):
    return {name: make() for name, make in kwargs.items()}


@pytest.fixture(scope="module")
def vision_checkpoint(tmp_path_factory):
    """A folder with a vision model whose family has a text model too."""
    transformers = pytest.importorskip("transformers.models.qwen3_5")
    text = {
        "vocab_size": tiny_models.VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "layer_types": ["linear_attention", "full_attention"],
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
        **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    torch.manual_seed(0)
    model = transformers.Qwen3_5ForConditionalGeneration(
        transformers.Qwen3_5Config(text_config=text, vision_config=vision)
    )
    folder = tmp_path_factory.mktemp("vision")
    model.save_pretrained(folder)
    tiny_models.tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("given", [{}, {"processing_class": tiny_models.tiny_tokenizer()}], ids=["alone", "tokenizer"])
def test_a_path_to_a_vision_model_is_its_text_model_as_student_and_as_teacher(vision_checkpoint, tmp_path, given):
    trainer = TargetSFTTrainer(
        vision_checkpoint,
        TargetSFTConfig(method="sft", model_init_kwargs={"dtype": "float32"}, **parity.common_args(max_steps=1)),
        train_dataset=tiny_models.token_rows(8),
        **given,
    )
    assert type(causal_lm_from(vision_checkpoint, {})) is type(trainer.model)
    assert type(trainer.model).__name__ == "Qwen3_5ForCausalLM"
    trainer.train()
    trainer.save_model(str(tmp_path))
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again.lm_head.weight, trainer.model.lm_head.weight)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("extra", [{}, {"modules_to_save": ["lm_head"]}], ids=["lora", "lora and head"])
def test_lora_trains_as_in_trl(extra, checkpointing):
    ours, trls = both(
        changes={"gradient_checkpointing": checkpointing}, peft_config=lambda: LoraConfig(**LORA, **extra)
    )
    assert max(parity.deviation(parity.history(ours), parity.history(trls))) < 1e-5
    assert parity.history(ours)["grad_norm"][0] > 0


def test_a_tuned_prompt_keeps_teacher_and_weights_beside_their_tokens():
    """peft puts virtual tokens before each row, which neither the teacher nor the weights know of."""
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="target-sft", **parity.common_args(max_steps=2)),
        train_dataset=tiny_models.token_rows(weights=True),
        processing_class=tiny_models.tiny_tokenizer(),
        teacher=tiny_models.tiny_model(seed=1),
        peft_config=PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    )
    trainer.train()
    assert all(norm > 0 for norm in parity.history(trainer)["grad_norm"])


def test_qlora_trains_as_in_trl_and_its_reference_is_the_model_without_the_adapter(tmp_path):
    from transformers import BitsAndBytesConfig

    tiny_models.tiny_model("llama", width=64).save_pretrained(tmp_path)
    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    ours, trls = both(
        "sft-kl",
        model=lambda: str(tmp_path),
        quantization_config=lambda: quantised,
        peft_config=lambda: LoraConfig(**LORA),
    )
    ours, trls = parity.history(ours), parity.history(trls)
    assert ours["loss"][0] == pytest.approx(trls["loss"][0], rel=1e-5)  # at the reference, no distance yet
    assert ours["grad_norm"][0] == pytest.approx(trls["grad_norm"][0], rel=1e-2)  # adapters are bf16
    assert ours["loss"][2] > trls["loss"][2] + 1e-5


@pytest.mark.parametrize("tied", [False, True])
def test_bf16_autocast_is_near_fp32(tied):
    half, whole = (parity.history(parity.run("dft", tied=tied, max_steps=3, bf16=bf16)) for bf16 in (True, False))
    found = parity.deviation(half, whole)
    assert 1e-7 < found.loss < 2e-2


def test_the_reference_runs_in_the_students_precision():
    """The initial model is its own reference: no distance at the first step, under autocast too."""
    plain, anchored = (parity.history(parity.run(m, max_steps=1, bf16=True)) for m in ("sft", "sft-kl"))
    assert anchored["loss"] == pytest.approx(plain["loss"], rel=1e-6)


def test_weights_wholly_in_bf16_train():
    ours, trls = both(model=lambda: tiny_models.tiny_model().bfloat16(), changes={"bf16": True})
    assert max(parity.deviation(parity.history(ours), parity.history(trls))) < 2e-2


def test_a_trained_model_is_a_plain_model(tmp_path):
    trainer = parity.run("target-sft", max_steps=2)
    trainer.save_model(str(tmp_path))
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, trainer.model.get_parameter(name))
    prompt = {"input_ids": torch.tensor([[7, 8, 9]])}
    ours = trainer.model.generate(**prompt, max_new_tokens=5, do_sample=False)
    assert torch.equal(ours, model.generate(**prompt, max_new_tokens=5, do_sample=False))


def test_no_logits_are_built_in_training(monkeypatch):
    """The output layer itself is never called."""
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="dft", **parity.common_args(max_steps=2)),
        train_dataset=tiny_models.prompt_completion(),
        eval_dataset=tiny_models.prompt_completion(8, 1),
        processing_class=tiny_models.tiny_tokenizer(),
    )
    calls = []
    trainer.model.lm_head.register_forward_hook(lambda *_: calls.append("head"))
    trainer.model.model.register_forward_hook(lambda *_: calls.append("backbone"))
    trainer.train()
    trainer.evaluate()
    assert calls == ["backbone"] * 3
