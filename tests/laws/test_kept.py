"""K kept tokens of a source: every tail where it is right, and refused where it is not."""

from dataclasses import replace

import pytest
import torch
from laws.cases import Case, T, V, as_tuple, every_row
from laws.papers import PAPERS, Row
from laws.test_fused import _assert_equal, _both, _sparse

import qtarget as qt
from qtarget.target import residual, slopes
from qtarget.target.kept_tokens import temperature_for
from qtarget.target.source_logits import head_logits

LINEAR = [Row("kd", {}), Row("kd", {"temperature": 2.0}), Row("kd-hybrid", {}), Row("target-sft", {"eta": 1.0})]
GEOMETRIC = [Row("target-sft", {}), Row("target-sft", {"eta": 0.2})]


def kept_for(case: Case, kept: int = 4) -> qt.Sparse:
    return _sparse(case.evidence["teacher"], kept, temperature_for(case.method, "teacher 0"))


def levelled(sparse: qt.Sparse) -> torch.Tensor:
    """The whole distribution, [T, V], with the tail spread evenly; written out by hand."""
    even = (sparse.log_tail.exp() / (V - sparse.ids.shape[-1]))[:, None].expand(T, V)
    return even.scatter(-1, sparse.ids, sparse.logprobs.exp())


@pytest.mark.parametrize("row", LINEAR, ids=str)
@pytest.mark.parametrize("tail", ["uniform", "none"])
def test_other_tails_where_the_target_is_linear(row: Row, tail: str):
    """Fused and dense agree, and both give the target of the distribution written out by hand."""
    case = Case(row)
    sparse = replace(kept_for(case), tail="uniform") if tail == "uniform" else kept_for(case).renormalised()
    plain, fused = _both(case, 6, teacher=sparse)
    _assert_equal(plain, fused)
    whole = levelled(sparse if tail == "uniform" else replace(sparse, log_tail=torch.full((T,), -700.0).double()))
    logits = whole.log() * row.hyperparameters.get("temperature", 1.0)
    q = qt.target_distribution(case.logits, case.labels, case.method, teacher=sparse).q
    by_hand = qt.target_distribution(case.logits, case.labels, case.method, teacher=logits).q
    torch.testing.assert_close(q, by_hand, equal_nan=True)


@pytest.mark.parametrize("row", GEOMETRIC, ids=str)
@pytest.mark.parametrize("tail", ["uniform", "none"])
@pytest.mark.parametrize("kept", [4, V])
def test_other_tails_are_refused_in_a_geometric_pool(row: Row, tail: str, kept: int):
    case = Case(row)
    with pytest.raises(ValueError, match=r"not linear in the teacher 0.*leave tail at \"student\""):
        _both(case, 6, teacher=replace(kept_for(case, kept), tail=tail))


@pytest.mark.parametrize("number", ["trust", "scale"])
def test_other_tails_are_refused_where_trust_or_scale_read_the_teacher(number: str):
    case = Case(Row("kd", {}))
    from qtarget.target.rule import Rule
    from qtarget.target.statistics import label_logp

    certain = Rule("t_y", (label_logp(qt.Pool(teachers=(1.0,))),), torch.exp)
    numbers = {"trust": 0.0, "scale": 1.0} | {number: certain}
    rest = 1 - numbers["trust"]
    case.__dict__["method"] = qt.Method("composed", **numbers, residual=((rest, qt.Pool(teachers=(1.0,))),))
    with pytest.raises(ValueError, match="not linear"):
        _both(case, 6, teacher=kept_for(case).renormalised())


@pytest.mark.parametrize("kept_at", [1.0, 3.0])
def test_a_temperature_needs_tokens_kept_at_it(kept_at: float):
    case = Case(Row("kd", {"temperature": 2.0}))
    with pytest.raises(ValueError, match="keep them at temperature 2"):
        _both(case, 6, teacher=_sparse(case.evidence["teacher"], 4, kept_at))
    _assert_equal(*_both(case, 6, teacher=_sparse(case.evidence["teacher"], V, kept_at)))


SHARPENED = [Row(name, {"teacher_temperature": 0.5}) for name in ("kd", "kd-hybrid", "target-sft")]


@pytest.mark.parametrize("row", SHARPENED, ids=str)
def test_a_sharpened_teacher_from_kept_tokens_is_the_definition(row: Row):
    """Kept at the teacher's own temperature they serve as they are; kept at another they are refused, unless they are
    all there."""
    case = Case(row)
    teacher = case.evidence["teacher"]
    logits = head_logits(teacher.hidden, teacher.head)
    plain, fused = _both(case, 6, teacher=_sparse(teacher, 4, 0.5))
    _assert_equal(plain, fused)
    _assert_equal(_both(case, 6)[0], _both(case, 6, teacher=_sparse(teacher, V, 1.0))[1])
    with pytest.raises(ValueError, match=r"keep them at temperature 0\.5"):
        _both(case, 6, teacher=_sparse(teacher, 4, 1.0))
    softened = Case(Row(row.name, {}))
    q = qt.target_distribution(case.logits, case.labels, case.method, teacher=logits).q
    by_hand = qt.target_distribution(case.logits, case.labels, softened.method, teacher=logits / 0.5).q
    torch.testing.assert_close(q, by_hand, equal_nan=True)


def test_tokens_kept_at_a_temperature_are_refused_where_the_teacher_itself_is_wanted():
    case = Case(Row("target-sft", {}))
    with pytest.raises(ValueError, match="keep them at temperature 1"):
        _both(case, 6, teacher=_sparse(case.evidence["teacher"], 4, 2.0))


@pytest.mark.parametrize("kept", [1, 4])
def test_without_the_teachers_exponent_it_does_not_matter_what_was_kept(kept: int):
    """η → 0 is dft, from any cache."""
    case = Case(Row("target-sft", {"eta": 1e-9}))
    dft = Case(Row("dft", {}))
    (_, gradients) = _both(case, 6, teacher=kept_for(case, kept))[1]
    for mine, theirs in zip(gradients, _both(dft, 6)[1][1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("row", [Row("sft-kl", {}), Row("asft", {}), Row("gift", {})], ids=str)
@pytest.mark.parametrize("kept", [4, V])
def test_a_reference_may_be_kept_tokens_too(row: Row, kept: int):
    case = Case(row)
    sparse = _sparse(case.evidence["reference"], kept)
    plain, fused = _both(case, 6, reference=sparse)
    _assert_equal(plain, fused)
    if kept == V:
        _assert_equal(_both(case, 6)[0], fused)


@pytest.mark.parametrize("name", ["kd", "target-sft"])
def test_the_teachers_entropy_is_the_one_measured_when_it_was_whole(name: str):
    case = Case(Row(name, {}))
    teacher = case.evidence["teacher"]
    logp = head_logits(teacher.hidden, teacher.head).log_softmax(-1)
    exact = -(logp.exp() * logp).sum(-1)
    args = (case.hidden, case.head, case.labels, case.method)
    given = replace(_sparse(teacher, 2), entropy=exact)
    out = qt.linear_q_target_loss(*args, teacher=given, diagnostics=("teacher_entropy",), chunk_tokens=5)
    torch.testing.assert_close(out.teacher_entropy[case.supervised], exact[case.supervised])


def test_draws_give_the_whole_teachers_gradient_on_average():
    """arXiv 2503.16870: shares of draws are an unbiased teacher for a target that is linear in it."""
    case, draws = Case(Row("kd", {})), 4000
    teacher = case.evidence["teacher"]
    probabilities = head_logits(teacher.hidden, teacher.head).softmax(-1)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(probabilities, draws, replacement=True, generator=generator)
    shares = torch.zeros(T, V).double().scatter_add(1, drawn, torch.full((T, draws), 1 / draws).double())
    ids = torch.arange(V).expand(T, V)
    sparse = qt.Sparse(ids, shares.log(), torch.full((T,), -torch.inf).double(), tail="none")
    whole, sampled = _both(case, 6)[1][1], _both(case, 6, teacher=sparse)[1][1]
    for mine, theirs in zip(sampled, whole, strict=True):
        assert (mine - theirs).norm() < 0.05 * theirs.norm()


def test_what_is_said_of_the_label_is_read_at_temperature_1():
    case = Case(Row("excess-loss-selected", {}))
    with pytest.raises(ValueError, match=r"says of the label or its entropy.*keep them at temperature 1"):
        _both(case, 6, reference=_sparse(case.evidence["reference"], 4, 2.0))


@pytest.mark.parametrize(
    ("row", "temperature"),
    [(Row("kd", {"temperature": 2.0}), 2.0), (Row("kd", {}), 1.0), (Row("target-sft", {"eta": 0.2}), 1.0),
     (Row("kd", {"temperature": 2.0, "teacher_temperature": 0.7}), 1.4),
     (Row("kd-hybrid", {"teacher_temperature": 0.5}), 0.5),
     (Row("target-sft", {"eta": 0.2, "teacher_temperature": 0.4}), 0.4),
     (Row("target-sft", {"eta": (0.2, 0.3), "teacher_temperature": 0.4}), 0.4),
     (Row("target-sft", {"eta": (0.2, 0.3)}), 1.0), (Row("sft", {}), 1.0)],
    ids=str,
)  # fmt: skip
def test_the_temperature_to_keep_tokens_at(row: Row, temperature: float):
    method = qt.method(row.name, **row.hyperparameters)
    assert temperature_for(method, "teacher 0") == temperature
    assert temperature_for(method, "reference") == 1


@pytest.mark.failure_case(8)
@pytest.mark.parametrize("kept", [1, 2, 4, 8, 16, V])
@pytest.mark.parametrize("row", [row for row in LINEAR if "temperature" not in row.hyperparameters], ids=str)
def test_what_a_cut_tail_costs_is_bounded_by_its_mass(row: Row, kept: int):
    """Where the target is linear in the teacher, with a coefficient c at most 1, |ΔQ|₁ ≤ 2·c·tail. So the gradient is
    at most so far from the whole teacher's, and Q·log p at most that times the largest |log p|."""
    case = Case(row)
    sparse = kept_for(case, kept)
    tail, wanted = sparse.log_tail.exp(), case.supervised
    whole = qt.target_distribution(case.logits, case.labels, case.method, **case.logit_evidence)
    cut = qt.target_distribution(case.logits, case.labels, case.method, teacher=sparse)
    apart = (whole.scale[:, None] * (whole.q - cut.q)).abs().sum(-1)
    bound = 2 * whole.scale * tail + 1e-9
    assert (apart <= bound)[wanted].all()
    logp = case.logits.log_softmax(-1)
    losses = (whole.scale[:, None] * (whole.q - cut.q) * logp).sum(-1).abs()
    assert (losses <= bound * logp.abs().max(-1).values)[wanted].all()
    gradients = [_gradient(case, teacher) for teacher in (case.logit_evidence["teacher"], sparse)]
    assert ((gradients[0] - gradients[1]).abs().sum(-1) <= bound)[wanted].all()


@pytest.mark.failure_case(8)
@pytest.mark.parametrize("kept", [1, 4, V])
def test_the_limits_of_eta_hold_whatever_was_kept(kept: int):
    """η → 0 takes the teacher out, so nothing that was cut matters; η = 1 is linear, with trust p_y."""
    near_zero = Case(Row("target-sft", {"eta": 1e-9}))
    sparse = kept_for(near_zero, kept)
    whole, cut = (_gradient(near_zero, each) for each in (near_zero.logit_evidence["teacher"], sparse))
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-6)
    one = Case(Row("target-sft", {"eta": 1.0}))
    p_y = one.logits.softmax(-1).gather(-1, one.labels.clamp(min=0)[:, None])
    onehot = torch.nn.functional.one_hot(one.labels.clamp(min=0), V)
    shaped = one.logits.log_softmax(-1).scatter(-1, sparse.ids, -torch.inf).softmax(-1)
    teacher = torch.where(
        sparse.log_tail.isneginf()[:, None], 0.0, shaped.nan_to_num() * sparse.log_tail.exp()[:, None]
    )
    teacher = teacher.scatter(-1, sparse.ids, sparse.logprobs.exp())
    found = qt.target_distribution(one.logits, one.labels, one.method, teacher=sparse).q
    torch.testing.assert_close(found[one.supervised], (p_y * onehot + (1 - p_y) * teacher)[one.supervised])


def _gradient(case: Case, teacher) -> torch.Tensor:
    logits = case.logits.clone().requires_grad_()
    qt.q_target_loss(logits, case.labels, case.method, teacher=teacher, num_items=1).loss.backward()
    return logits.grad


OF_RATIO = [Row(name, {}) for name in ("reverse-kl", "jsd", "skew-kl", "skew-reverse-kl", "todi", "tvd")]
BOTH_WAYS = [Row("entropy-aware-kl", {"threshold": t}) for t in (0.8, 2.2)]


def bucketed(case: Case, sparse: qt.Sparse) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of student and teacher over the K kept tokens and the rest, [T, K + 1], by hand."""
    p = case.logits.softmax(-1)
    rest = p.scatter(-1, sparse.ids, 0.0).sum(-1, keepdim=True)
    return torch.cat([p.gather(-1, sparse.ids), rest], -1).log(), torch.cat(
        [sparse.logprobs, sparse.log_tail[:, None]], -1
    )


@pytest.mark.parametrize("kept", [1, 4, V])
@pytest.mark.parametrize("row", [*OF_RATIO, *BOTH_WAYS], ids=str)
def test_a_divergence_from_kept_tokens(row: Row, kept: int):
    """Fused and dense agree; with all tokens kept it is the whole teacher's."""
    case = Case(row, weighted=True)
    teacher = case.evidence["teacher"]
    logp = head_logits(teacher.hidden, teacher.head).log_softmax(-1)
    sparse = replace(kept_for(case, kept), entropy=-(logp.exp() * logp).sum(-1))
    plain, fused = _both(case, 6, teacher=sparse)
    _assert_equal(plain, fused)
    if kept == V:
        _assert_equal(_both(case, 6)[0], fused)


@pytest.mark.parametrize("kept", [1, 4, 16])
@pytest.mark.parametrize("row", OF_RATIO, ids=str)
def test_a_divergence_from_kept_tokens_is_the_one_over_buckets_and_a_lower_bound(row: Row, kept: int):
    case = Case(row)
    sparse, rows = kept_for(case, kept), case.supervised
    student, teacher = bucketed(case, sparse)
    by_hand = PAPERS[row.name](student, case.labels, teacher=(teacher,))[rows]
    found = qt.linear_q_target_loss(
        case.hidden, case.head, case.labels, case.method, teacher=sparse, reduction="none"
    ).loss[rows]
    torch.testing.assert_close(found, by_hand, rtol=1e-9, atol=1e-12)
    whole = case.paper_loss(case.logits, rows)
    assert (found <= whole + 1e-12).all()
    assert (found < whole - 1e-6).any()


@pytest.mark.parametrize("row", OF_RATIO, ids=str)
@pytest.mark.parametrize("tail", ["uniform", "none"])
def test_a_divergence_is_refused_with_another_tail(row: Row, tail: str):
    case = Case(row)
    with pytest.raises(ValueError, match=r"not linear in the teacher 0.*leave tail at \"student\""):
        _both(case, 6, teacher=replace(kept_for(case), tail=tail))


@pytest.mark.parametrize("row", OF_RATIO, ids=str)
def test_a_divergence_is_refused_at_another_temperature_of_the_cache(row: Row):
    case = Case(row)
    with pytest.raises(ValueError, match="keep them at temperature 1"):
        _both(case, 6, teacher=_sparse(case.evidence["teacher"], 4, 2.0))
    _assert_equal(*_both(case, 6, teacher=_sparse(case.evidence["teacher"], V, 2.0)))


def test_what_a_sort_reads_is_refused_from_kept_tokens():
    case = Case(Row("akl", {}))
    with pytest.raises(ValueError, match='"akl" reads "head_share", which needs every token of the teacher 0'):
        _both(case, 6, teacher=kept_for(case))
    _assert_equal(*_both(case, 6, teacher=kept_for(case, V)))


def test_a_slope_of_more_than_the_ratio_is_refused_from_kept_tokens():
    case = Case(Row("kd", {}))
    tangent = residual.along(slopes.overlap(residual.teacher()))
    case.__dict__["method"] = qt.Method("near", 1.0, ((0.5, tangent),))
    with pytest.raises(ValueError, match="slopes of t/p alone"):
        _both(case, 6, teacher=kept_for(case))
    _assert_equal(*_both(case, 6, teacher=kept_for(case, V)))


# ---- fewer tokens kept at some places than at others


def shortened(sparse: qt.Sparse, kept_T: torch.Tensor) -> qt.Sparse:
    """As many of its tokens as `kept_T` says, the likeliest first; the others join the tail, and their slots are
    empty. Two more slots are empty everywhere."""
    is_kept = torch.arange(sparse.ids.shape[-1]) < kept_T[:, None]
    left_out = sparse.logprobs.masked_fill(is_kept, -torch.inf).logsumexp(-1)
    ids = torch.nn.functional.pad(sparse.ids.masked_fill(~is_kept, -1), (0, 2), value=-1)
    logprobs = torch.nn.functional.pad(sparse.logprobs.masked_fill(~is_kept, 0.3), (0, 2), value=torch.nan)
    return replace(sparse, ids=ids, logprobs=logprobs, log_tail=torch.logaddexp(sparse.log_tail, left_out))


FROM_KEPT = [row for row in every_row() if any(n in row.id for n in ("kd", "target-sft", "repeated"))]


@pytest.mark.parametrize("row", FROM_KEPT)
def test_law_04_empty_slots_hold_nothing(row: Row):
    """Of tokens with 1 to 5 kept, fused and dense agree, and each is as if it stood among tokens with as many."""
    case = Case(row, weighted=True)
    temperature, counts = temperature_for(case.method, "teacher 0"), torch.arange(T) % 5 + 1
    whole = as_tuple(case.evidence["teacher"])
    found = _both(case, 6, teacher=tuple(shortened(_sparse(each, 5, temperature), counts) for each in whole))
    _assert_equal(*found)
    for kept in range(1, 6):
        alone = _both(case, 6, teacher=tuple(_sparse(each, kept, temperature) for each in whole))
        for (mine, gradients), (theirs, expected) in zip(found, alone, strict=True):
            own = counts == kept
            torch.testing.assert_close(gradients[0][own], expected[0][own], rtol=1e-9, atol=1e-12)
            for name, values in theirs.diagnostics.items():
                torch.testing.assert_close(mine.diagnostics[name][own], values[own], equal_nan=True)


@pytest.mark.parametrize("tail", ["uniform", "none"])
def test_empty_slots_under_the_other_tails(tail: str):
    case = Case(Row("kd", {}))
    shorter = shortened(kept_for(case, 5), torch.arange(T) % 5 + 1)
    _assert_equal(*_both(case, 6, teacher=shorter.renormalised() if tail == "none" else replace(shorter, tail=tail)))
    if tail == "none":
        mass = shorter.renormalised().logprobs.exp().masked_fill(shorter.ids < 0, 0.0).sum(-1)
        torch.testing.assert_close(mass, torch.ones_like(mass))


def test_a_token_needs_a_first_slot_and_no_other_number_is_empty():
    case = Case(Row("kd", {}))
    sparse = kept_for(case)
    for place, wrong in ((0, -1), (1, -2), (1, V)):
        ids = sparse.ids.clone()
        ids[:, place] = wrong
        with pytest.raises(ValueError, match=r"0 to .*, or −1 in an empty slot behind the first"):
            _both(case, 6, teacher=replace(sparse, ids=ids))


def test_as_many_slots_as_tokens_are_not_all_tokens_where_some_are_empty():
    """A target that needs the whole teacher, or its tail at another temperature, is refused."""
    case = Case(Row("kd", {"temperature": 2.0}))
    shorter = shortened(_sparse(case.evidence["teacher"], V - 2), torch.full((T,), V - 2))
    assert shorter.ids.shape[-1] == V
    with pytest.raises(ValueError, match="keep them at temperature 2"):
        _both(case, 6, teacher=shorter)
