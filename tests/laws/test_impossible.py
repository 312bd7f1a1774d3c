"""Where the student cannot produce a label, or anything a teacher expects, dense and fused agree on value and gradient,
and the gradient stays s(p − Q)."""

import pytest
import torch

import qtarget as qt

T, H, V = 3, 8, 11
METHODS = {"sft": {}, "dft": {}, "label-smoothing": {}, "gem": {}, "focal": {}, "kd": {}, "target-sft": {"eta": 0.5}}


def case(impossible):
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(T, H, generator=generator), torch.randn(V, H, generator=generator)
    bias, teacher = torch.zeros(V), torch.full((V,), -torch.inf)
    bias[2 if impossible == "label" else slice(5, None)] = -torch.inf
    teacher[6:8] = 0.0
    return [hidden.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()], teacher


@pytest.mark.parametrize("impossible", ["label", "teacher"])
@pytest.mark.parametrize("name", METHODS)
def test_dense_and_fused_agree(name, impossible):
    method, labels, found = qt.method(name, **METHODS[name]), torch.tensor([1, 2, 3]), []
    for is_fused in (False, True):
        (hidden, weight, bias), teacher = case(impossible)
        if is_fused:
            evidence = qt.Dense(torch.ones(T, 1), qt.Head(torch.zeros(V, 1), teacher))
            given = evidence if method.num_teachers else None
            loss = qt.linear_q_target_loss(hidden, qt.Head(weight, bias), labels, method, teacher=given).loss
        else:
            given = teacher.expand(T, V) if method.num_teachers else None
            loss = qt.q_target_loss(hidden @ weight.T + bias, labels, method, teacher=given).loss
        loss.backward()
        found.append((loss.detach(), hidden.grad, weight.grad, bias.grad))
    for dense, fused in zip(*found, strict=True):
        assert torch.allclose(dense, fused, rtol=1e-5, atol=1e-6)
        assert dense.isfinite().all()


def test_the_gradient_at_an_impossible_label_is_p_minus_the_label():
    logits = torch.tensor([[0.0, 1.0, -torch.inf]], requires_grad=True)
    qt.q_target_loss(logits, torch.tensor([2]), qt.method("sft")).loss.backward()
    p = logits.detach().softmax(-1)
    assert torch.allclose(logits.grad, p - torch.tensor([[0.0, 0.0, 1.0]]))
