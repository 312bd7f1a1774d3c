"""A GGUF file as a model. The files are written here, by the package gguf."""

import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from qtarget.disk.seal import seal
from qtarget.models.gguf_file import _converted, checkpoint_folder, conversions, gguf_file_of
from qtarget.models.loading import causal_lm_from, tokenizer_of

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*SPECIAL, *BYTES, "th", "the"]
MERGES = ["t h", "th e"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
WIDTH, HEADS, KEYS, INNER, LAYERS = 64, 4, 2, 96, 2


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QTARGET_CACHE", str(tmp_path / "cache"))


def little_llama(tied=False):
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(TOKENS),
            hidden_size=WIDTH,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KEYS,
            max_position_embeddings=128,
            initializer_range=0.2,
            tie_word_embeddings=tied,
        )
    ).eval()


def write_gguf(path, model, *, architecture="llama", split="smollm", head_noise=None, tokens=TOKENS):
    """The file that llama.cpp would make of a model: its names, and rotary dimensions interleaved."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, weight in tensors(model):
        writer.add_tensor(name, weight)
    if head_noise is not None:
        weight = model.get_input_embeddings().weight.detach().numpy()
        writer.add_tensor("output.weight", weight + head_noise * np.abs(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tensors(model):
    state = {name: weight.detach().numpy() for name, weight in model.state_dict().items()}
    yield "token_embd.weight", state["model.embed_tokens.weight"]
    yield "output_norm.weight", state["model.norm.weight"]
    if not model.config.tie_word_embeddings:
        yield "output.weight", state["lm_head.weight"]
    for layer in range(LAYERS):
        for ours, theirs in NAMES.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            heads = {"self_attn.q_proj": HEADS, "self_attn.k_proj": KEYS}.get(ours)
            if heads:
                weight = weight.reshape(heads, 2, -1, WIDTH).swapaxes(1, 2).reshape(weight.shape)
            yield f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(weight)


def logits_of(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 25)[None]).logits


def test_a_file_is_a_model_with_its_tokenizer(tmp_path):
    model = little_llama()
    file = write_gguf(tmp_path / "model.gguf", model)
    read = causal_lm_from(file, {"dtype": "auto"})
    assert read.dtype == torch.float32
    torch.testing.assert_close(logits_of(read), logits_of(model), rtol=1e-4, atol=1e-4)
    tokenizer = tokenizer_of(file)
    assert [tokenizer.convert_tokens_to_ids(token) for token in TOKENS] == list(range(len(TOKENS)))
    assert tokenizer("<|im_end|>the")["input_ids"] == [2, TOKENS.index("the")]
    assert tokenizer.tokenize("12") == ["1", "2"]
    assert tokenizer.chat_template == TEMPLATE
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.model_max_length) == ("<|im_end|>", "<|im_end|>", 128)
    assert read.generation_config.eos_token_id == [0, 2]


def test_a_folder_with_one_file_is_that_model_and_is_converted_once(tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "model.gguf", little_llama())
    folder = checkpoint_folder(str(tmp_path))
    assert folder == checkpoint_folder(file)
    assert [path.name for path in conversions().iterdir()] == [folder.rpartition("/")[2]]
    AutoModelForCausalLM.from_pretrained(folder)
    (tmp_path / "second.gguf").write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"holds 2 GGUF files \(model.gguf, second.gguf\); name one of them"):
        checkpoint_folder(str(tmp_path))


def test_a_conversion_in_the_place_of_another_is_made_anew_and_one_of_an_earlier_version_is_read(tmp_path, monkeypatch):
    first, second = little_llama(), little_llama()
    second.model.embed_tokens.weight.data.mul_(0.5)
    folders = [Path(checkpoint_folder(write_gguf(tmp_path / f"{n}.gguf", m))) for n, m in (("a", first), ("b", second))]
    between = folders[0].with_name("between")
    for one, other in ((folders[0], between), (folders[1], folders[0]), (between, folders[1])):
        one.rename(other)
    _converted.cache_clear()
    torch.testing.assert_close(
        logits_of(causal_lm_from(str(tmp_path / "a.gguf"), {})), logits_of(first), rtol=1e-4, atol=1e-4
    )
    seal(folders[0], {"gguf": "a.gguf"})  # as versions wrote it that kept no sha256
    monkeypatch.setattr("qtarget.models.gguf_file._convert_into", lambda *_: pytest.fail("converted again"))
    _converted.cache_clear()
    assert checkpoint_folder(str(tmp_path / "a.gguf")) == str(folders[0])


def test_two_quantisations_of_one_matrix_are_tied_again(tmp_path):
    model = little_llama(tied=True)
    read = causal_lm_from(write_gguf(tmp_path / "model.gguf", model, head_noise=0.02), {})
    assert read.config.tie_word_embeddings
    assert read.lm_head.weight is read.model.embed_tokens.weight
    untied = causal_lm_from(write_gguf(tmp_path / "other.gguf", little_llama()), {})
    assert not untied.config.tie_word_embeddings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "nonesuch"}, r"architecture 'nonesuch', which the GGUF reader .* does not know"),
        ({"split": "of-its-own"}, r"splits text in the way called 'of-its-own'"),
        ({"tokens": [token if token != "?" else "unused" for token in TOKENS]}, r"What is 12 \+ 345"),
    ],
)
def test_what_cannot_be_converted_is_refused_and_leaves_nothing(changes, said, tmp_path):
    file = write_gguf(tmp_path / "model.gguf", little_llama(), **changes)
    with pytest.raises(ValueError, match=said):
        checkpoint_folder(file)
    assert list(conversions().iterdir()) == []


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"not a model at all" * 10)
    with pytest.raises(ValueError, match=r"model\.gguf cannot be read as a GGUF file"):
        checkpoint_folder(str(tmp_path / "model.gguf"))


def test_without_the_package_the_line_to_write_is_said(tmp_path, monkeypatch):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ValueError, match=r"pip install 'qtarget\[gguf\]'"):
        checkpoint_folder(str(tmp_path / "model.gguf"))


def test_other_sources_are_left_alone(tmp_path):
    assert checkpoint_folder("someone/model-gguf") == "someone/model-gguf"
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert gguf_file_of(str(tmp_path)) is None
