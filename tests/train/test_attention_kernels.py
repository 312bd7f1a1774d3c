"""Training stays off cuDNN's attention, whose backward pass can be NaN on Hopper cards."""

import math

import pytest
import tiny_models
import torch
from torch.nn.functional import scaled_dot_product_attention
from train import parity
from transformers import TrainerCallback

from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.attention_kernels import without_cudnn_attention


class Looks(TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.seen.append(torch.backends.cuda.cudnn_sdp_enabled())


@pytest.mark.parametrize("before", [True, False])
def test_training_is_off_cudnn_attention_and_leaves_the_choice_as_it_was(tmp_path, before):
    looks, was = Looks(), torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(before)
        TargetSFTTrainer(
            tiny_models.tiny_model(),
            TargetSFTConfig(**parity.common_args(method="sft", output_dir=str(tmp_path / "out"), max_steps=2)),
            train_dataset=tiny_models.prompt_completion(4),
            processing_class=tiny_models.tiny_tokenizer(),
            callbacks=[looks],
        ).train()
        assert torch.backends.cuda.cudnn_sdp_enabled() is before
    finally:
        torch.backends.cuda.enable_cudnn_sdp(was)
    assert looks.seen == [False, False]


def strong_head(length: int, width: int = 64) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values of a head that scores all keys near -120, as some of Qwen2.5's do."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, length, width, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    query, key = query * 0.1, key * 0.1
    query[..., 0], key[..., 0] = 1.0, -120 * math.sqrt(width)
    return tuple(each.requires_grad_() for each in (query, key, value))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a kernel of a GPU's")
@pytest.mark.parametrize("length", [64, 192, 320, 704])
def test_gradients_of_a_strong_head_are_finite(length):
    heads = strong_head(length)
    mask = torch.ones(length, length, dtype=torch.bool, device="cuda").tril()[None, None]
    with without_cudnn_attention():
        scaled_dot_product_attention(*heads, attn_mask=mask).float().square().sum().backward()
    assert all(each.grad.isfinite().all() for each in heads)
