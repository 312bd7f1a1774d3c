"""Causal-LM families of transformers: our loss and gradients beside cross-entropy on the model's own logits."""

import pytest
import torch
from models.families import VOCAB, tiny
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import qtarget as qt
from qtarget.models.balancing import balancing_function
from qtarget.models.drawn_weights import refuse_drawn_weights
from qtarget.models.head_check import check_head
from qtarget.train.forward import TargetCall, add_target_loss


def families(text):
    return text.split()


TESTED = families("""
    afmoe apertus arcee aria_text axk1 axk2 bailing_hybrid bamba bart beam bert-generation bigbird_pegasus
    biogpt bitnet blenderbot blenderbot-small bloom codegen cohere cohere2 cohere2_moe ctrl cwm deepseek_v2
    deepseek_v3 deepseek_v32 deepseek_v4 diffllama doge dots1 dots3_note_text ernie4_5 ernie4_5_moe exaone4
    exaone_moe falcon falcon_h1 falcon_mamba flex_olmo flint gemma gemma2 gemma3_text gemma3n_text gemma4_text
    gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa gpt-sw3 gpt2 gpt_bigcode gpt_neo gpt_neox
    gpt_neox_japanese gpt_oss gptj granite granite_swa granitemoe granitemoe_swa granitemoehybrid
    granitemoeshared helium hrm_text hunyuan_v1_dense hunyuan_v1_moe hy_v3 hy_v4 hyperclovax inkling2_text
    inkling_text internlm3 iquestcoder jais2 jamba jetmoe kimi_linear kolibri1 laguna lfm2 lfm2_moe lfm3 llama
    llama4_text longcat_flash mamba mamba2 marian mbart mellum mimo_v2_flash minicpm3 minimax minimax_m2
    minimax_m3_vl_text ministral ministral3 mistral mixtral moshi mpt mvp nanochat nemotron nemotron_h olmo
    olmo2 olmo3 olmo_hybrid olmoe openai-gpt opt pegasus persimmon phi phi3 phimoe plbart qwen2 qwen2_moe qwen3
    qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next qwen4_exp_text recurrent_gemma rwkv seed_oss smollm3
    solar_open stablelm starcoder2 trocr vaultgemma whisper xglm xlm xlnet xlstm youtu zamba2 zaya
""")
REFUSED = families("""
    bert big_bird camembert data2vec-text electra ernie megatron-bert modernbert-decoder rembert roberta
    roberta-prelayernorm roformer xlm-roberta xlm-roberta-xl
""")
"""Encoders and others that transform hidden states once more before the output layer."""
LEFT_OUT = {
    "blt": "a patcher of bytes, whose smallest configuration is large",
    "cohere_compass_text": "its configuration needs layer types that its default lacks",
    "cpmant": "a fixed number of prompts and segments makes it large",
    "dbrx": "its default configuration builds no model",
    "dots3_note": "images and text",
    "emu3": "images and text",
    "fuyu": "images and text",
    "gemma3": "images and text",
    "gemma3n": "images and text",
    "gemma4": "images and text",
    "gemma4_assistant": "drafts for another model, whose hidden states it reads",
    "gemma4_unified": "images and text",
    "gemma4_unified_assistant": "drafts for another model, whose hidden states it reads",
    "git": "images and text",
    "got_ocr2": "images and text",
    "llama4": "images and text",
    "mllama": "images and text",
    "moss_transcribe_diarize": "sound",
    "musicgen": "sound",
    "musicgen_melody": "sound",
    "phi4_multimodal": "images and text",
    "prophetnet": "predicts several tokens ahead",
    "qwen3_5": "images and text",
    "qwen3_5_moe": "images and text",
    "qwen4_exp": "images and text",
    "reformer": "its positions must factorise the length of a row",
    "roc_bert": "an encoder, with tables of shapes and pronunciations",
    "xmod": "needs the language of each row",
    "zamba": "shares layers in a way that needs its full depth",
}
"""Families without a tiny model here, and why."""
BALANCE = 0.1


def here(families):
    """Those that the installed transformers has: it drops and adds some in every release."""
    return [family for family in families if family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES]


@pytest.mark.parametrize("family", here(TESTED))
def test_loss_and_gradients_are_the_familys_own(family):
    model = tiny(family)
    ids = torch.randint(3, VOCAB, (2, 8))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    balances = balancing_function(model) is not None
    inputs = {"attention_mask": mask, **({"output_router_logits": True} if balances else {})}
    model.config.get_text_config().output_router_logits = balances

    out = model(input_ids=ids, use_cache=False, **inputs)
    logits = out.logits[:, :-1].flatten(0, 1).float()
    own = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=-100)
    own_balance = out.aux_loss if balances else torch.zeros(())
    expected = _gradients(model, own + BALANCE * own_balance)

    check_head(model, "model")
    add_target_loss(model)
    ours = model(input_ids=ids, labels=labels, q_target=TargetCall(qt.method("sft")), **inputs)
    torch.testing.assert_close(ours.loss, own, rtol=1e-5, atol=1e-5)
    if balances:
        torch.testing.assert_close(ours.aux_loss, own_balance, rtol=1e-5, atol=1e-5)
    found = _gradients(model, ours.loss + BALANCE * (ours.aux_loss if balances else 0))
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("family", here(TESTED + REFUSED))
def test_a_model_that_was_saved_is_opened_without_complaint(family, tmp_path):
    tiny(family).save_pretrained(tmp_path)
    with refuse_drawn_weights(str(tmp_path)):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def _gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("family", here(REFUSED))
def test_a_family_that_does_more_to_its_logits_is_refused(family):
    with pytest.raises(ValueError, match="does more between its hidden states and its logits"):
        check_head(tiny(family), "model")
