"""Laws 4, 5 and 8, and the fused path's own manners: it equals the definition, and refuses what it cannot do right."""

import pytest
import torch
from laws.cases import IGNORED, Case, H, T, V, every_row
from laws.papers import Row

import qtarget as qt
from qtarget.fused import products as matmul
from qtarget.fused import workspace
from qtarget.fused.products import ONEDNN_FROM
from qtarget.target.kept_tokens import temperature_for
from qtarget.target.source_logits import head_logits

DIAGNOSTICS = ("trust", "scale", "p_y", "logp_y", "entropy", "target_kl")


def _leaves(case: Case) -> tuple[torch.Tensor, qt.Head, list[torch.Tensor]]:
    hidden, weight = case.hidden.clone().requires_grad_(), case.head.weight.clone().requires_grad_()
    bias = None if case.head.bias is None else case.head.bias.clone().requires_grad_()
    leaves = [hidden, weight] if bias is None else [hidden, weight, bias]
    return hidden, case.head._replace(weight=weight, bias=bias), leaves


def _both(case: Case, chunk_tokens: int, **changes):
    """(output, gradients) of the definition and of the fused path."""
    given, results = {**case.evidence, **changes}, []
    for fused in (False, True):
        hidden, head, leaves = _leaves(case)
        if fused:
            teacher = ("teacher_entropy",) if "teacher" in case.method.needs - case.method.label_only else ()
            out = qt.linear_q_target_loss(
                hidden,
                head,
                case.labels,
                case.method,
                **given,
                chunk_tokens=chunk_tokens,
                diagnostics=DIAGNOSTICS + teacher,
            )
        else:
            out = qt.q_target_loss(head_logits(hidden, head), case.labels, case.method, **given)
        out.loss.backward()
        results.append((out, [leaf.grad for leaf in leaves]))
    return results


def _assert_equal(plain, fused):
    (expected, gradients), (got, fused_gradients) = plain, fused
    torch.testing.assert_close(got.loss, expected.loss, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(got.nll, expected.nll, rtol=1e-9, atol=1e-11)
    assert got.num_tokens == expected.num_tokens
    for name in DIAGNOSTICS:
        torch.testing.assert_close(
            got.diagnostics[name], expected.diagnostics[name], rtol=1e-7, atol=1e-9, equal_nan=True
        )
    for mine, theirs in zip(fused_gradients, gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("chunk_tokens", [T, 8, 3])
@pytest.mark.parametrize("row", every_row())
def test_law_04_fused_equals_dense(row: Row, chunk_tokens: int):
    case = Case(row, weighted=chunk_tokens == 8)
    _assert_equal(*_both(case, chunk_tokens))


@pytest.mark.parametrize("row", every_row())
def test_law_04_blocks_of_the_vocabulary_make_no_difference(row: Row, monkeypatch):
    """Products and sums that take a few rows of the output layer at once; sizes that do not divide."""
    case = Case(row, weighted=True)
    monkeypatch.setattr(matmul, "HEAD_BLOCK", 7)
    blocks = matmul._blocks
    monkeypatch.setattr(matmul, "_blocks", lambda weight, needed, everywhere=False: blocks(weight, True))
    monkeypatch.setattr(workspace, "DOT_BLOCK", 5)
    _assert_equal(*_both(case, 6))


@pytest.mark.parametrize("row", every_row())
def test_law_04_fused_equals_dense_with_bias_softcap_and_scale(row: Row):
    _assert_equal(*_both(Case(row, seed=1, bias=True, softcap=4.0, scale=0.7), 5))


@pytest.mark.parametrize("row", every_row())
def test_law_04_fused_equals_dense_where_the_bias_rules_tokens_out(row: Row):
    case = Case(row, seed=2, bias=True)
    free = torch.ones(V, dtype=torch.bool).index_fill(0, case.labels.clamp(min=0), False)
    case.head.bias[free & (torch.arange(V) % 2 == 0)] = -torch.inf
    plain, fused = _both(case, 5)
    assert (case.head.bias == -torch.inf).any()
    for gradients in (
        plain[1],
        fused[1],
    ):  # −inf has no gradient worth comparing: its entry is 0 on both sides
        assert all(g.isfinite().all() for g in gradients)
    _assert_equal(plain, fused)


def _sparse(dense: qt.Dense, kept: int, temperature: float = 1.0) -> qt.Sparse:
    logp = (head_logits(dense.hidden, dense.head) / temperature).log_softmax(-1)
    top = logp.topk(kept, -1)
    rest = logp.exp().scatter(-1, top.indices, 0.0).sum(-1)
    return qt.Sparse(top.indices, top.values, rest.log(), temperature=temperature)


@pytest.mark.parametrize("kept", [1, 4, V])
@pytest.mark.parametrize(
    "row", [row for row in every_row() if any(n in row.id for n in ("kd", "target-sft", "repeated"))]
)
def test_law_04_fused_equals_dense_from_a_sparse_teacher(row, kept: int):
    case = Case(row, weighted=True)
    teachers = case.evidence["teacher"]
    temperature = temperature_for(case.method, "teacher 0")
    teachers = teachers if isinstance(teachers, tuple) else (teachers,)
    sparse = tuple(_sparse(teacher, kept, temperature) for teacher in teachers)
    plain, fused = _both(case, 6, teacher=sparse)
    _assert_equal(plain, fused)
    if kept == V:  # nothing is left out: the same as the whole teacher
        _assert_equal(_both(case, 6)[0], fused)


@pytest.mark.parametrize("name", ["kd", "kd-hybrid", "target-sft"])
def test_law_04_sparse_teacher_where_the_student_leaves_its_tail_almost_nothing(name: str):
    """κ = (tail/p_tail)^η is huge there; written as p·(1 − cκ) + cκ·p the K tokens would lose every digit."""
    case = Case(Row(name, {}))
    hidden = torch.zeros(T, V, dtype=torch.float64).scatter(-1, torch.arange(T)[:, None] % V, 30.0)
    ids = (torch.arange(T)[:, None] + torch.arange(3)) % V
    teacher = qt.Sparse(
        ids, torch.tensor([0.5, 0.3, 0.1]).double().log().expand(T, 3), torch.full((T,), 0.1).double().log()
    )
    weight = torch.eye(V, dtype=torch.float64)
    grads = []
    for dtype in (torch.float64, torch.float32):
        h = hidden.to(dtype, copy=True).requires_grad_()
        qt.linear_q_target_loss(h, qt.Head(weight.to(dtype)), case.labels, case.method, teacher=teacher).loss.backward()
        grads.append(h.grad.double())
    z = hidden.clone().requires_grad_()
    qt.q_target_loss(z, case.labels, case.method, teacher=teacher).loss.backward()
    torch.testing.assert_close(grads[0], z.grad, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(grads[1], z.grad, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    "row", [row for row in every_row() if row.id in ("psft", "iw-sft", "prift", "excess-loss-selected")]
)
def test_law_04_label_only_reference_is_enough(row):
    case = Case(row)
    reference = case.evidence["reference"]
    assert case.method.label_only == {"reference"}
    whole = head_logits(reference.hidden, reference.head).log_softmax(-1)
    label = qt.LabelOnly(whole.gather(-1, case.labels.clamp(min=0)[:, None]).squeeze(-1))
    plain, fused = _both(case, 6, reference=label)
    _assert_equal(plain, fused)
    _assert_equal(_both(case, 6)[0], fused)


@pytest.mark.parametrize("rows", [V - 7, V])
def test_law_04_teacher_with_fewer_rows_gives_the_others_nothing(rows: int):
    case = Case(Row("kd", {}))
    teacher = case.evidence["teacher"]
    short = qt.Dense(teacher.hidden, qt.Head(teacher.head.weight[:rows]))
    plain, fused = _both(case, 6, teacher=short)
    _assert_equal(plain, fused)
    q = qt.target_distribution(case.logits, case.labels, case.method, teacher=short).q[case.supervised]
    assert (q[:, rows:] == 0).all()
    torch.testing.assert_close(q[:, :rows], head_logits(*_call_of(short)).softmax(-1)[case.supervised])


def _call_of(dense: qt.Dense) -> tuple[torch.Tensor, qt.Head]:
    return dense.hidden, dense.head


def test_law_04_teacher_padded_further_than_the_student():
    case = Case(Row("target-sft", {}))
    teacher = case.evidence["teacher"]
    padded = torch.cat([teacher.head.weight, 5 * torch.ones(3, teacher.hidden.shape[-1], dtype=torch.float64)])
    with pytest.raises(ValueError, match=r"vocab=<number of shared tokens>"):
        _both(case, 6, teacher=qt.Dense(teacher.hidden, qt.Head(padded)))
    longer = qt.Dense(teacher.hidden, qt.Head(padded), vocab=V)
    _assert_equal(_both(case, 6)[0], _both(case, 6, teacher=longer)[1])


@pytest.mark.parametrize("row", every_row())
def test_law_05_masked_tokens_contribute_nothing_fused(row: Row):
    case = Case(row, weighted=True)
    poison = torch.zeros(T, 1, dtype=case.dtype).index_fill(0, torch.tensor(IGNORED), torch.nan)
    spoil = lambda d: qt.Dense(d.hidden + poison, d.head)  # noqa: E731
    dirty = {
        k: tuple(map(spoil, v)) if isinstance(v, tuple) else spoil(v) if isinstance(v, qt.Dense) else v
        for k, v in case.evidence.items()
    }
    results = []
    for noise, given in ((0 * poison.nan_to_num(), case.evidence), (poison, dirty)):
        hidden, head, leaves = _leaves(case)
        out = qt.linear_q_target_loss(hidden + noise, head, case.labels, case.method, **given, chunk_tokens=5)
        out.loss.backward()
        results.append((out.loss, [leaf.grad for leaf in leaves]))
    (loss, gradients), (dirty_loss, dirty_gradients) = results
    assert torch.equal(loss, dirty_loss)
    assert all(torch.equal(a, b) for a, b in zip(gradients, dirty_gradients, strict=True))
    assert (dirty_gradients[0][IGNORED] == 0).all()


@pytest.mark.failure_case(9)
@pytest.mark.parametrize("num_items", [None, 0, torch.tensor(0), 5])
@pytest.mark.parametrize("scope", ["sft", "iw-sft", "entropy-selected"])
def test_law_05_all_tokens_masked_give_zero_with_gradients_fused(scope: str, num_items):
    """Also where a whole accumulated batch has nothing supervised."""
    case, labels = Case(Row(scope, {})), torch.full((T,), -100)
    hidden, head, leaves = _leaves(case)
    out = qt.linear_q_target_loss(hidden, head, labels, case.method, **case.evidence, num_items=num_items)
    out.loss.backward()
    assert qt.q_target_loss(case.logits, labels, case.method, **case.evidence, num_items=num_items).loss == 0
    assert out.loss == 0
    assert all((leaf.grad == 0).all() for leaf in leaves)


@pytest.mark.parametrize("native", [True, False], ids=["bf16 products", "fp32 products"])
@pytest.mark.parametrize("row", every_row())
def test_law_08_bf16_error_is_within_the_plain_paths_own(row: Row, native: bool, monkeypatch):
    """Whether the CPU at hand multiplies bf16 faster than fp32 or not."""
    monkeypatch.setattr(matmul, "bf16_is_fast", lambda: native)
    truth = Case(row)
    exact = _gradients(truth, torch.float64, fused=False)
    plain = _gradients(truth, torch.bfloat16, fused=False)
    fused = _gradients(truth, torch.bfloat16, fused=True)
    for e, p, f in zip(exact, plain, fused, strict=True):
        unit = e.norm() + 1e-6
        assert (f - e).norm() / unit <= 1.05 * (p - e).norm() / unit + 4e-3


def _gradients(case: Case, dtype: torch.dtype, fused: bool) -> list[torch.Tensor]:
    """Gradients of hidden and weight from inputs rounded to bf16, computed in `dtype`."""
    rounded = lambda t: t.bfloat16().to(dtype) if t.is_floating_point() else t  # noqa: E731
    narrow = lambda d: qt.Dense(rounded(d.hidden), qt.Head(rounded(d.head.weight)))  # noqa: E731
    given = {
        k: tuple(map(narrow, v)) if isinstance(v, tuple) else narrow(v) if isinstance(v, qt.Dense) else v
        for k, v in case.evidence.items()
    }
    hidden, weight = rounded(case.hidden).requires_grad_(), rounded(case.head.weight).requires_grad_()
    if fused:
        out = qt.linear_q_target_loss(hidden, qt.Head(weight), case.labels, case.method, **given, chunk_tokens=7)
    else:
        out = qt.q_target_loss(hidden @ weight.t(), case.labels, case.method, **given)
    out.loss.backward()
    return [hidden.grad.double(), weight.grad.double()]


def test_fp16_gradients_survive_a_loss_scale():
    """A token's gradient divided by many items is below fp16's smallest number until the upstream scale is applied."""
    case, items, scale = Case(Row("sft", {})), 1e9, 2.0**30
    hidden, weight = case.hidden.half().requires_grad_(), case.head.weight.half().requires_grad_()
    out = qt.linear_q_target_loss(hidden, qt.Head(weight), case.labels, case.method, num_items=items)
    (out.loss * scale).backward()
    exact, exact_weight = (
        case.hidden.half().double().requires_grad_(),
        case.head.weight.half().double().requires_grad_(),
    )
    loss = qt.q_target_loss(exact @ exact_weight.t(), case.labels, case.method, num_items=items).loss * scale
    loss.backward()
    torch.testing.assert_close(hidden.grad.double(), exact.grad, rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(weight.grad.double(), exact_weight.grad, rtol=2e-3, atol=1e-4)


def test_a_second_backward_raises_instead_of_returning_wrong_gradients():
    case = Case(Row("dft", {}))
    hidden, head, _ = _leaves(case)
    out = qt.linear_q_target_loss(hidden, head, case.labels, case.method)
    out.loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward"):
        out.loss.backward()


def test_a_gradient_of_the_gradient_raises():
    case = Case(Row("dft", {}))
    hidden, head, _ = _leaves(case)
    loss = qt.linear_q_target_loss(hidden, head, case.labels, case.method).loss
    (first,) = torch.autograd.grad(loss, hidden, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(first.sum(), hidden)


def test_no_gradient_work_for_a_frozen_head(monkeypatch):
    from qtarget.fused.products import Products

    calls = []
    monkeypatch.setattr(Products, "_accumulate", lambda self, *args: calls.append(1))
    case = Case(Row("sft", {}))
    hidden = case.hidden.clone().requires_grad_()
    out = qt.linear_q_target_loss(hidden, case.head, case.labels, case.method)
    out.loss.backward()
    assert calls == []
    expected = case.hidden.clone().requires_grad_()
    qt.q_target_loss(head_logits(expected, case.head), case.labels, case.method).loss.backward()
    torch.testing.assert_close(hidden.grad, expected.grad)


def test_without_gradients_every_supervised_token_is_measured():
    case = Case(Row("sft", {}), weighted=True)
    weight = case.evidence["token_weight"]
    args = (case.hidden, case.head, case.labels, case.method)
    with torch.no_grad():
        evaluated = qt.linear_q_target_loss(*args, token_weight=weight)
    hidden, head, _ = _leaves(case)
    trained = qt.linear_q_target_loss(hidden, head, case.labels, case.method, token_weight=weight)
    assert evaluated.num_tokens == case.supervised.sum()
    assert trained.num_tokens == (case.supervised & (weight > 0)).sum()
    torch.testing.assert_close(evaluated.loss, trained.loss.detach())
    assert evaluated.nll != trained.nll


UNDER_AUTOCAST = ("sft", "target-sft", "eaft", "iw-sft", "prift-variant=mass", "composed-kind=reverse KL")


@pytest.mark.parametrize("row", [row for row in every_row() if row.id in UNDER_AUTOCAST])
def test_autocast_changes_nothing(row):
    case = Case(row, dtype=torch.float32)
    expected = _both(case, 6)[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, head, leaves = _leaves(case)
        out = qt.linear_q_target_loss(hidden, head, case.labels, case.method, **case.evidence, chunk_tokens=6)
    out.loss.backward()
    assert torch.equal(out.loss, expected[0].loss)
    assert all(torch.equal(leaf.grad, g) for leaf, g in zip(leaves, expected[1], strict=True))


def test_leading_axes_are_free():
    case = Case(Row("dft", {}))
    flat = qt.linear_q_target_loss(case.hidden, case.head, case.labels, case.method)
    boxed = qt.linear_q_target_loss(case.hidden.view(2, T // 2, H), case.head, case.labels.view(2, T // 2), case.method)
    assert torch.equal(flat.loss, boxed.loss)
    assert boxed.trust.shape == (2, T // 2)
    torch.testing.assert_close(boxed.trust.flatten(), flat.trust, equal_nan=True)


def test_a_single_token_needs_no_axis():
    case = Case(Row("dft", {}))
    one = qt.target_distribution(case.logits[0], case.labels[0], case.method)
    many = qt.target_distribution(case.logits, case.labels, case.method)
    assert torch.equal(one.q, many.q[0])
    assert one.trust.shape == ()
    loss = qt.linear_q_target_loss(case.hidden[0], case.head, case.labels[0], case.method).loss
    torch.testing.assert_close(loss, qt.q_target_loss(case.logits[0], case.labels[0], case.method).loss)


@pytest.mark.parametrize("name", ["sft", "target-sft"])
def test_large_fp32_products_take_another_library_and_agree(name: str):
    """From `ONEDNN_FROM` multiplications on a CPU with AVX-512 uses oneDNN; uneven shapes and chunks."""
    tokens, width, vocab = 301, 65, 5303
    assert tokens * width * vocab >= ONEDNN_FROM
    draw = torch.Generator().manual_seed(0)
    hidden, teacher_hidden = (torch.randn(tokens, w, generator=draw) for w in (width, 70))
    weight, teacher_weight = (torch.randn(vocab, w, generator=draw) / w**0.5 for w in (width, 70))
    labels = torch.randint(0, vocab, (tokens,), generator=draw)
    results = []
    for dtype, fused in ((torch.float64, False), (torch.float32, True)):
        h, w = (t.to(dtype, copy=True).requires_grad_() for t in (hidden, weight))
        teacher = qt.Dense(teacher_hidden.to(dtype), qt.Head(teacher_weight.to(dtype)))
        given = {"teacher": teacher} if name == "target-sft" else {}
        if fused:
            out = qt.linear_q_target_loss(h, qt.Head(w), labels, qt.method(name), **given, chunk_tokens=tokens)
        else:
            out = qt.q_target_loss(h @ w.t(), labels, qt.method(name), **given)
        out.loss.backward()
        results.append([out.loss.detach().double(), h.grad.double(), w.grad.double()])
    for exact, got in zip(*results, strict=True):
        assert (got - exact).norm() <= 1e-5 * exact.norm()
