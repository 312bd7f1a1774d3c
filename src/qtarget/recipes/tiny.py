"""Tiny models for dry runs: a checkpoint's architecture, random weights, a tokenizer with its special tokens."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

from qtarget.disk.draft_folder import drafted_folder

QWEN_SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA_SPECIAL_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
TOKENIZER_SIZE = 600
WIDTHS = {"student": 32, "teacher": 48}
SEEDS = {"student": 0, "teacher": 1}


def write_tiny(family: str, role: str, texts: Iterable[str], folder: Path) -> Path:
    """Write a directory with a model and its tokenizer, unless it exists; return it.

    Args:
        family: model type of its architecture, "qwen2", "qwen3" or "llama".
        role: "student" or "teacher", which is wider. With the same `texts` both have the same tokenizer.
        texts: what the tokenizer is trained on.
    """
    if not (folder / "model.safetensors").is_file():
        tokenizer = tiny_tokenizer(family, texts)
        with drafted_folder(folder, replaces=True) as draft:
            tokenizer.save_pretrained(draft)
            tiny_model(family, role, tokenizer).save_pretrained(draft)
    return folder


def tiny_model(family: str, role: str, tokenizer: PreTrainedTokenizerBase) -> Any:
    """A model of two layers with random weights, large enough that predictions differ."""
    width = WIDTHS[role]
    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=width // 4,
        max_position_embeddings=1024,
        tie_word_embeddings=role == "student",
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(SEEDS[role])
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def tiny_tokenizer(family: str, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer trained on the texts, with the family's special tokens in their roles.

    As in the checkpoints, Qwen's has no beginning-of-sequence token, and LLaMA's adds one and has no padding token.
    """
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=TOKENIZER_SIZE, show_progress=False)
    pairs = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in pairs["merges"]]
    return _llama(pairs["vocab"], merges) if family == "llama" else _qwen(pairs["vocab"], merges)


def _qwen(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> PreTrainedTokenizerBase:
    end, none = QWEN_SPECIAL_TOKENS[0], cast(Any, None)  # bytes make every text known
    pairs: Any = merges  # declared as text, used as pairs
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=pairs, eos_token=end, pad_token=end, unk_token=none)
    tokenizer.add_special_tokens({"additional_special_tokens": list(QWEN_SPECIAL_TOKENS[1:])})
    return tokenizer


def _llama(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> PreTrainedTokenizerBase:
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(LLAMA_SPECIAL_TOKENS))
    begin, end = LLAMA_SPECIAL_TOKENS[:2]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, backend.token_to_id(begin))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=begin, eos_token=end)
