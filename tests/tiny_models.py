"""Tiny models, tokenizers and data, made on the spot: no test needs the network."""

import random
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

SPECIAL = ["<pad>", "<unk>", "<eos>", "<user>", "<assistant>"]
WORDS = [f"w{i}" for i in range(95)]
VOCAB = len(SPECIAL) + len(WORDS)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}<assistant>"
    "{% generation %}{{ message.content }}<eos>{% endgeneration %}"
    "{% else %}<user>{{ message.content }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tiny_tokenizer(words: list[str] | None = None) -> PreTrainedTokenizerFast:
    """Whole words split at spaces, with a chat template that marks what the assistant says."""
    vocab = {token: index for index, token in enumerate(SPECIAL + (WORDS if words is None else words))}
    backend = Tokenizer(WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        additional_special_tokens=["<user>", "<assistant>"],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "mixtral": (
        MixtralConfig,
        MixtralForCausalLM,
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "output_router_logits": True,
            "router_aux_loss_coef": 0.1,
        },
    ),
}


def tiny_model(
    family: str = "qwen2",
    *,
    seed: int = 0,
    vocab: int = VOCAB,
    tied: bool = False,
    width: int = 32,
    **config: Any,
) -> PreTrainedModel:
    """A two-layer model of a family, from a seed, with weights large enough for its predictions to differ."""
    make_config, make_model, own = FAMILIES[family]
    sizes = {
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": tied,
        "initializer_range": 0.2,
    }
    torch.manual_seed(seed)
    return make_model(make_config(**{**sizes, **own, **config})).float()


def sentence(rng: random.Random, low: int = 2, high: int = 9) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))


def prompt_completion(rows: int = 32, seed: int = 0) -> Dataset:
    rng = random.Random(seed)
    return Dataset.from_list([{"prompt": sentence(rng) + " ", "completion": sentence(rng)} for _ in range(rows)])


def messages(rows: int = 32, seed: int = 0) -> Dataset:
    rng = random.Random(seed)

    def turn(role):
        return {"role": role, "content": sentence(rng)}

    return Dataset.from_list(
        [{"messages": [turn(role) for role in ("user", "assistant") * rng.randint(1, 2)]} for _ in range(rows)]
    )


def plain_text(rows: int = 32, seed: int = 0) -> Dataset:
    rng = random.Random(seed)
    return Dataset.from_list([{"text": sentence(rng, 4, 14)} for _ in range(rows)])


def token_rows(rows: int = 32, seed: int = 0, *, weights: bool = False) -> Dataset:
    """Pre-tokenised rows whose first few labels are masked; `weights` adds a weight for each token."""
    rng = random.Random(seed)
    made = []
    for _ in range(rows):
        ids = [rng.randrange(len(SPECIAL), VOCAB) for _ in range(rng.randint(4, 14))]
        row = {"input_ids": ids, "labels": [-100, -100, *ids[2:]]}
        made.append({**row, "token_weight": [rng.choice([0.0, 0.5, 2.0]) for _ in ids]} if weights else row)
    return Dataset.from_list(made)
