"""Laws 4, 5, 7 and 8 through the kernels: the same numbers as the definition, for every method."""

from dataclasses import fields, replace

import pytest
import torch
from laws.cases import IGNORED, Case, T, V, every_row
from laws.papers import Row
from laws.test_fused import _gradients, _leaves, _sparse
from laws.test_kept import shortened

import qtarget as qt
from qtarget.fused import products as matmul
from qtarget.target.kept_tokens import temperature_for
from qtarget.target.source_logits import head_logits

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NOT_MEASURED = {"token_weight", "sequence_ids", "progress", "position", "trust", "scale"}
"""Statistics that the data brings, or the method."""
DTYPES = (torch.float64, torch.float32)
FEW = 5
"""Tokens a case keeps: the interpreter takes its time with each row. Some of them are ignored, or without weight."""
DIAGNOSTICS = ("trust", "scale", "p_y", "top1", "entropy")


def is_for_kernels(method: qt.Method) -> bool:
    """Whether no pool has a potential, a log-linear tangent or a slope of one's own, and all that it reads has a fast
    twin: a value that a tangent's own E[log p] is in has none."""
    if any(pool.slope is not None and pool.slope.name == "hellinger" for pool in method.pools):
        return False
    plain = all(pool.potential is None and not isinstance(pool.tangent, qt.Pool) for pool in method.pools)
    plain = plain and (method.value is not None or all(pool.tangent is None for pool in method.pools))
    return plain and {s.name for s in method.reads if s.moment is None} <= NOT_MEASURED


def few(case: Case) -> Case:
    case.labels[FEW:] = -100
    return case


def moved(value, device=DEVICE):
    """Tensors inside evidence and heads, elsewhere."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, qt.Head):
        return value._replace(weight=moved(value.weight), bias=None if value.bias is None else moved(value.bias))
    if isinstance(value, tuple):
        return tuple(map(moved, value))
    if isinstance(value, qt.Dense | qt.Sparse | qt.LabelOnly):
        return type(value)(**{f.name: moved(getattr(value, f.name)) for f in fields(value)})
    return value


def by_kernels(case: Case, **given):
    """(output, gradients) of the fused loss in single precision, on the kernels' device; ignored tokens are NaN."""
    poison = torch.zeros(T, 1).index_fill(0, torch.tensor(IGNORED), torch.nan)
    hidden, head, leaves = _leaves(case)
    out = qt.linear_q_target_loss(
        moved(hidden + poison),
        moved(head),
        moved(case.labels),
        case.method,
        **{name: moved(value) for name, value in {**case.evidence, **given}.items()},
        chunk_tokens=3,
        diagnostics=DIAGNOSTICS,
    )
    out.loss.backward()
    return out, [leaf.grad for leaf in leaves]


def by_definition(case: Case, **given):
    """The same by the definition, in the case's own precision."""
    hidden, head, leaves = _leaves(case)
    out = qt.q_target_loss(head_logits(hidden, head), case.labels, case.method, **{**case.evidence, **given})
    out.loss.backward()
    return out, [leaf.grad for leaf in leaves]


def assert_close(mine: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-5):
    """Within a share of the norm; NaN in the same places."""
    mine, theirs = mine.detach().double().cpu(), theirs.detach().double()
    assert torch.equal(mine.isnan(), theirs.isnan())
    error, size = (mine - theirs).nan_to_num().norm(), theirs.nan_to_num().norm()
    assert error <= tolerance * size + 1e-7, f"off by {error / (size + 1e-30):.2g} of the norm"


def assert_same(kernels, definition, tolerance: float = 1e-5):
    (mine, gradients), (theirs, expected) = kernels, definition
    for name in ("loss", "nll", "num_tokens", *DIAGNOSTICS):
        assert_close(getattr(mine, name), getattr(theirs, name), tolerance)
    for own, other in zip(gradients, expected, strict=True):
        assert_close(own, other, tolerance)


@pytest.mark.parametrize("row", every_row())
def test_law_04_and_05_kernels_equal_the_definition(row: Row, on_kernels):
    """And run wherever they are meant to."""
    single, double = few(Case(row, dtype=torch.float32, weighted=True)), few(Case(row, weighted=True))
    assert_same(by_kernels(single), by_definition(double))
    assert bool(on_kernels) == is_for_kernels(single.method)


@pytest.mark.parametrize("row", every_row())
def test_law_04_kernels_equal_the_definition_with_any_output_layer(request, row: Row, on_kernels):
    """A scale, a softcap, a bias; and without the softcap, which would lift them again, tokens ruled out."""
    softcap = 4.0 if sum(map(ord, request.node.callspec.id)) % 2 else None
    single, double = (
        few(Case(row, seed=1, bias=True, softcap=softcap, scale=0.7, dtype=t)) for t in (torch.float32, torch.float64)
    )
    free = torch.ones(V, dtype=torch.bool).index_fill(0, double.labels.clamp(min=0), False)
    for case in (single, double):
        case.head.bias[free & (torch.arange(V) % 2 == 0)] = -torch.inf
    assert_same(by_kernels(single), by_definition(double))
    assert bool(on_kernels) == is_for_kernels(single.method)


@pytest.mark.parametrize("row", every_row(catalogue_only=True))
def test_law_07_certain_and_impossible_labels(row: Row, on_kernels):
    """Logits so far apart that p_y is exactly 1 at some tokens and exactly 0 at others."""
    case = few(Case(row, weighted=True, dtype=torch.float32))
    label = torch.nn.functional.one_hot(case.labels.clamp(min=0), V).float()
    hidden, head, given = (
        2e3 * (torch.arange(T) % 2 * 2 - 1).float()[:, None] * label,
        qt.Head(torch.eye(V)),
        case.evidence,
    )
    if "reference" in case.method.needs:
        given["reference"] = qt.Dense(torch.randn(T, V), head)
    case.__dict__.update(hidden=hidden, head=head)
    out, gradients = by_kernels(case)
    measured = ~out.p_y.isnan()
    assert set(out.p_y[measured].tolist()) == {0.0, 1.0}
    assert out.loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(out.diagnostics[name][measured].isfinite().all() for name in DIAGNOSTICS)


@pytest.mark.parametrize("row", every_row())
def test_law_08_bf16_logits_and_gradients(row: Row, on_kernels, monkeypatch):
    """The products, the logits and the gradient over them in bf16, as on a GPU; no rule is near a jump here."""
    case = few(Case(row, seed=1))
    exact, plain = _gradients(case, torch.float64, fused=False), _gradients(case, torch.bfloat16, fused=False)
    rounded = few(Case(row, seed=1, dtype=torch.bfloat16))
    monkeypatch.setattr(matmul, "_operand", lambda hidden, weight, widest: torch.bfloat16)
    _, mine = by_kernels(rounded)
    for e, p, m in zip(exact, plain, mine, strict=True):
        assert (m.double() - e).norm() <= 1.05 * (p - e).norm() + 6e-3 * (e.norm() + 1e-6)


def test_a_certain_labels_gradient_keeps_its_digits(on_kernels):
    """p_y − 1 is smaller than its rounding there."""
    logits = torch.zeros(3, 6).scatter(1, torch.zeros(3, 1, dtype=torch.long), torch.tensor([[10.0], [14.0], [20.0]]))
    hidden, labels = logits.clone().requires_grad_(), torch.zeros(3, dtype=torch.long)
    out = qt.linear_q_target_loss(moved(hidden), moved(qt.Head(torch.eye(6))), moved(labels), qt.method("sft"))
    out.loss.backward()
    exact = logits.double().requires_grad_()
    qt.q_target_loss(exact, labels, qt.method("sft")).loss.backward()
    torch.testing.assert_close(hidden.grad.double(), exact.grad, rtol=1e-5, atol=0)
    assert on_kernels


SPARSE = [
    Row("kd", {}), Row("kd", {"temperature": 2.0}), Row("kd-hybrid", {}), Row("target-sft", {"eta": 0.3}),
    Row("kd", {"teacher_temperature": 0.5}), Row("target-sft", {"eta": 0.3, "teacher_temperature": 0.5}),
    *(Row(name, {}) for name in ("reverse-kl", "jsd", "skew-kl", "skew-reverse-kl", "todi", "tvd")),
]  # fmt: skip


@pytest.mark.parametrize("kept", [1, 4, V])
@pytest.mark.parametrize("row", SPARSE, ids=str)
def test_law_04_from_a_sparse_teacher(row: Row, kept: int, on_kernels):
    """With a softcap: the slope of a kept token is worked out beside the kernels."""
    double = few(Case(row, weighted=True, softcap=4.0))
    single = few(Case(row, weighted=True, softcap=4.0, dtype=torch.float32))
    teacher = _sparse(double.evidence["teacher"], kept, temperature_for(double.method, "teacher 0"))
    assert_same(by_kernels(single, teacher=teacher), by_definition(double, teacher=teacher))
    assert bool(on_kernels) == (row.hyperparameters.get("temperature") is None)  # two pools read the logits there


@pytest.mark.parametrize("name", ["kd", "kd-hybrid", "target-sft", "jsd"])
def test_law_04_from_a_sparse_teacher_of_which_some_slots_are_empty(name: str, on_kernels):
    double, single = (few(Case(Row(name, {}), weighted=True, softcap=4.0, dtype=t)) for t in DTYPES)
    kept = _sparse(double.evidence["teacher"], 5, temperature_for(double.method, "teacher 0"))
    teacher = shortened(kept, torch.arange(T) % 5 + 1)
    assert_same(by_kernels(single, teacher=teacher), by_definition(double, teacher=teacher))
    assert on_kernels


@pytest.mark.parametrize("kept", [1, 4])
def test_law_04_a_pool_and_a_slope_of_one_sparse_teacher(kept: int, on_kernels):
    row = Row("entropy-aware-kl", {"threshold": 2.2})
    single, double = (few(Case(row, weighted=True, softcap=4.0, dtype=t)) for t in (torch.float32, torch.float64))
    dense = double.evidence["teacher"]
    logp = head_logits(dense.hidden, dense.head).log_softmax(-1)
    teacher = replace(_sparse(dense, kept), entropy=-(logp.exp() * logp).sum(-1))
    assert_same(by_kernels(single, teacher=teacher), by_definition(double, teacher=teacher))
    assert on_kernels


@pytest.mark.parametrize("name", ["kd", "kd-hybrid", "target-sft"])
def test_law_04_sparse_teacher_where_the_student_leaves_its_tail_almost_nothing(name: str, on_kernels):
    case = few(Case(Row(name, {})))
    hidden = torch.zeros(T, V, dtype=torch.float64).scatter(-1, torch.arange(T)[:, None] % V, 30.0)
    ids = (torch.arange(T)[:, None] + torch.arange(3)) % V
    logprobs = torch.tensor([0.5, 0.3, 0.1]).double().log().expand(T, 3)
    teacher = qt.Sparse(ids, logprobs, torch.full((T,), 0.1).double().log())
    exact = hidden.clone().requires_grad_()
    qt.q_target_loss(exact, case.labels, case.method, teacher=teacher).loss.backward()
    mine = hidden.float().requires_grad_()
    head = qt.Head(torch.eye(V))
    qt.linear_q_target_loss(
        moved(mine), moved(head), moved(case.labels), case.method, teacher=moved(teacher)
    ).loss.backward()
    torch.testing.assert_close(mine.grad.double(), exact.grad, rtol=1e-4, atol=1e-8)
    assert on_kernels


@pytest.mark.parametrize("name", ["psft", "prift", "excess-loss-selected"])
def test_law_04_from_a_reference_of_labels_only(name: str, on_kernels):
    single, double = (few(Case(Row(name, {}), dtype=t)) for t in (torch.float32, torch.float64))
    reference = double.evidence["reference"]
    whole = head_logits(reference.hidden, reference.head).log_softmax(-1)
    label = qt.LabelOnly(whole.gather(-1, double.labels.clamp(min=0)[:, None]).squeeze(-1))
    assert_same(by_kernels(single, reference=label), by_definition(double))
    assert on_kernels


@pytest.mark.parametrize("name", ["dft", "target-sft", "talr"])
def test_law_04_per_token_losses_under_upstream_gradients(name: str, on_kernels):
    upstream, results = torch.linspace(-1, 2, T, dtype=torch.float64), []
    for dtype in (torch.float32, torch.float64):
        case = few(Case(Row(name, {}), dtype=dtype))
        hidden, head, leaves = _leaves(case)
        logits = head_logits(hidden, head)
        if dtype == torch.float32:
            given = {k: moved(v) for k, v in case.evidence.items()}
            args = (moved(hidden), moved(head), moved(case.labels), case.method)
            loss = qt.linear_q_target_loss(*args, **given, reduction="none", chunk_tokens=3).loss
            (loss * moved(upstream)).sum().backward()
        else:
            z = logits.detach().requires_grad_()
            qt.q_target_loss(z, case.labels, case.method, **case.evidence, num_items=1).loss.backward()
            logits.backward(z.grad * upstream[:, None])
        results.append([leaf.grad for leaf in leaves])
    for mine, theirs in zip(*results, strict=True):
        assert_close(mine, theirs)
    assert on_kernels


def test_nothing_supervised(on_kernels):
    for name in ("sft", "talr"):
        case = Case(Row(name, {}), dtype=torch.float32)
        case.labels[:] = -100
        out, gradients = by_kernels(case)
        assert out.loss == 0
        assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize(
    ("name", "closed"), [("dft", True), ("target-sft", True), ("label-smoothing", True), ("gem", False)]
)
def test_divergence_and_teacher_entropy(name: str, closed: bool, on_kernels):
    """KL(Q‖p) of a single residual comes from its sums; of several, Q is built, and that is for torch."""
    single, double = (few(Case(Row(name, {}), bias=True, dtype=t)) for t in (torch.float32, torch.float64))
    asked = ("target_kl", *(["teacher_entropy"] if "teacher" in single.method.needs else []))
    hidden, head, _ = _leaves(single)
    given = {k: moved(v) for k, v in single.evidence.items()}
    out = qt.linear_q_target_loss(
        moved(hidden), moved(head), moved(single.labels), single.method, **given, diagnostics=asked
    )
    out.loss.backward()
    assert_close(out.target_kl, by_definition(double)[0].target_kl, 1e-4)
    assert bool(on_kernels) == closed
    if "teacher_entropy" in asked:
        logp = head_logits(double.evidence["teacher"].hidden, double.evidence["teacher"].head).log_softmax(-1)
        entropy = -(logp.exp() * logp).sum(-1).masked_fill(double.labels == -100, torch.nan)
        assert_close(out.teacher_entropy, entropy)


def test_in_a_compiled_step(on_kernels):
    case = few(Case(Row("target-sft", {}), dtype=torch.float32))
    given = {"teacher": moved(case.evidence["teacher"])}

    def step(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return qt.linear_q_target_loss(2 * hidden, qt.Head(weight), moved(case.labels), case.method, **given).loss

    results = []
    for run in (step, torch.compile(step, backend="aot_eager")):
        hidden, head, leaves = _leaves(case)
        run(moved(hidden), moved(head.weight)).backward()
        results.append([leaf.grad for leaf in leaves])
    assert len(on_kernels) == 2
    for eager, compiled in zip(*results, strict=True):
        assert_close(compiled, eager)
