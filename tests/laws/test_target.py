"""Laws 1 to 3 and 5 to 7, on the definition: what a target is, and what its gradient is."""

import math

import pytest
import torch
from laws.cases import IGNORED, Case, T, V, as_tuple, every_row, name_of
from laws.oracle import Limit, Row
from laws.papers import PAPERS

import qtarget as qt
from qtarget.target.evidence import CallInputs
from qtarget.target.frame import Frame
from qtarget.target.inputs import supervised_tokens
from qtarget.target.source_logits import head_logits
from qtarget.target.statistics import head_share


def _strict(case: Case, **changes) -> torch.Tensor:
    given = {**case.logit_evidence, **changes}
    return qt.target_distribution(case.logits, case.labels, case.method, **given, reading="strict").q


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("row", every_row())
def test_law_01_simplex(row: Row, weighted: bool):
    case = Case(row, weighted=weighted)
    for reading in ("declared", "strict", "minimal"):
        target = qt.target_distribution(case.logits, case.labels, case.method, **case.logit_evidence, reading=reading)
        q, proper = target.q[case.supervised], target.is_proper[case.supervised]
        torch.testing.assert_close(q.sum(-1), torch.ones(len(q), dtype=q.dtype), rtol=0, atol=1e-9)
        assert (q[proper] >= -1e-12).all()
        assert (q[~proper] < -1e-12).any(-1).all()
        assert target.q[IGNORED].isnan().all()
        assert reading != "minimal" or proper.all()
        if reading != "declared":
            label = q.gather(-1, case.labels[case.supervised][:, None]).squeeze(-1)
            torch.testing.assert_close(target.trust[case.supervised], label)


@pytest.mark.parametrize("name", [name for name, paper in PAPERS.items() if paper.proper])
def test_law_01_methods_said_to_be_proper_are(name: str):
    case = Case(Row(name, {}))
    target = qt.target_distribution(case.logits, case.labels, case.method, **case.logit_evidence)
    assert target.is_proper[case.supervised].all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("row", every_row())
def test_law_02_gradient_is_scale_times_p_minus_q(row: Row, weighted: bool):
    case = Case(row, weighted=weighted)
    logits = case.logits.clone().requires_grad_()
    out = qt.q_target_loss(logits, case.labels, case.method, **case.logit_evidence, num_items=1)
    out.loss.backward()
    p = case.logits.softmax(-1)
    for reading in ("declared", "strict", "minimal"):
        target = qt.target_distribution(case.logits, case.labels, case.method, **case.logit_evidence, reading=reading)
        gradient = (target.scale[..., None] * (p - target.q))[case.supervised]
        torch.testing.assert_close(logits.grad[case.supervised], gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("row", every_row(catalogue_only=True))
def test_law_03_paper_identity(row: Row, weighted: bool):
    case, rows = Case(row, weighted=weighted), None
    rows = case.supervised
    paper = qt.induced_target(lambda z: case.paper_loss(z, rows), case.logits)
    torch.testing.assert_close(_strict(case)[rows], paper[rows], rtol=1e-7, atol=1e-10)
    value = qt.q_target_loss(case.logits, case.labels, case.method, **case.logit_evidence, num_items=1).loss
    torch.testing.assert_close(value, case.paper_loss(case.logits, rows).sum(), rtol=1e-8, atol=1e-10)


def test_law_03_iw_sft_with_weights_computed_beforehand():
    case = Case(Row("iw-sft", {}))
    weight = (torch.arange(T) // 6).double()
    strict = qt.target_distribution(case.logits, case.labels, case.method, token_weight=weight, reading="strict").q[
        case.supervised
    ]
    rows = case.supervised
    loss = PAPERS["iw-sft"].without_reference
    paper = qt.induced_target(lambda z: loss(z[rows], case.labels[rows], token_weight=weight[rows]), case.logits)
    torch.testing.assert_close(strict, paper[rows], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("row", every_row())
def test_law_05_masked_tokens_contribute_nothing(row: Row):
    case = Case(row, weighted=True)
    poison = torch.zeros(T, V, dtype=case.dtype).index_fill(0, torch.tensor(IGNORED[:2]), torch.inf)
    poison = poison.index_fill(0, torch.tensor(IGNORED[2:]), torch.nan)
    evidence = {
        k: tuple(t + poison for t in as_tuple(v)) if k == "teacher" else v + poison if k == "reference" else v
        for k, v in case.logit_evidence.items()
    }
    clean, poisoned = case.logits.clone().requires_grad_(), (case.logits + poison).requires_grad_()
    expected = qt.q_target_loss(clean, case.labels, case.method, **case.logit_evidence)
    got = qt.q_target_loss(poisoned, case.labels, case.method, **evidence)
    expected.loss.backward()
    got.loss.backward()
    assert torch.equal(got.loss, expected.loss)
    assert torch.equal(poisoned.grad, clean.grad)
    assert (poisoned.grad[IGNORED] == 0).all()


@pytest.mark.failure_case(9)
def test_law_05_all_tokens_masked_give_zero_with_a_gradient():
    logits = torch.randn(4, V, requires_grad=True)
    out = qt.q_target_loss(logits, torch.full((4,), -100), qt.method("sft"))
    out.loss.backward()
    assert out.loss == 0
    assert out.num_tokens == 0
    assert (logits.grad == 0).all()


LIMITS = [(name, limit.other, limit) for name, paper in PAPERS.items() for limit in paper.limits]
"""Pairs whose gradients agree, at the place that the limit states."""


@pytest.mark.parametrize(("name", "other", "limit"), LIMITS)
def test_law_06_limits(name: str, other: str, limit: Limit):
    case, becomes = Case(Row(name, limit.settings)), qt.method(other, **limit.other_settings)
    logits, given = case.logits, case.logit_evidence
    if limit.place is not None:
        logits, given = limit.place(logits, given)
    needed = {k: v for k, v in given.items() if k in becomes.needs and k != "token_weight"}
    target = qt.target_distribution(logits, case.labels, case.method, **given, reading="strict").q
    expected = qt.target_distribution(logits, case.labels, becomes, **needed, reading="strict").q
    p, rows = logits.softmax(-1), case.supervised
    if limit.where is not None:
        rows = rows & limit.where(p.gather(-1, case.labels.clamp(min=0)[:, None]).squeeze(-1))
    torch.testing.assert_close(
        (p - target)[rows], limit.factor * (p - expected)[rows], rtol=limit.tolerance, atol=limit.tolerance
    )


def test_law_06_eta_one_is_hybrid_distillation_with_trust_p_y():
    case = Case(Row("target-sft", {"eta": 1.0}))
    target = qt.target_distribution(case.logits, case.labels, case.method, **case.logit_evidence)
    p_y = case.logits.softmax(-1).gather(-1, case.labels.clamp(min=0)[:, None])
    onehot = torch.nn.functional.one_hot(case.labels.clamp(min=0), V)
    expected = p_y * onehot + (1 - p_y) * case.logit_evidence["teacher"].softmax(-1)
    torch.testing.assert_close(target.q[case.supervised], expected[case.supervised])


def test_law_06_covers_every_method():
    """sft and dft are what the others turn into."""
    assert {name for name, *_ in LIMITS} | {"sft", "dft"} == set(qt.METHODS)


@pytest.mark.parametrize("row", every_row())
def test_law_07_no_gradient_reaches_the_target_or_its_sources(row: Row):
    case = Case(row)
    sources = {
        k: tuple(t.clone().requires_grad_() for t in as_tuple(v))
        for k, v in case.logit_evidence.items()
        if k in ("teacher", "reference")
    }
    given = {**case.logit_evidence, **{k: v if k == "teacher" else v[0] for k, v in sources.items()}}
    logits = case.logits.clone().requires_grad_()
    out = qt.q_target_loss(logits, case.labels, case.method, **given)
    out.loss.backward()
    assert all(t.grad is None for group in sources.values() for t in group)
    assert not any(v.requires_grad for v in (out.nll, *out.diagnostics.values()))
    # the target is constant: the gradient of the loss is that of s·CE(Q, p) with Q and s fixed beforehand
    target = qt.target_distribution(case.logits, case.labels, case.method, **case.logit_evidence)
    again = case.logits.clone().requires_grad_()
    rows = case.supervised
    fixed = -(target.scale[rows, None] * target.q[rows] * again.log_softmax(-1)[rows]).sum() / rows.sum()
    fixed.backward()
    torch.testing.assert_close(logits.grad, again.grad, rtol=1e-8, atol=1e-11)


def _extreme(case: Case, kind: str) -> tuple[torch.Tensor, dict]:
    """Logits and evidence at an edge of the simplex."""
    logits, given = case.logits.clone(), dict(case.logit_evidence)
    labels = case.labels.clamp(min=0)
    if kind == "-inf logits":
        outside = (torch.arange(V) % 5 == 2)[None] & (torch.arange(V)[None] != labels[:, None])
        logits = logits.masked_fill(outside, -torch.inf)
    elif kind == "impossible label":
        logits = logits.scatter(-1, labels[:, None], -torch.inf)
    elif kind == "certain label":
        logits = logits.scatter(-1, labels[:, None], 1e4)
    elif kind == "one-hot sources":
        onehot = torch.full_like(logits, -torch.inf).scatter(-1, labels[:, None], 0.0)
        given = {
            k: tuple(onehot for _ in as_tuple(v)) if k == "teacher" else onehot if k == "reference" else v
            for k, v in given.items()
        }
    return logits, given


EDGES = ["-inf logits", "impossible label", "certain label", "one-hot sources"]
INFINITE = {
    *("reverse-kl", "jsd-beta=1.0", "skew-reverse-kl-alpha=0.0", "todi", "akl", "akl-head=0.9", "entropy-aware-kl"),
    *("entropy-aware-kl-threshold=2.2", "composed-kind=reverse KL"),
}
"""KL(p‖t) has no finite value at a one-hot teacher."""


@pytest.mark.parametrize("kind", EDGES)
@pytest.mark.parametrize("row", every_row())
def test_law_07_no_nan_at_the_edges(row: Row, kind: str):
    if kind == "one-hot sources" and name_of(row) in INFINITE:
        return
    case = Case(row, weighted=True)
    logits, given = _extreme(case, kind)
    logits.requires_grad_()
    out = qt.q_target_loss(logits, case.labels, case.method, **given)
    out.loss.backward()
    assert logits.grad.isfinite().all()
    assert out.loss.isfinite()
    assert out.nll.isfinite()
    target = qt.target_distribution(logits.detach(), case.labels, case.method, **given)
    assert target.q[case.supervised].isfinite().all()
    torch.testing.assert_close(
        target.q[case.supervised].sum(-1), torch.ones(int(case.supervised.sum()), dtype=logits.dtype)
    )


def at_the_teacher(dtype: torch.dtype, width: float = 3.0):
    """Hidden states and a head, and a teacher that says the same from a head with all its logits moved by a constant:
    normalised on its own, its log-probabilities differ from the student's by rounding alone."""
    draw = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(7, 6, generator=draw, dtype=dtype), torch.randn(31, 6, generator=draw, dtype=dtype)
    head = qt.Head(width * weight, torch.zeros(31, dtype=dtype))
    moved = qt.Head(head.weight, torch.full((31,), 0.7, dtype=dtype))
    return hidden, head, qt.Dense(hidden, moved)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("fused", [False, True])
def test_a_tie_of_student_and_teacher_pulls_nowhere_under_total_variation(dtype, fused):
    hidden, head, teacher = at_the_teacher(dtype)
    labels, method, leaf = torch.arange(7), qt.method("tvd"), hidden.clone().requires_grad_()
    if fused:
        out = qt.linear_q_target_loss(leaf, head, labels, method, teacher=teacher)
    else:
        out = qt.q_target_loss(head_logits(leaf, head), labels, method, teacher=teacher)
    out.loss.backward()
    assert leaf.grad.abs().max() == 0
    assert out.loss.detach().abs() < 1e-5


def test_a_head_of_all_mass_is_every_token_whatever_the_sums_rounding_is():
    """akl at head 1 is kd: the sum of all probabilities may come to a little more than 1."""
    logits, other = torch.randn(2, 200, 501, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.zeros(200, dtype=torch.long)
    method, kd = qt.method("akl", head=1.0), qt.method("kd")
    mine, theirs = (qt.target_distribution(logits, labels, each, teacher=other) for each in (method, kd))
    torch.testing.assert_close(mine.q, theirs.q, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_where_teacher_and_student_agree_the_heads_share_is_one_half(dtype):
    hidden, head, teacher = at_the_teacher(dtype)
    frame = Frame(head_logits(hidden, head).log_softmax(-1), _tokens_of(teacher))
    assert frame[head_share(0.5)].tolist() == [0.5] * 7


@pytest.mark.parametrize("head", [0.0, 0.5, 0.99, 1 - 1e-7, 1 - 1e-8, 1.0])
def test_the_heads_edge_is_that_of_the_exact_sums(head):
    """Near 1 a sum from the top has lost what lies beyond it, and in single precision 1 − 1e-8 is 1."""
    logits, other = 2 * torch.randn(2, 200, 501, generator=torch.Generator().manual_seed(0))
    t_TV, order_TV = other.double().softmax(-1).sort(dim=-1, descending=True)
    gap_TV = (t_TV - logits.double().softmax(-1).gather(-1, order_TV)).abs()
    expected = []
    for t, gap in zip(t_TV.tolist(), gap_TV.tolist(), strict=True):
        beyond = [math.fsum(t[k + 1 :]) for k in range(len(t))]
        is_head = [k == 0 or rest >= 1 - head for k, rest in enumerate(beyond)]
        expected.append(sum(g for g, kept in zip(gap, is_head, strict=True) if kept) / sum(gap))
    assert share_at_head(head, logits, other) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("threshold", "rank"), [(1.0, 0), (1 - 1e-8, 0), (0.0, -1)])
def test_the_references_likeliest_token_has_all_mass_at_or_below_it(dtype, threshold, rank):
    """prift at mass 1 keeps the labels that are the reference's first choice, however its probabilities add up."""
    logits, other = 2 * torch.randn(2, 200, 501, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, method = (
        other.argsort(-1, descending=True)[:, rank],
        qt.method("prift", variant="mass", mass_threshold=threshold),
    )
    target = qt.target_distribution(logits.to(dtype), labels, method, reference=other.to(dtype))
    assert target.trust.tolist() == [1.0] * 200


def share_at_head(head, logits, teacher):
    frame = Frame(logits.log_softmax(-1), _tokens_of(teacher, *logits.shape))
    return frame[head_share(head)].tolist()


def _tokens_of(teacher, tokens=7, vocab=31):
    given = CallInputs((teacher,), None, None, None)
    return supervised_tokens(torch.zeros(tokens, dtype=torch.long), qt.method("akl"), vocab, given, -100, False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("vocab", [2, 501])
def test_the_pull_of_unlikelihood_is_full_up_to_the_stated_certainty_and_fades_beyond(dtype, vocab):
    """The gradient of −log(1 − p_y) to the label's logit is p_y, about 1 here; dense and fused agree."""
    method, weight = qt.method("unlikelihood"), torch.tensor([-1.0], dtype=dtype)

    def pulls(doubt: float) -> torch.Tensor:
        logits = torch.zeros(1, vocab, dtype=dtype)
        logits[0, 0] = math.log((1 - doubt) / doubt * (vocab - 1))
        dense, fused = (logits.clone().requires_grad_() for _ in range(2))
        labels, head = torch.tensor([0]), qt.Head(torch.eye(vocab, dtype=dtype))
        qt.q_target_loss(dense, labels, method, token_weight=weight).loss.backward()
        qt.linear_q_target_loss(fused, head, labels, method, token_weight=weight).loss.backward()
        strict = qt.target_distribution(logits, labels, method, token_weight=weight, reading="strict")
        gap = logits.softmax(-1) - strict.q
        return torch.stack([dense.grad[0], fused.grad[0], gap[0]])

    for doubt in (1e-2, 1e-4, 1e-6, 1e-7, 2e-8):
        three = pulls(doubt)
        assert three[:, 0].tolist() == pytest.approx([1 - doubt] * 3, rel=1e-3)
        assert three[:, 1].tolist() == pytest.approx([(doubt - 1) / (vocab - 1)] * 3, rel=1e-3)
    assert pulls(1e-10).abs().max() < 0.05


def test_a_label_without_mass_or_with_all_of_it_has_a_finite_pull_away_from_it():
    method, weight = qt.method("unlikelihood"), torch.tensor([-1.0, -1.0, 1.0])
    for sure in (0.0, -math.inf):
        logits = torch.tensor(
            [[0.0, sure, -math.inf], [-math.inf, 0.0, 0.0], [-math.inf, 0.0, 1.0]], requires_grad=True
        )
        loss = qt.q_target_loss(logits, torch.tensor([0, 0, 0]), method, token_weight=weight).loss
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()
