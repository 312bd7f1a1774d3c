"""The fused path where dtypes, weights, evidence and gradients are not the usual ones."""

import pytest
import torch
from laws.cases import Case, T, V, every_row
from laws.papers import Row

import qtarget as qt
from qtarget.fused import products as matmul
from qtarget.target.source_logits import head_logits

DIAGNOSTICS = ("trust", "scale", "p_y", "top1", "entropy", "target_kl")


def _fused(case: Case, hidden: torch.Tensor, head: qt.Head, **given):
    return qt.linear_q_target_loss(hidden, head, case.labels, case.method, **{**case.evidence, **given})


def _gradients(case: Case, wanted: tuple[bool, ...], fused: bool, **given) -> list[torch.Tensor | None]:
    """Gradients of hidden, weight and bias, each a leaf that wants one or not."""
    leaves = [
        t.clone().requires_grad_(w)
        for t, w in zip((case.hidden, case.head.weight, case.head.bias), wanted, strict=True)
    ]
    hidden, head = leaves[0], case.head._replace(weight=leaves[1], bias=leaves[2])
    if fused:
        out = _fused(case, hidden, head, chunk_tokens=5, **given)
    else:
        out = qt.q_target_loss(head_logits(hidden, head), case.labels, case.method, **{**case.evidence, **given})
    out.loss.backward()
    return [leaf.grad for leaf in leaves]


@pytest.mark.parametrize(
    "head", [{}, {"bias": True, "softcap": 4.0, "scale": 0.7}], ids=["plain", "bias-softcap-scale"]
)
@pytest.mark.parametrize("row", every_row())
def test_law_04_fused_equals_dense_when_nothing_else_is_asked_for(row: Row, head: dict):
    """Diagnostics keep logits that training overwrites: this is the path that training takes."""
    case = Case(row, weighted=True, **head)
    results = []
    for fused in (False, True):
        leaves = [case.hidden.clone().requires_grad_(), case.head.weight.clone().requires_grad_()]
        own = case.head._replace(weight=leaves[1])
        if fused:
            out = _fused(case, leaves[0], own, chunk_tokens=8, diagnostics=())
        else:
            out = qt.q_target_loss(head_logits(leaves[0], own), case.labels, case.method, **case.evidence)
        out.loss.backward()
        results.append((out.loss.detach(), out.nll, *(leaf.grad for leaf in leaves)))
    for theirs, mine in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("row", every_row())
def test_a_diagnostic_alone_is_what_it_is_among_all(row: Row):
    case = Case(row, softcap=6.0)
    together = _fused(case, case.hidden, case.head, diagnostics=DIAGNOSTICS)
    for name in DIAGNOSTICS:
        alone = _fused(case, case.hidden, case.head, diagnostics=(name,)).diagnostics[name]
        torch.testing.assert_close(alone, together.diagnostics[name], equal_nan=True)


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
def test_each_gradient_alone(wanted: tuple[bool, ...]):
    case = Case(Row("dft", {}), bias=True)
    for mine, theirs, want in zip(_gradients(case, wanted, True), _gradients(case, wanted, False), wanted, strict=True):
        assert (mine is not None) == want
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("name", ["dft", "cft", "target-sft"])
def test_token_weights_of_any_type(name: str, dtype: torch.dtype):
    case = Case(Row(name, {}), dtype=torch.float32, bias=True)
    weight, wanted = torch.arange(T) % 3, (True, True, True)
    expected = _gradients(case, wanted, False, token_weight=weight.to(dtype).float())
    for fused in (False, True):
        for mine, theirs in zip(_gradients(case, wanted, fused, token_weight=weight.to(dtype)), expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16])
def test_labels_of_any_integer_type(dtype: torch.dtype):
    case = Case(Row("dft", {}))
    labels = case.labels.to(dtype)
    assert torch.equal(
        qt.linear_q_target_loss(case.hidden, case.head, labels, case.method).loss,
        qt.linear_q_target_loss(case.hidden, case.head, case.labels, case.method).loss,
    )
    assert qt.q_target_loss(case.logits, labels, case.method).loss.isfinite()


MIXED = [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)]


@pytest.mark.parametrize(("narrow", "wide"), MIXED)
@pytest.mark.parametrize("row", [Row("target-sft", {}), Row("prift", {"variant": "mass"})], ids=["pool", "definition"])
def test_hidden_states_and_head_of_two_types(row: Row, narrow: torch.dtype, wide: torch.dtype):
    case = Case(row, dtype=torch.float32)
    name = "teacher" if row.name == "target-sft" else "reference"
    source = case.evidence[name]
    mixed = qt.Dense(source.hidden.to(narrow), qt.Head(source.head.weight.to(wide)))
    widened = qt.Dense(mixed.hidden.float(), qt.Head(mixed.head.weight.float()))
    hidden, head = case.hidden.to(narrow), qt.Head(case.head.weight.to(wide))
    plain = qt.q_target_loss(head_logits(hidden.float(), qt.Head(head.weight.float())), case.labels, case.method,
                             **{name: mixed})  # fmt: skip
    expected = qt.q_target_loss(head_logits(hidden.float(), qt.Head(head.weight.float())), case.labels, case.method,
                                **{name: widened})  # fmt: skip
    torch.testing.assert_close(plain.loss, expected.loss)
    torch.testing.assert_close(_fused(case, hidden, head, **{name: mixed}).loss, expected.loss)


def test_only_the_loss_carries_a_gradient():
    case = Case(Row("target-sft", {}))
    out = _fused(case, case.hidden.clone().requires_grad_(), case.head)
    assert out.loss.requires_grad
    assert not any(t.requires_grad for t in (out.nll, *out.diagnostics.values()))


def test_no_gradient_reaches_the_sources():
    case = Case(Row("target-sft", {}))
    teacher = case.evidence["teacher"]
    hidden, weight, bias = (t.clone().requires_grad_() for t in (teacher.hidden, teacher.head.weight, torch.zeros(V)))
    source = qt.Dense(hidden, qt.Head(weight, bias))
    _fused(case, case.hidden.clone().requires_grad_(), case.head, teacher=source).loss.backward()
    qt.q_target_loss(case.logits.requires_grad_(), case.labels, case.method, teacher=source).loss.backward()
    assert hidden.grad is weight.grad is bias.grad is None


def test_a_second_derivative_through_a_function_of_the_loss_raises():
    """Its gradient buffers are constants: without a refusal the curvature would silently be left out."""
    case = Case(Row("dft", {}))
    hidden = case.hidden.clone().requires_grad_()
    (first,) = torch.autograd.grad(_fused(case, hidden, case.head).loss ** 2, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_a_certain_label_keeps_its_digits_in_fp32():
    """log p_y is near 0 there, and the logits' own last digit is far larger."""
    gaps = torch.tensor([4.0, 8.0, 12.0, 14.0])
    logits = torch.full((4, 6), 60.0).scatter(1, torch.zeros(4, 1, dtype=torch.long), (60 + gaps)[:, None])
    labels = torch.zeros(4, dtype=torch.long)
    truth = -logits.double().log_softmax(-1)[:, 0]
    out = qt.linear_q_target_loss(logits, qt.Head(torch.eye(6)), labels, qt.method("sft"), diagnostics=("p_y",))
    torch.testing.assert_close(out.nll.double(), truth.mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(out.p_y.double(), (-truth).exp(), rtol=5e-7, atol=0)


def test_fp16_gradients_beyond_its_range_are_divided_before_they_are_narrowed():
    hidden, labels = torch.full((20, 2), 30000.0).half(), torch.full((20,), 4)
    weight = torch.zeros(V, 2).half().requires_grad_()
    qt.linear_q_target_loss(hidden, qt.Head(weight), labels, qt.method("sft"), num_items=1e4).loss.backward()
    expected = torch.full((V, 2), 30000 * 20 / V / 1e4)
    expected[4] -= 30000 * 20 / 1e4
    torch.testing.assert_close(weight.grad.float(), expected, rtol=2e-3, atol=0)


def test_all_masked_has_an_nll_of_zero():
    case = Case(Row("sft", {}))
    labels = torch.full((T,), -100)
    assert qt.linear_q_target_loss(case.hidden, case.head, labels, case.method).nll == 0
    assert qt.q_target_loss(case.logits, labels, case.method).nll == 0


@pytest.mark.parametrize("name", ["sft", "talr", "iw-sft"])
def test_in_training_nll_leaves_weightless_tokens_out_in_every_scope(name: str):
    case = Case(Row(name, {}))
    weight = (torch.arange(T) % 2).double()
    trained = _fused(case, case.hidden.clone().requires_grad_(), case.head, token_weight=weight)
    plain = qt.q_target_loss(
        case.logits.requires_grad_(), case.labels, case.method, **{**case.logit_evidence, "token_weight": weight}
    )
    counted = case.supervised & (weight > 0)
    nll = torch.nn.functional.cross_entropy(case.logits.detach()[counted], case.labels[counted])
    for out in (trained, plain):
        assert out.num_tokens == counted.sum()
        torch.testing.assert_close(out.nll, nll)


@pytest.mark.parametrize("name", ["kd", "target-sft"])
def test_a_sparse_teacher_with_a_tail_where_the_student_is_all_but_certain(name: str):
    """p_tail below the smallest float: the tail is still shaped as the student's, never spread over everything."""
    logits = torch.tensor([[0.0, -120.0, -121.0, -122.0]])
    teacher = qt.Sparse(torch.tensor([[0]]), torch.tensor([[0.9]]).log(), torch.tensor([0.1]).log())
    q = [
        qt.target_distribution(logits.to(dtype), torch.tensor([0]), qt.method(name), teacher=teacher).q
        for dtype in (torch.float32, torch.float64)
    ]
    torch.testing.assert_close(q[0].double(), q[1], rtol=1e-4, atol=1e-7)


def test_a_rule_may_read_the_teachers_entropy():
    """Trust the label where the teacher is undecided: evidence is asked for, and both paths agree."""
    gate = qt.Rule("H(t)", (qt.statistics.teacher_entropy(0),), lambda h: 1 - (-h).exp())
    gated = qt.Method("gated", gate, ((1 - gate, qt.Pool(student=1.0)),))
    assert gated.needs == {"teacher"}
    assert gated.num_teachers == 1
    assert not gated.label_only
    case = Case(Row("kd", {}))
    fused = qt.linear_q_target_loss(
        case.hidden, case.head, case.labels, gated, teacher=case.evidence["teacher"], chunk_tokens=4
    )
    plain = qt.q_target_loss(case.logits, case.labels, gated, teacher=case.evidence["teacher"])
    torch.testing.assert_close(fused.loss, plain.loss)
    torch.testing.assert_close(fused.trust, plain.trust, equal_nan=True)


@pytest.mark.parametrize("name", ["talr", "iw-sft", "entropy-selected"])
def test_weightless_tokens_shape_what_looks_beyond_a_token_in_training_as_in_evaluation(name: str):
    case, weight = Case(Row(name, {})), (torch.arange(T) % 2).double()
    trained = _fused(case, case.hidden.clone().requires_grad_(), case.head, token_weight=weight, chunk_tokens=4)
    evaluated = _fused(case, case.hidden, case.head, token_weight=weight)
    torch.testing.assert_close(trained.loss.detach(), evaluated.loss)
    torch.testing.assert_close(trained.trust, evaluated.trust, equal_nan=True)


def test_weightless_tokens_are_dropped_in_training_where_none_looks_at_them():
    case, weight = Case(Row("dft", {})), (torch.arange(T) % 2).double()
    trained = _fused(case, case.hidden.clone().requires_grad_(), case.head, token_weight=weight)
    assert torch.equal(trained.trust.isnan(), ~case.supervised | (weight == 0))


def test_target_kl_survives_a_trust_that_rounding_leaves_above_one():
    """As psft's ratio right after a refresh, 1 up to the last digit: Q is the label."""
    case, trust = Case(Row("sft", {}), dtype=torch.float32), 1 + 5e-7
    method = qt.Method("rounded", trust, ((1 - trust, qt.Pool(student=1.0)),))
    out = qt.linear_q_target_loss(case.hidden, case.head, case.labels, method, diagnostics=("target_kl", "p_y"))
    torch.testing.assert_close(out.target_kl, -out.p_y.log(), rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("trust", [1.5, -0.5])
def test_target_kl_is_nan_where_label_or_rest_is_below_zero(trust: float):
    case = Case(Row("sft", {}))
    method = qt.Method("improper", trust, ((1 - trust, qt.Pool()),))
    out = qt.linear_q_target_loss(case.hidden, case.head, case.labels, method, diagnostics=("target_kl",))
    assert out.target_kl.isnan().all()


@pytest.mark.parametrize("name", ["kd", "target-sft"])
def test_a_sparse_teacher_that_keeps_what_the_student_cannot_produce(name: str):
    """Kept tokens ruled out by the student's bias, and kept tokens of no probability at all."""
    case = Case(Row(name, {}), bias=True)
    case.labels[:] = case.labels.where(case.labels < 0, 5)
    case.head.bias[[0, 2]] = -torch.inf
    logprobs = torch.tensor([0.4, 0.3, 0.0, 0.2]).double().log().expand(T, 4)
    teacher = qt.Sparse(torch.arange(4).expand(T, 4), logprobs, torch.full((T,), 0.1).double().log())
    wanted = (True, True, False)
    for mine, theirs in zip(
        _gradients(case, wanted, True, teacher=teacher), _gradients(case, wanted, False, teacher=teacher), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_top1_is_the_definitions():
    case = Case(Row("sft", {}))
    fused = _fused(case, case.hidden, case.head, diagnostics=("top1",)).top1
    torch.testing.assert_close(fused, qt.q_target_loss(case.logits, case.labels, case.method).top1, equal_nan=True)
    assert set(fused[case.supervised].tolist()) == {0.0, 1.0}


def test_a_teacher_of_the_students_shape_in_bf16_with_a_bias(monkeypatch):
    monkeypatch.setattr(matmul, "bf16_is_fast", lambda: False)  # products in fp32, to compare exactly
    case = Case(Row("kd", {}), dtype=torch.bfloat16, bias=True)
    teacher = qt.Dense(case.hidden.flip(0), qt.Head(case.head.weight.flip(0), case.head.bias.flip(0)))
    logits = head_logits(teacher.hidden.float(), qt.Head(teacher.head.weight.float(), teacher.head.bias.float()))
    student = head_logits(case.hidden.float(), qt.Head(case.head.weight.float(), case.head.bias.float()))
    expected = qt.q_target_loss(student, case.labels, case.method, teacher=logits).loss
    torch.testing.assert_close(_fused(case, case.hidden, case.head, teacher=teacher).loss, expected)


def test_token_weights_are_checked_and_constant():
    case, weight = Case(Row("dft", {})), torch.ones(T).double()
    weight[~case.supervised] = torch.nan
    logits = case.logits.requires_grad_()
    weight.requires_grad_()
    qt.q_target_loss(logits, case.labels, case.method, token_weight=weight).loss.backward()
    assert weight.grad is None
    with pytest.raises(ValueError, match="finite and >= 0"):
        qt.q_target_loss(logits, case.labels, case.method, token_weight=torch.full((T,), torch.inf))


@pytest.mark.parametrize(("name", "source"), [("asft", "reference"), ("kd", "teacher")])
def test_whole_logits_are_refused(name: str, source: str):
    case = Case(Row(name, {}))
    whole = case.logits if source == "reference" else (case.logits,)
    with pytest.raises(ValueError, match=f"{source} is a tensor of logits"):
        _fused(case, case.hidden, case.head, **{source: whole})


def test_a_head_that_is_no_matrix_is_refused():
    case = Case(Row("sft", {}))
    with pytest.raises(ValueError, match=r"head\.weight has shape"):
        _fused(case, case.hidden, qt.Head(torch.randn(6)))


@pytest.mark.parametrize("mkl_is_slow", [True, False])
def test_large_products_by_either_library(mkl_is_slow: bool, monkeypatch):
    """Products large enough for oneDNN, where the CPU can use it, in blocks that do not divide the vocabulary."""
    monkeypatch.setattr(matmul, "mkl_is_slow", lambda: mkl_is_slow)
    draw = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 256, generator=draw, dtype=torch.float64) for n in (160, 5000))
    labels, found = torch.randint(0, 5000, (160,), generator=draw), []
    for dtype in (torch.float32, torch.float64):
        leaves = [t.to(dtype, copy=True).requires_grad_() for t in (hidden, weight / 16)]
        loss = qt.linear_q_target_loss(leaves[0], qt.Head(leaves[1]), labels, qt.method("dft"), chunk_tokens=100).loss
        found.append([g.double() for g in torch.autograd.grad(loss, leaves)])
    for mine, exact in zip(*found, strict=True):
        assert (mine - exact).norm() <= 1e-5 * exact.norm()


@pytest.mark.parametrize("left", [1e-3, 1e-5, 1e-7])
def test_a_label_to_avoid_keeps_its_digits_where_the_student_is_all_but_sure_of_it(left: float):
    """−log(1 − p_y) moves the label by p_y and the others by their shares, however little they have."""
    logits = torch.zeros(2, 5).index_fill(1, torch.tensor([2]), float(torch.tensor(4 / left).log()))
    hidden, labels, weight = logits.requires_grad_(), torch.tensor([2, 2]), torch.tensor([-1.0, -3.0])
    out = qt.linear_q_target_loss(
        hidden, qt.Head(torch.eye(5)), labels, qt.method("unlikelihood"), token_weight=weight, num_items=1
    )
    out.loss.backward()
    expected = torch.tensor([-0.25, -0.25, 1.0, -0.25, -0.25]) * -weight[:, None]
    torch.testing.assert_close(hidden.grad, expected, rtol=2e-3, atol=0)
    assert out.num_tokens == 0


def test_negative_weights_are_refused_where_they_mean_nothing():
    for name in ("sft", "dft", "cft"):
        case = Case(Row(name, {}), bias=True)
        for fused in (False, True):
            with pytest.raises(ValueError, match=f'"{name}" has no meaning for a negative one.*"unlikelihood"'):
                _gradients(case, (True, True, True), fused, token_weight=-torch.ones(T))


def test_nll_averages_the_tokens_to_learn():
    case = Case(Row("unlikelihood", {}))
    weight = case.evidence["token_weight"]
    out = _fused(case, case.hidden.clone().requires_grad_(), case.head)
    learned = case.supervised & (weight > 0)
    logp = case.logits.log_softmax(-1).gather(-1, case.labels.clamp(min=0)[:, None]).squeeze(-1)
    assert out.num_tokens == learned.sum()
    torch.testing.assert_close(out.nll, -logp[learned].mean())
    assert out.loss.isfinite()
