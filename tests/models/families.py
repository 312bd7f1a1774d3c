"""Tiny models of the causal-LM families of transformers, from a configuration each.

`python tests/models/families.py` lists families of the installed transformers that stand in none of the three tables.
"""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCAB = 64
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "word_embed_proj_dim", "lru_width"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("decoder_layers", "encoder_layers", "max_window_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "index_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "head_dim", "index_topk"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("mamba_d_state", "ssm_state_size", "mamba_chunk_size", "chunk_size"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "rotary_dim"), 4),
    **dict.fromkeys(("n_groups", "mamba_n_groups", "n_group", "topk_group", "n_shared_experts"), 1),
    **dict.fromkeys(
        ("linear_num_key_heads", "linear_num_value_heads", "linear_num_heads", "linear_conv_kernel_dim"), 2
    ),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("num_key_value_heads", "num_experts_per_tok", "moe_topk", "index_n_heads"), 2),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "expert_layer_offset"), 0),
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 1,
    "attention_window_size": 8,
    "sliding_window": 4,
    "vocab_size": VOCAB,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
"""What every configuration gets of these, those that it has."""

HYBRID = {"layer_types": ["linear_attention", "full_attention"]}
LATENT = {"num_key_value_heads": 4}
OWN: dict[str, dict[str, Any]] = {
    "axk1": LATENT,
    "deepseek_v4": {"mlp_layer_types": ["moe", "moe"]},
    "doge": {"is_moe": True, "num_experts": 4},
    "dots3_note_text": LATENT,
    "falcon_h1": {"mamba_d_ssm": 64},
    "flint": {"mlp_only_layers": []},
    "gemma3n_text": {"num_kv_shared_layers": 0, "vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 8},
    "gemma4_text": {"vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 8},
    "mamba2": {"expand": 2, "num_heads": 4, "head_dim": 16},
    "zamba": {"layers_block_type": ["mamba", "hybrid"]},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
    "bamba": {"attn_layer_indices": [1]},
    "falcon": {"new_decoder_architecture": True},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lfm3": {"layer_types": ["conv", "full_attention"]},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), HYBRID),
    **dict.fromkeys(("axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa"), LATENT),
    **dict.fromkeys(("longcat_flash", "minicpm3", "youtu"), LATENT),
}
"""What a family needs besides."""


def tiny(family: str) -> PreTrainedModel:
    """A model of a family with random weights, in evaluation mode."""
    kind = CONFIG_MAPPING[family]
    default = kind()
    sizes = {name: value for name, value in SIZES.items() if _takes(default, name)}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(kind(**{**sizes, **OWN.get(family, {})})).float().eval()


def _takes(config: Any, name: str) -> bool:
    """Whether a configuration has a number of that name which may be set."""
    if isinstance(getattr(type(config), name, None), property):
        return False
    return name in {**vars(config), **getattr(config, "attribute_map", {})} and not isinstance(
        vars(config).get(name), list | tuple
    )


def unlisted() -> list[str]:
    from models.test_families import LEFT_OUT, REFUSED, TESTED

    return sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - {*TESTED, *REFUSED, *LEFT_OUT})


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1]))
    print(*unlisted(), sep="\n")
