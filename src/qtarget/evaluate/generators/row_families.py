"""Families of models by what was shown of them: whether padding before a prompt, and rows that leave and enter a batch,
change what a model says. `tests/evaluate/generators/test_row_families.py` shows it of every name that stands here."""


def _named(names: str) -> frozenset[str]:
    return frozenset(names.split())


REFILLED = _named("""
    afmoe apertus arcee aria_text axk1 beam biogpt bitnet codegen cohere cohere2 cohere2_moe ctrl cwm
    deepseek_v2 deepseek_v3 diffllama dots1 ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon flex_olmo flint
    gemma gemma2 gemma3_text gemma3n_text gemma4_text gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite gpt2
    gpt_bigcode gpt_neox gpt_neox_japanese gpt_oss gptj granite granite_swa granitemoe granitemoe_swa
    granitemoeshared helium hrm_text hunyuan_v1_dense hunyuan_v1_moe hy_v3 hyperclovax internlm3 iquestcoder
    jais2 jetmoe kolibri1 laguna llama longcat_flash mellum mimo_v2_flash minicpm3 minimax_m2 ministral
    ministral3 mistral mixtral nanochat nemotron olmo olmo2 olmo3 olmoe opt persimmon phi phi3 phimoe qwen2
    qwen2_moe qwen3 qwen3_moe seed_oss smollm3 solar_open stablelm starcoder2 vaultgemma xglm youtu
""")
"""Rows may leave the cache and others may enter it, as long as all of its layers hold keys and values of each token."""
PADDED = _named("""
    bamba bloom deepseek_v4 falcon_h1 falcon_mamba gpt_neo granitemoehybrid inkling2_text
    inkling_text jamba lfm2 lfm2_moe lfm3 llama4_text mamba mamba2 minimax mpt nemotron_h olmo_hybrid
    openai-gpt qwen3_5_moe_text qwen3_5_text qwen3_next recurrent_gemma xlm zaya
""")
"""Prompts of any length may stand side by side, with padding before the shorter ones."""
