"""`reduction="none"` and the memory of a chunk: the same loss, other trades."""

import pytest
import torch
from laws.cases import Case, H, T, V, every_row
from laws.papers import Row
from laws.test_fused import _leaves

import qtarget as qt
from qtarget.fused import chunk_size, products
from qtarget.fused.workspace import Workspace
from qtarget.target.source_logits import head_logits


def _values_by_definition(case: Case) -> torch.Tensor:
    """Each token's loss: what the sum loses when that token is masked (rules that look further read all the same)."""
    assert case.method.scope == "token"
    call = lambda labels: qt.q_target_loss(case.logits, labels, case.method, **case.evidence, num_items=1).loss  # noqa: E731
    values = torch.zeros(T, dtype=case.dtype)
    for token in case.supervised.nonzero().flatten():
        values[token] = call(torch.where(torch.arange(T) == token, case.labels, -100))
    return values


@pytest.mark.parametrize("row", every_row())
def test_law_04_per_token_losses_and_upstream_gradients(row: Row):
    """Each token's value; gradients under an upstream number of each are those of the weighted sum of values."""
    case = Case(row, seed=4)
    upstream = torch.linspace(-1, 2, T, dtype=torch.float64)
    hidden, head, leaves = _leaves(case)
    args = {**case.evidence, "reduction": "none", "chunk_tokens": 5}
    loss = qt.linear_q_target_loss(hidden, head, case.labels, case.method, **args).loss
    assert loss.shape == case.labels.shape
    assert (loss[~case.supervised] == 0).all()
    if case.method.scope == "token":
        torch.testing.assert_close(loss, _values_by_definition(case), rtol=1e-8, atol=1e-10)
    (loss * upstream).sum().backward(retain_graph=True)
    logits = case.logits.detach().requires_grad_()
    qt.q_target_loss(logits, case.labels, case.method, **case.evidence, num_items=1).loss.backward()
    expected_hidden, expected_head, expected = _leaves(case)
    head_logits(expected_hidden, expected_head).backward(logits.grad * upstream[:, None])
    for mine, theirs in zip(leaves, expected, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-8, atol=1e-11)
        mine.grad = None
    (2 * loss * upstream).sum().backward()  # a second time: nothing was used up
    for mine, theirs in zip(leaves, expected, strict=True):
        torch.testing.assert_close(mine.grad, 2 * theirs.grad, rtol=1e-8, atol=1e-11)


def test_per_token_gradients_reach_only_what_wants_them():
    case = Case(Row("dft", {}))
    weight = case.head.weight.clone().requires_grad_()
    args = (qt.Head(weight), case.labels, case.method)
    qt.linear_q_target_loss(case.hidden, *args, reduction="none").loss.sum().backward()
    both = case.hidden.clone().requires_grad_()
    expected = torch.autograd.grad(qt.linear_q_target_loss(both, *args, num_items=1).loss, weight)
    torch.testing.assert_close(weight.grad, expected[0])


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("row", every_row())
def test_a_chunk_keeps_to_its_bytes(row: Row, reduction: str, monkeypatch):
    """The buffers of a call, counted as they are made, and the same gradients as without a limit."""
    case, limit, made = Case(row), 32 * V * 8, []
    original = Workspace.__init__

    def counted(self, chunk, vocab, like):
        original(self, chunk, vocab, like)
        made.append((self, chunk))

    monkeypatch.setattr(Workspace, "__init__", counted)
    monkeypatch.setattr(products, "mkl_is_slow", lambda: False)  # where it is, a call needs more than this limit
    results = []
    for given in ({"buffer_bytes": limit}, {"chunk_tokens": T}):
        hidden, head, leaves = _leaves(case)
        args = {**case.evidence, "reduction": reduction, **given}
        qt.linear_q_target_loss(hidden, head, case.labels, case.method, **args).loss.sum().backward()
        results.append([leaf.grad for leaf in leaves])
        used = max(chunk * workspace.numbers_per_token(V) * 8 for workspace, chunk in made)
        assert used <= limit or "buffer_bytes" not in given
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-11)


def test_where_memory_is_short_chunks_are_small(monkeypatch):
    case, chunks = Case(Row("target-sft", {})), []
    original = Workspace.__init__
    watched = lambda self, chunk, vocab, like: (chunks.append(chunk), original(self, chunk, vocab, like))[1]  # noqa: E731
    monkeypatch.setattr(Workspace, "__init__", watched)
    for free in (None, 2**40, 20 * V * 8):
        monkeypatch.setattr(chunk_size, "free_bytes", lambda device, free=free: free)
        qt.linear_q_target_loss(case.hidden, case.head, case.labels, case.method, **case.evidence)
    tokens = int(case.supervised.sum())
    assert chunks[:2] == [tokens, tokens]
    assert 1 <= chunks[-1] <= 5


def test_free_memory_is_known_on_this_machine():
    from qtarget.fused.memory import PROC, free_bytes

    found = free_bytes(torch.device("cpu"))
    assert (found is not None and 0 < found < 2**50) == (PROC / "meminfo").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"buffer_bytes": 0}, "buffer_bytes=0"),
        ({"buffer_bytes": 10, "chunk_tokens": 3}, "give one of them"),
        ({"reduction": "sum"}, 'reduction="sum"'),
        ({"reduction": "none", "num_items": 3}, "leave num_items out"),
    ],
)
def test_what_contradicts_itself_is_refused(given, words: str):
    case = Case(Row("sft", {}))
    with pytest.raises(ValueError, match=words):
        qt.linear_q_target_loss(case.hidden, case.head, case.labels, case.method, **given)


def test_a_single_token_may_have_its_own_loss():
    loss = qt.linear_q_target_loss(
        torch.randn(H), qt.Head(torch.randn(V, H)), torch.tensor(3), qt.method("sft"), reduction="none"
    ).loss
    assert loss.shape == ()
