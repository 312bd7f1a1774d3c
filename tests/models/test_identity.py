"""What two runs compare to know that they speak of the same thing."""

import json

import pytest
import tiny_models
import torch
from tokenizers import normalizers, pre_tokenizers, processors

from qtarget.models.identity import template_identity, tokenizer_identity, tokenizer_settings, weights_identity


def test_tokenizers_are_their_token_maps():
    one = tiny_models.tiny_tokenizer()
    two = tiny_models.tiny_tokenizer()
    two.chat_template = None
    swapped = tiny_models.tiny_tokenizer([tiny_models.WORDS[1], tiny_models.WORDS[0], *tiny_models.WORDS[2:]])
    assert tokenizer_identity(one) == tokenizer_identity(two)
    assert (
        len({tokenizer_identity(each) for each in (one, swapped, tiny_models.tiny_tokenizer(tiny_models.WORDS[:-1]))})
        == 3
    )


def test_templates_are_their_text():
    assert len({template_identity(each) for each in (None, "", "a", "b", {"default": "a"})}) == 5
    assert template_identity(None) == "none"


def test_a_model_in_memory_is_its_weights():
    one, two = tiny_models.tiny_model(), tiny_models.tiny_model()
    assert weights_identity(one) == weights_identity(two)
    with torch.no_grad():
        next(two.parameters()).flatten()[3] += 1e-6
    assert weights_identity(one) != weights_identity(two)
    assert weights_identity(one) != weights_identity(tiny_models.tiny_model().bfloat16())


def test_a_folder_is_its_weight_files_and_configuration(tmp_path):
    tiny_models.tiny_model().save_pretrained(tmp_path)
    first = weights_identity(str(tmp_path))
    (tmp_path / "README.md").write_text("about it")
    (tmp_path / "training_args.bin").write_bytes(b"x")
    assert weights_identity(str(tmp_path)) == first
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    second = weights_identity(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_theta": 5.0}))
    assert len({first, second, weights_identity(str(tmp_path))}) == 3


def test_an_adapter_is_itself_and_its_base(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    tiny_models.tiny_model().save_pretrained(base)
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (adapter / "adapter_model.safetensors").write_bytes(b"adapter")
    first = weights_identity(str(adapter))
    tiny_models.tiny_model(seed=1).save_pretrained(base)
    second = weights_identity(str(adapter))
    (adapter / "adapter_model.safetensors").write_bytes(b"another")
    assert len({first, second, weights_identity(str(adapter))}) == 3


def test_a_hub_name_is_its_commit(tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    root = tmp_path / "models--someone--teacher"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    (root / "snapshots" / commit).mkdir(parents=True)
    (root / "snapshots" / commit / "config.json").write_text("{}")
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert weights_identity("someone/teacher") == f"someone/teacher@{commit}"


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no weights"):
        weights_identity(str(tmp_path))


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor"])
def test_rules_by_which_a_tokenizer_reads_are_seen_and_its_padding_of_the_moment_is_not(part):
    one, padded, other = (tiny_models.tiny_tokenizer() for _ in range(3))
    padded(["a", "a b"], padding=True, truncation=True, max_length=2)
    assert tokenizer_settings(one) == tokenizer_settings(padded)
    rules = {
        "normalizer": normalizers.Lowercase(),
        "pre_tokenizer": pre_tokenizers.Digits(),
        "post_processor": processors.TemplateProcessing(single="$A $A", pair="$A $B"),
    }
    setattr(other.backend_tokenizer, part, rules[part])
    assert tokenizer_settings(one)["rules"] != tokenizer_settings(other)["rules"]
    assert tokenizer_identity(one) == tokenizer_identity(other)
