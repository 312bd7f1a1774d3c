"""A model in memory is known by every byte of its weights."""

import pytest
import tiny_models
import torch
from accelerate import cpu_offload
from torch import nn

from qtarget.models.weights_digest import stored_tensors, weights_digest


def digest(*tensors: torch.Tensor) -> str:
    return weights_digest((f"weight {number}", tensor) for number, tensor in enumerate(tensors))


@pytest.mark.parametrize("place", [0, 1, 4097, 5_000_001, -1])
def test_one_element_anywhere_is_seen(place):
    """The tensor has 20 MB, more than is hashed at once."""
    weights = torch.zeros(5_000_003)
    before = digest(weights)
    weights[place] = -0.0  # one bit
    assert digest(weights) != before


def test_what_a_sum_would_not_see_is_seen():
    weights = torch.arange(6, dtype=torch.int32)
    moved, turned = weights + torch.tensor([1, -2, 1, 0, 0, 0], dtype=torch.int32), weights.flip(0)
    cut, named = weights.reshape(2, 3), weights.view(torch.float32)
    every = {digest(each) for each in (weights, moved, turned, cut, named)}
    assert len({*every, digest(weights[:3], weights[3:]), digest(weights[3:], weights[:3])}) == 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.float8_e4m3fn])
def test_how_weights_lie_in_memory_makes_no_difference(dtype):
    weights = torch.randn(7, 5).to(dtype)
    assert digest(weights.t().contiguous().t(), torch.tensor(3)) == digest(weights, torch.tensor(3))


def test_kept_buffers_are_of_a_model_and_offloaded_weights_too():
    model = tiny_models.tiny_model()
    whole = weights_digest(stored_tensors(model))
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert all(weight.is_meta for weight in model.parameters())
    assert weights_digest(stored_tensors(model)) == whole
    norm = nn.BatchNorm1d(3)
    before = weights_digest(stored_tensors(norm))
    assert norm.running_var is not None
    norm.running_var[1] = 2
    assert weights_digest(stored_tensors(norm)) != before
