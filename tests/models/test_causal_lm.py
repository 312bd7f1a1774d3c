"""A model is its hidden states and its head: soft-caps, scales and biases included."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny_models
import torch
from peft import LoraConfig, TrainableTokensConfig, get_peft_model
from train import parity
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    GraniteMoeHybridConfig,
    GraniteMoeHybridForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

import qtarget as qt
from qtarget.models.balancing import load_balancing_loss
from qtarget.models.causal_lm import hidden_states
from qtarget.target.source_logits import head_logits
from qtarget.teacher import check_head, eval_mode, head_of
from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.forward import TargetCall, add_target_loss

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


def test_two_threads_that_ask_one_model_get_each_its_own_hidden_states():
    """As a server's threads, or batches read ahead in the background, do: both are in the backbone at once."""
    model = tiny_models.tiny_model().eval()
    rows = [torch.tensor([[5, 6, 7]]), torch.tensor([[8, 9, 10]])]
    with torch.no_grad():
        alone = [hidden_states(model, {"input_ids": ids}) for ids in rows]
    both = threading.Barrier(2)

    def meet(*_) -> None:
        both.wait(300)

    for part in (model.model, model.lm_head):
        part.register_forward_pre_hook(meet)
    with ThreadPoolExecutor(2) as threads:
        asked = torch.no_grad()(hidden_states)
        together = list(threads.map(lambda ids: asked(model, {"input_ids": ids}), rows))
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one, other)


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


def test_a_soft_cap_that_no_logit_reaches_is_seen():
    """Logits of a small model are far below the cap, and grow in training."""
    model = gemma2().eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(1e-3)
    check_head(model, "model")
    model.config.softcap_of_another_name, model.config.final_logit_softcapping = 5.0, None

    def forward(*args, **kwargs):
        model.config.final_logit_softcapping = model.config.softcap_of_another_name
        try:
            return type(model).forward(model, *args, **kwargs)
        finally:
            model.config.final_logit_softcapping = None

    model.forward = forward
    with pytest.raises(ValueError, match="does more between its hidden states and its logits"):
        check_head(model, "model")


def test_half_precision_rounds_and_passes():
    torch.manual_seed(0)
    check_head(gemma2().bfloat16(), "model")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_head_that_is_not_finite_is_named(value):
    model = phi()
    with torch.no_grad():
        model.lm_head.bias[3] = value
    with pytest.raises(ValueError, match=r"NaN or infinite before any training: lm_head\.bias hold"):
        check_head(model, "model")


def test_layers_that_overflow_are_told_from_bad_weights():
    model = gpt2()
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(3e38)
    with pytest.raises(ValueError, match="all its weights are finite, so a layer overflows"):
        check_head(model, "model")


def test_dropout_in_a_layer_derived_from_linear_is_off_in_eval_mode():
    class Dropping(torch.nn.Linear):
        def forward(self, x):
            return torch.nn.functional.dropout(super().forward(x), 0.5, self.training)

    model = torch.nn.Sequential(Dropping(4, 4)).train()
    with eval_mode(model):
        assert not model[0].training
    assert model[0].training


def test_an_adapter_on_the_output_layer_is_refused():
    model = get_peft_model(gpt2(), LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM"))
    with pytest.raises(ValueError, match="output layer carries an adapter"):
        check_head(model.get_base_model(), "model")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["lora", "tokens"])
def test_tokens_trained_beside_an_adapter_are_in_the_head(tied, kind):
    """As `trainable_token_indices` of LoRA, and as peft's method of its own."""
    model = tiny_models.tiny_model(tied=tied)
    tokens = [7, 9]
    lora = LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=tokens, task_type="CAUSAL_LM")
    wrapped = get_peft_model(
        model, lora if kind == "lora" else TrainableTokensConfig(token_indices=tokens, task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "trainable_tokens_delta" in name:
                weight.add_(1)
    check_head(wrapped.get_base_model(), "model")
    ids = torch.tensor([[5, 7, 9, 11, 7, 12]])
    logits = wrapped(input_ids=ids).logits[0, :-1]
    own = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
    own.backward()
    expected = {name: weight.grad.clone() for name, weight in wrapped.named_parameters() if weight.grad is not None}
    wrapped.zero_grad()
    base = wrapped.get_base_model()
    add_target_loss(base)
    ours = wrapped(input_ids=ids, labels=ids, q_target=TargetCall(qt.method("sft")))
    ours.loss.backward()
    torch.testing.assert_close(ours.loss, own)
    assert any("trainable_tokens_delta" in name for name in expected)
    for name, weight in wrapped.named_parameters():
        if name in expected:
            torch.testing.assert_close(weight.grad, expected[name], rtol=1e-4, atol=1e-6)
    with wrapped.disable_adapter(), torch.no_grad():
        hidden = base.model(input_ids=ids).last_hidden_state
        torch.testing.assert_close(head_logits(hidden, head_of(base)), wrapped(input_ids=ids).logits)


def dense_granite(**changes):
    return GraniteMoeHybridForCausalLM(
        GraniteMoeHybridConfig(
            **{**SIZES, "vocab_size": tiny_models.VOCAB},
            shared_intermediate_size=48,
            num_local_experts=0,
            num_experts_per_tok=0,
            layer_types=["attention"],
            mamba_n_heads=4,
            mamba_d_head=16,
            **changes,
        )
    )


def trainer_of(model, **settings):
    return TargetSFTTrainer(
        model,
        TargetSFTConfig(method="sft", **parity.common_args(max_steps=1, **settings)),
        train_dataset=tiny_models.prompt_completion(8),
        processing_class=tiny_models.tiny_tokenizer(),
    )


def test_a_mixture_of_experts_without_experts_trains_without_a_balancing_loss():
    trainer = trainer_of(dense_granite())
    trainer.train()
    assert "aux_loss" not in trainer.state.log_history[0]
    assert trainer.predict(trainer.train_dataset.select([0])).predictions is not None
    with pytest.raises(ValueError, match="remove `router_aux_loss_coef`"):
        trainer_of(dense_granite(), router_aux_loss_coef=0.1)


def test_routers_are_counted_by_their_logits():
    model = tiny_models.tiny_model("mixtral")
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    ids = torch.randint(5, tiny_models.VOCAB, (2, 6))
    own = model(input_ids=ids, attention_mask=mask, labels=ids, output_router_logits=True).aux_loss
    outputs = model.model(input_ids=ids, attention_mask=mask, output_router_logits=True)
    model.config.num_local_experts = 77
    torch.testing.assert_close(load_balancing_loss(model, outputs, mask), own)
    outputs.router_logits = (None, *outputs.router_logits)
    torch.testing.assert_close(load_balancing_loss(model, outputs, mask), own)
    outputs.router_logits = None
    assert load_balancing_loss(model, outputs, mask) is None


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch has the old setting alone")
@pytest.mark.parametrize(("precision", "rounds"), [("tf32", True), ("ieee", False)])
def test_rounded_products_are_known_under_both_of_torchs_settings(precision, rounds):
    """transformers sets the new one; the old one cannot be read once it was."""
    code = f"""
import torch
from qtarget.models.head_check import rounds_products
assert rounds_products() is False
torch.set_float32_matmul_precision("{"high" if rounds else "highest"}")
assert rounds_products() is {rounds}
torch.backends.cuda.matmul.fp32_precision = "{"ieee" if rounds else "tf32"}"
assert rounds_products() is {not rounds}
"""
    subprocess.run([sys.executable, "-c", code], check=True)
