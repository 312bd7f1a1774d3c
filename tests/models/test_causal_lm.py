"""A model is its hidden states and its head: soft-caps, scales and biases included."""

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from qtarget.target.statistics import head_logits
from qtarget.teacher import check_head, eval_mode, head_of

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.5,
    "pad_token_id": 0,
}


def gemma2():
    return Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=5.0))


def cohere():
    return CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.25))


def granite():
    return GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=8.0))


def phi():
    model = PhiForCausalLM(PhiConfig(**{**SIZES, "num_key_value_heads": 4}))
    torch.nn.init.normal_(model.lm_head.bias)
    return model


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=32, n_layer=1, n_head=4))


@pytest.mark.parametrize("make", [gemma2, cohere, granite, phi, gpt2], ids=lambda make: make.__name__)
def test_hidden_states_and_head_give_the_models_own_logits(make):
    torch.manual_seed(0)
    model = make().eval()
    ids = torch.randint(0, 40, (2, 7))
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        torch.testing.assert_close(head_logits(hidden, head_of(model)), model(input_ids=ids).logits)
    check_head(model, "model")


def test_a_model_that_does_more_is_refused():
    class Doubling(GPT2LMHeadModel):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = out.logits * 2
            return out

    torch.manual_seed(0)
    model = Doubling(GPT2Config(vocab_size=40, n_embd=32, n_layer=1, n_head=4))
    with pytest.raises(ValueError, match="does more between its hidden states and its logits"):
        check_head(model, "teacher")


def test_a_model_without_a_head_is_refused():
    with pytest.raises(ValueError, match="AutoModelForCausalLM"):
        check_head(gpt2().transformer, "teacher")


def test_eval_mode_comes_and_goes_module_by_module():
    model = gpt2().train()
    model.transformer.h[0].attn.eval()
    with eval_mode(model):
        assert not model.transformer.drop.training
    assert model.transformer.drop.training
    assert not model.transformer.h[0].attn.training
