"""A run goes on under the model, teacher and reference that it began with: all of their weights and configurations."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from peft import LoraConfig
from train import parity
from transformers import AutoModelForCausalLM

from qtarget.disk.files import write_digested_json
from qtarget.disk.seal import SEAL
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

WIDE = {"width": 96}
"""So that a matrix has more elements than were once looked at."""


def trainer(folder: Path, model: Any = None, teacher: Any = None, changed: tuple[str, ...] = (), **given):
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "learning_rate": 0.1}
    return TargetSFTTrainer(
        model or tiny_models.tiny_model(**WIDE),
        TargetSFTConfig(
            method="target-sft" if teacher is not None else "sft",
            resume_changed=list(changed),
            **({"method_kwargs": {"eta": 0.3}} if teacher is not None else {}),
            **parity.common_args(output_dir=str(folder), per_device_train_batch_size=2, **settings),
        ),
        train_dataset=tiny_models.token_rows(4),
        processing_class=tiny_models.tiny_tokenizer(),
        **({"teacher": teacher} if teacher is not None else {}),
        **given,
    )


def changed_model(change: str, **config) -> Any:
    """A model, with one number of it or of its configuration changed."""
    model = tiny_models.tiny_model(**WIDE, **config)
    if change == "element":
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight.view(-1)[1] += 100
    return model


CONFIGS = [
    (
        {"rope_parameters": {"rope_theta": 100.0, "rope_type": "default"}},
        'rope_parameters.rope_theta: 10000.0 then, 100.0 now; write "rope_parameters.rope_theta": 10000.0',
    ),
    ({"rms_norm_eps": 0.3}, 'rms_norm_eps: 1e-06 then, 0.3 now; write "rms_norm_eps": 1e-06'),
    ({"attention_dropout": 0.5}, 'attention_dropout: 0.0 then, 0.5 now; write "attention_dropout": 0.0'),
    ({"hidden_act": "gelu"}, 'hidden_act: silu then, gelu now; write "hidden_act": "silu"'),
]


def go_on(folder: Path, **given) -> None:
    trainer(folder, **given).train(resume_from_checkpoint=str(folder / "checkpoint-1"))


@pytest.mark.failure_case(24)
def test_another_configuration_of_the_model_or_the_teacher_is_refused_with_the_line_that_undoes_it(tmp_path):
    trainer(tmp_path, teacher=tiny_models.tiny_model(seed=3)).train()
    for config, told in CONFIGS:
        with pytest.raises(ValueError, match="of another run") as refused:
            go_on(tmp_path, model=changed_model("", **config), teacher=tiny_models.tiny_model(seed=3))
        assert f"  model_config.{told} into the model's config.json" in str(refused.value)
        with pytest.raises(ValueError, match="of another run") as refused:
            go_on(tmp_path, teacher=tiny_models.tiny_model(seed=3, **config))
        assert f"  teacher_configs.0.{told} into the teacher's config.json" in str(refused.value)
    go_on(tmp_path, model=changed_model("", use_cache=False), teacher=tiny_models.tiny_model(seed=3, use_cache=False))


@pytest.mark.failure_case(24)
def test_how_many_tokens_a_teacher_has_is_compared(tmp_path):
    """A tokenizer beside it says so, and the rows of its output layer behind them get no mass."""
    wide, folder = tiny_models.VOCAB + 28, tmp_path / "teacher"
    tiny_models.tiny_model(seed=3, vocab=wide).save_pretrained(folder)

    def given():
        model = tiny_models.tiny_model(vocab=wide, **WIDE)
        return {"model": model, "teacher": AutoModelForCausalLM.from_pretrained(folder)}

    trainer(tmp_path, **given()).train()
    tiny_models.tiny_tokenizer().save_pretrained(folder)
    with pytest.raises(
        ValueError, match=r"teachers.0: a model, sha256 \w{12} \(of 128 tokens\) then, .* \(of 100 tokens\)"
    ):
        go_on(tmp_path, **given())


@pytest.mark.failure_case(24)
def test_one_element_of_a_teacher_or_of_an_adapters_base_is_refused(tmp_path):
    teacher = {"peft_config": LoraConfig(target_modules="all-linear")}
    trainer(tmp_path, teacher=changed_model(""), **teacher).train()
    with pytest.raises(ValueError, match=r"teachers.0: a model, sha256 .*; give as `teacher` what was given then"):
        go_on(tmp_path, teacher=changed_model("element"), **teacher)
    with pytest.raises(ValueError, match=r"weights: sha256 .*; give as `model` what was given then"):
        go_on(tmp_path, model=changed_model("element"), teacher=changed_model(""), **teacher)
    go_on(tmp_path, teacher=changed_model(""), **teacher)
    go_on(tmp_path, teacher=changed_model("element"), changed=("teachers",), **teacher)


def test_a_checkpoint_of_before_is_gone_on_from_and_what_is_not_compared_is_said(tmp_path):
    """Earlier versions wrote a sample of the weights, and no configuration."""
    trainer(tmp_path, teacher=changed_model("")).train()
    path = tmp_path / "checkpoint-1" / SEAL
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for part in manifest["facts"]["history"]:
        for name in ("model_config", "teacher_configs", "reference_config"):
            del part["identity"][name]
        part["identity"].update(weights=64 * "0", teachers={"0": f"a model, {64 * '1'}"})
    write_digested_json(path, {name: value for name, value in manifest.items() if name != "content_sha256"})
    with pytest.warns(UserWarning, match=r"weights \(an earlier .*teachers \(an.*model_config \(.*teacher_configs \("):
        go_on(tmp_path, teacher=changed_model(""))
