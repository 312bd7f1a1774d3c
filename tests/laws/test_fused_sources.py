"""Law 4 where sources meet: several teachers of any kind, one teacher in several pools. Law 7 at the corners."""

import pytest
import torch
from laws.cases import Case, T, V, every_row
from laws.papers import Row
from laws.test_fused import _assert_equal, _both, _sparse

import qtarget as qt
from qtarget.target import value
from qtarget.target.rule import Rule

TWO = [
    Row("kd", {"teacher_weights": (0.4, 0.6)}),
    Row("kd-hybrid", {"teacher_weight": (0.3, 0.4)}),
    Row("target-sft", {"eta": (0.3, 0.4)}),
]


@pytest.mark.parametrize("kinds", ["dense dense", "sparse sparse", "dense sparse", "sparse dense"])
@pytest.mark.parametrize("row", TWO, ids=lambda row: row.name)
def test_law_04_two_teachers_of_any_kind(row: Row, kinds: str):
    case = Case(row, weighted=True)
    given = zip(case.evidence["teacher"], kinds.split(), strict=True)
    teachers = tuple(dense if kind == "dense" else _sparse(dense, 5) for dense, kind in given)
    _assert_equal(*_both(case, 6, teacher=teachers))


POOLS = (qt.Pool(teachers=(1.0,)), qt.Pool(teachers=(0.5,)), qt.Pool(student=0.5, teachers=(0.5,)))
DIVERGENCES: Rule = value.kl(POOLS[0]) + value.kl(POOLS[1]) + value.kl(POOLS[2]) + value.nll()


@pytest.mark.parametrize("stated", [DIVERGENCES, None], ids=["divergences", "cross entropy"])
@pytest.mark.parametrize("chunk_tokens", [T, 5])
def test_law_04_one_teacher_in_three_pools(chunk_tokens: int, stated: Rule | None):
    """With and without statistics that need a pool's exponents kept beside it."""
    case = Case(Row("kd", {}))
    case.__dict__["method"] = qt.Method("shared", 0.2, tuple(zip((0.3, 0.3, 0.2), POOLS, strict=True)), value=stated)
    _assert_equal(*_both(case, chunk_tokens))


@pytest.mark.parametrize("name", ["kd", "target-sft"])
def test_law_04_only_the_leading_rows_of_a_teacher_are_tokens(name: str):
    case = Case(Row(name, {}))
    teacher = case.evidence["teacher"]
    plain, fused = _both(case, 6, teacher=qt.Dense(teacher.hidden, teacher.head, vocab=V - 5))
    _assert_equal(plain, fused)
    assert (plain[0].loss - _both(case, 6)[0][0].loss).abs() > 1e-6


def test_law_04_more_likeliest_tokens_than_there_are():
    _assert_equal(*_both(Case(Row("eaft", {"top_k": V + 11})), 6))


@pytest.mark.parametrize("row", every_row(catalogue_only=True))
def test_law_07_no_nan_at_certain_and_impossible_labels_fused(row: Row):
    """Logits so far apart that p_y is exactly 1 at some tokens and exactly 0 at others."""
    case = Case(row, weighted=True)
    label = torch.nn.functional.one_hot(case.labels.clamp(min=0), V).double()
    hidden = (2e3 * (torch.arange(T) % 2 * 2 - 1).double()[:, None] * label).requires_grad_()
    head = qt.Head(torch.eye(V, dtype=torch.float64).requires_grad_())
    far = {"reference": qt.Dense(torch.randn(T, V).double(), head)} if "reference" in case.method.needs else {}
    diagnostics = ("trust", "scale", "p_y", "entropy", "top1")
    out = qt.linear_q_target_loss(
        hidden, head, case.labels, case.method, **{**case.evidence, **far}, chunk_tokens=5, diagnostics=diagnostics
    )
    out.loss.backward()
    measured = ~out.p_y.isnan()  # weightless tokens are not
    assert set(out.p_y[measured].tolist()) == {0.0, 1.0}
    assert out.loss.isfinite()
    assert hidden.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()
    assert all(out.diagnostics[d][measured].isfinite().all() for d in diagnostics)
