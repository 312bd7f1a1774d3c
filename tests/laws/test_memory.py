"""Law 4 in memory: the fused path never holds more than a chunk of logits, and does no work that nobody asked for."""

import pytest
import torch
from laws.cases import Case, T, V, every_row
from laws.papers import Row
from torch.utils._python_dispatch import TorchDispatchMode

import qtarget as qt
from qtarget.fused import chunks
from qtarget.fused.arguments import DIAGNOSTICS
from qtarget.fused.products import Products


class Largest(TorchDispatchMode):
    """The most rows of vocabulary width any tensor had; a matrix as tall as the whole batch would show."""

    def __init__(self):
        super().__init__()
        self.rows = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, torch.Tensor) and made.dim() > 1 and made.shape[-1] == V:
                self.rows = max(self.rows, made.shape[:-1].numel())
        return out


def _call(case: Case, **given):
    hidden, weight = case.hidden.clone().requires_grad_(), case.head.weight.clone().requires_grad_()
    out = qt.linear_q_target_loss(hidden, qt.Head(weight), case.labels, case.method, **case.evidence, **given)
    out.loss.backward()


@pytest.mark.parametrize("row", every_row())
def test_law_04_no_more_than_a_chunk_of_logits(row: Row):
    case = Case(row)
    assert case.labels.shape == (T,)  # made beforehand, as the evidence below is: both look at whole logits
    assert case.evidence
    with Largest() as largest:
        _call(case, chunk_tokens=8, diagnostics=DIAGNOSTICS[:-1])
    assert largest.rows == 8 or (case.method.weight_is_trust and largest.rows < 8)


def test_the_default_chunk_bounds_memory_too():
    hidden, labels = torch.randn(2000, 6), torch.randint(0, V, (2000,))
    with Largest() as largest:
        qt.linear_q_target_loss(hidden, qt.Head(torch.randn(V, 6)), labels, qt.method("sft"))
    assert largest.rows <= 128


BUFFERS = {
    "sft": {"logits"},
    "dft": {"logits"},
    "eaft": {"logits"},
    "label-smoothing": {"logits"},
    "target-sft": {"logits", "teacher 0"},
    "gem": {"logits", "exponent 0"},
    "confidence-penalty": {"logits", "student"},
}
"""A buffer of chunk by vocabulary is the memory of a step: what a method asks for by default is held to this."""


@pytest.mark.parametrize("name", BUFFERS)
def test_a_method_holds_only_the_buffers_it_needs(name: str, monkeypatch):
    made = []

    class Watched(chunks.Workspace):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(chunks, "Workspace", Watched)
    _call(Case(Row(name, {})))
    (workspace,) = made
    assert set(workspace._buffers) == BUFFERS[name]


def test_evaluation_makes_no_gradients_although_the_model_wants_them(monkeypatch):
    calls = []
    monkeypatch.setattr(Products, "add", lambda self, *args: calls.append(1))
    case = Case(Row("sft", {}))
    hidden, weight = case.hidden.clone().requires_grad_(), case.head.weight.clone().requires_grad_()
    token_weight = (torch.arange(T) % 2).double()
    with torch.no_grad():
        out = qt.linear_q_target_loss(
            hidden, qt.Head(weight), case.labels, case.method, token_weight=token_weight, diagnostics=()
        )
    assert calls == []
    assert out.num_tokens == case.supervised.sum()
