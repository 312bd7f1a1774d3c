"""`qtarget merge`: one sealed model that says what the adapter on its base says."""

import json
from pathlib import Path

import pytest
import torch
from job.command import run as command
from job.directories import model_directory
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from qtarget.disk.seal import damage, read_seal
from qtarget.models.loading import causal_lm_from

IDS = torch.arange(5, 25)[None]


def adapter_on(base: Path, folder: Path, **options) -> Path:
    """An adapter with random weights of its own, as training leaves it."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(base)
    config = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, "task_type": "CAUSAL_LM", **options}
    get_peft_model(model, LoraConfig(**config)).save_pretrained(folder)
    return folder


@torch.no_grad()
def logits(folder: Path) -> torch.Tensor:
    return causal_lm_from(str(folder), {"dtype": torch.float32}).eval()(IDS).logits


@torch.no_grad()
def adapted_logits(base: Path, adapter: Path) -> torch.Tensor:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()(IDS).logits


@pytest.fixture
def base(tmp_path) -> Path:
    return Path(model_directory(tmp_path / "base", "llama"))


def test_the_merged_model_says_what_the_adapter_said(base, tmp_path, capsys):
    adapter = adapter_on(base, tmp_path / "adapter")
    out = tmp_path / "deep" / "merged"
    said = command(capsys, "merge", str(adapter), "--out", str(out), "--json")
    assert said.code == 0, said.err
    probe = json.loads(said.out)
    assert torch.allclose(logits(out), adapted_logits(base, adapter), atol=1e-4)
    assert not torch.allclose(logits(out), logits(base), atol=1e-2)
    assert probe["difference"] < 1e-4 < probe["moved"]
    assert not (out / "adapter_config.json").exists()
    sealed = read_seal(out)
    assert (damage(out, sealed), sealed.facts["merged"]["adapter"]) == ([], str(adapter))
    assert AutoTokenizer.from_pretrained(out).get_vocab() == AutoTokenizer.from_pretrained(base).get_vocab()
    assert AutoTokenizer.from_pretrained(out).chat_template == AutoTokenizer.from_pretrained(base).chat_template
    card = (out / "README.md").read_text(encoding="utf-8")
    assert str(adapter) in card
    assert "at most" in card
    assert [path.name for path in out.parent.iterdir()] == ["merged"]


def test_in_words(base, tmp_path, capsys):
    adapter = adapter_on(base, tmp_path / "adapter")
    said = command(capsys, "merge", str(adapter), "--out", str(tmp_path / "merged"))
    assert "The largest difference of a logit is" in said.out


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"use_rslora": True, "lora_alpha": 64},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6]},
    ],
)
@pytest.mark.parametrize("tied", [False, True])
def test_every_kind_of_lora_on_tied_and_other_output_layers(tmp_path, capsys, options, tied):
    base = Path(model_directory(tmp_path / "base", "llama", tied=tied))
    adapter = adapter_on(base, tmp_path / "adapter", **options)
    out = tmp_path / "merged"
    said = command(capsys, "merge", str(adapter), "--out", str(out))
    assert said.code == 0, said.err
    assert torch.allclose(logits(out), adapted_logits(base, adapter), atol=1e-3)


def test_narrow_weights_stay_narrow(tmp_path, capsys):
    base = Path(model_directory(tmp_path / "base", "llama"))
    AutoModelForCausalLM.from_pretrained(base).to(torch.bfloat16).save_pretrained(base)
    adapter = adapter_on(base, tmp_path / "adapter")
    out = tmp_path / "merged"
    assert command(capsys, "merge", str(adapter), "--out", str(out)).code == 0
    merged = causal_lm_from(str(out), {"dtype": "auto"})
    assert {weight.dtype for weight in merged.parameters()} == {torch.bfloat16}


def test_the_tokenizer_and_its_end_are_those_of_training(base, tmp_path, capsys):
    adapter = adapter_on(base, tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token = "<user>"
    tokenizer.save_pretrained(adapter)
    out = tmp_path / "merged"
    assert command(capsys, "merge", str(adapter), "--out", str(out)).code == 0
    assert AutoTokenizer.from_pretrained(out).eos_token == "<user>"
    ends = json.loads((out / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    assert tokenizer.convert_tokens_to_ids("<user>") in (ends if isinstance(ends, list) else [ends])


def test_a_base_that_moved_is_named(base, tmp_path, capsys):
    adapter = adapter_on(base, tmp_path / "adapter")
    moved = base.rename(tmp_path / "moved")
    out = tmp_path / "merged"
    said = command(capsys, "merge", str(adapter), "--out", str(out))
    assert (said.code, "--base FOLDER" in said.err, out.exists()) == (2, True, False)
    assert command(capsys, "merge", str(adapter), "--out", str(out), "--base", str(moved)).code == 0


def test_what_cannot_be_merged_is_refused_before_the_work(base, tmp_path, capsys):
    adapter = adapter_on(base, tmp_path / "adapter")
    (tmp_path / "there").mkdir()
    quantised = Path(model_directory(tmp_path / "quantised", "llama"))
    config = json.loads((quantised / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (quantised / "config.json").write_text(json.dumps(config), encoding="utf-8")
    prompt = tmp_path / "prompt"
    tuning = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), tuning).save_pretrained(prompt)
    out = str(tmp_path / "out")
    cases = [
        ((str(base), "--out", out), "holds no adapter"),
        ((str(tmp_path / "nowhere"), "--out", out), "nowhere"),
        (("nobody/nowhere", "--out", out), "ADAPTER 'nobody/nowhere': "),
        ((str(adapter), "--out", str(tmp_path / "there")), f"--out {tmp_path / 'there-2'}"),
        ((str(adapter), "--out", str(tmp_path / "base" / "config.json" / "x")), "is a file"),
        ((str(adapter), "--out", out, "--base", str(quantised)), "as it was before it was quantised"),
        ((str(adapter), "--out", out, "--base", str(adapter)), "is an adapter too"),
        ((str(prompt), "--out", out), "PROMPT_TUNING"),
    ]
    for words, part in cases:
        said = command(capsys, "merge", *words)
        assert said.code == 2, words
        assert part in said.err, said.err
    assert not Path(out).exists()


def test_a_damaged_adapter_is_refused(base, tmp_path, capsys):
    from qtarget.disk.seal import seal

    adapter = adapter_on(base, tmp_path / "adapter")
    seal(adapter, {})
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    said = command(capsys, "merge", str(adapter), "--out", str(tmp_path / "out"))
    assert (said.code, "is damaged" in said.err) == (2, True)


def test_a_merge_that_does_not_agree_keeps_nothing(base, tmp_path, capsys, monkeypatch):
    from qtarget.models import merging

    adapter = adapter_on(base, tmp_path / "adapter")
    monkeypatch.setattr(merging, "AGREEMENT", {torch.float32: -1.0})
    said = command(capsys, "merge", str(adapter), "--out", str(tmp_path / "out"))
    assert (said.code, "nothing was kept" in said.err) == (1, True)
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter"}
