"""Numbers that change along a run, along a completion or from token to token, against what a hand works out."""

import math

import pytest
import torch
from laws.cases import SCHEDULED, Case, T, V
from laws.oracle import Row
from laws.papers import target_sft
from laws.test_fused import _assert_equal, _both, _sparse

import qtarget as qt
from qtarget import changing, statistics
from qtarget.target.kept_tokens import temperature_for
from qtarget.target.rule import affine


def _strict(case: Case, **given) -> torch.Tensor:
    given = {**case.logit_evidence, **given}
    return qt.target_distribution(case.logits, case.labels, case.method, **given, reading="strict").q


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (1.0, 1.0)])
@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_a_scheduled_method_is_the_plain_one_with_the_number_of_that_step(shape: str, progress: float, share: float):
    bent = share if shape == "linear" else (1 - math.cos(math.pi * share)) / 2
    eta = {"from": 0.2, "to": 0.8, "shape": shape}
    case, plain = Case(Row("target-sft", {"eta": eta})), Case(Row("target-sft", {"eta": 0.2 + 0.6 * bent}))
    moved = _strict(case, progress=progress)
    torch.testing.assert_close(moved, _strict(plain), rtol=1e-12, atol=1e-14, equal_nan=True)
    assert case.method.needs == {"teacher", "progress"}
    assert "progress" not in plain.method.needs


def test_a_warm_up_goes_from_sft_to_dft_and_stays():
    trust = {"from": 1, "to": "p_y", "until": 0.2}
    case = Case(Row("dft", {"trust": trust}))
    sft, dft = (_strict(Case(Row(name, {}))) for name in ("sft", "dft"))
    halfway = _strict(case, progress=0.1)
    torch.testing.assert_close(_strict(case, progress=0.0), sft, equal_nan=True)
    torch.testing.assert_close(halfway, (sft + dft) / 2, equal_nan=True)
    for progress in (0.2, 0.7, 1.0):
        torch.testing.assert_close(_strict(case, progress=progress), dft, equal_nan=True)


@pytest.mark.parametrize("along", changing.ALONG)
def test_an_exponent_of_each_token_is_that_tokens_own(along: str):
    """Token by token, it is the plain method with the number that a hand computes there."""
    case = Case(Row("target-sft", {"eta": {"from": 0.1, "to": 0.9, "along": along}}))
    number_T = 0.1 + 0.8 * _by_hand(case)[along]
    assert along == "progress" or number_T[case.supervised].std() > 0.001
    for t in case.supervised.nonzero().flatten().tolist():
        row, eta_t = slice(t, t + 1), number_T[t].item()
        paper = qt.induced_target(
            lambda z, row=row, eta=eta_t: target_sft(
                z, case.labels[row], teacher=(case.logit_evidence["teacher"][row],), eta=eta
            ),
            case.logits[row],
        )
        torch.testing.assert_close(_strict(case)[row], paper, rtol=1e-9, atol=1e-12)


def _by_hand(case: Case) -> dict[str, torch.Tensor]:
    p, t = case.logits.softmax(-1), case.logit_evidence["teacher"].softmax(-1)
    r = case.logit_evidence.get("reference", case.logits).softmax(-1)
    at_label = lambda q: q.gather(-1, case.labels.clamp(min=0)[:, None]).squeeze(-1)  # noqa: E731
    uncertain = lambda q: -(q * q.log()).sum(-1) / math.log(V)  # noqa: E731
    return {
        "progress": torch.full((T,), 0.3, dtype=torch.float64),
        "position": (torch.arange(T) % 6).double() / 5,
        "p_y": at_label(p),
        "reference_p_y": at_label(r),
        "teacher_p_y": at_label(t),
        "agreement": 1 - (p - t).abs().sum(-1) / 2,
        "uncertainty": uncertain(p),
        "reference_uncertainty": uncertain(r),
        "teacher_uncertainty": uncertain(t),
    }


@pytest.mark.parametrize("kept", [1, 4, V])
@pytest.mark.parametrize("kind", [k for k, (name, _) in SCHEDULED.items() if name == "target-sft"])
def test_law_04_from_a_sparse_teacher(kind: str, kept: int):
    """The student has the remainder, so the kept tokens are enough, whatever the exponent is at each token."""
    case = Case(Row("composed", {"kind": kind}), weighted=True)
    teachers = case.evidence["teacher"]
    teachers = teachers if isinstance(teachers, tuple) else (teachers,)
    if kind == "where the teacher is sure":  # its entropy is measured at temperature 1, its tokens are kept at another
        with pytest.raises(ValueError, match="keep them at temperature 1"):
            _both(case, 6, teacher=_sparse(teachers[0], kept, temperature_for(case.method, "teacher 0")))
        return
    sparse = tuple(_sparse(teacher, kept, temperature_for(case.method, "teacher 0")) for teacher in teachers)
    plain, fused = _both(case, 6, teacher=sparse)
    _assert_equal(plain, fused)
    if kept == V:
        _assert_equal(_both(case, 6)[0], fused)


def test_a_sparse_teacher_is_refused_where_the_student_has_not_the_remainder():
    eta = changing.ramp(0.2, 0.8)
    case = Case(Row("target-sft", {}))
    for student, words in ((1 - eta, None), (0.5, "let the student have the remainder"), (eta, "remainder")):
        pool = qt.Pool(student=student, teachers=(eta,))
        case.__dict__["method"] = qt.Method("mine", 0.0, ((1.0, pool),))
        given = {"teacher": _sparse(case.evidence["teacher"], 4), "progress": 0.3}
        if words is None:
            _assert_equal(*_both(case, 6, **given))
        else:
            with pytest.raises(ValueError, match=words):
                _both(case, 6, **given)
    assert affine(1 - (2 * eta) / 2 + eta) == (1.0, {})


def test_extrapolation_needs_the_whole_teacher():
    """Outside the kept tokens nothing holds a power above 1."""
    case = Case(Row("extrapolated", {}))
    sparse = _sparse(case.evidence["teacher"], 4)
    for args in ({"teacher": sparse}, {"reference": _sparse(case.evidence["reference"], 4)}):
        with pytest.raises(ValueError, match=r"the mass of the others is not known at that power; give it whole"):
            _both(case, 6, **args)
    _assert_equal(_both(case, 6)[0], _both(case, 6, teacher=_sparse(case.evidence["teacher"], V))[1])


def test_an_entropy_that_was_not_kept_is_refused():
    case = Case(Row("target-sft", {"eta": "teacher_uncertainty"}))
    with pytest.raises(ValueError, match=r"reads the teacher 0's entropy, and its kept tokens came without it"):
        _both(case, 6, teacher=_sparse(case.evidence["teacher"], 4))


@pytest.mark.parametrize("need", ["progress", "position"])
def test_a_schedule_is_refused_without_what_it_runs_along(need: str):
    case = Case(Row("target-sft", {"eta": {"from": 0.2, "to": 0.8, "along": need}}))
    given = {k: v for k, v in case.evidence.items() if k != need}
    words = rf'"target-sft" needs {need}, and none was given; pass {need}='
    with pytest.raises(ValueError, match=words):
        qt.linear_q_target_loss(case.hidden, case.head, case.labels, case.method, **given)
    bad = 1.5 if need == "progress" else torch.full((T,), 1.5)
    with pytest.raises(ValueError, match="from 0 to 1"):
        qt.linear_q_target_loss(case.hidden, case.head, case.labels, case.method, **{**given, need: bad})


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            qt.Rule("mine", (statistics.cross(qt.Pool(teachers=(1.0,))),), torch.exp),
            "known only when its pool is built",
        ),
        (qt.Rule("mine", (statistics.TRUST,), torch.exp), "known only when its pool is built"),
        (qt.Rule("mine", (statistics.LOGP_Y,), torch.exp, scope="batch"), "an exponent is per token"),
    ],
)
def test_a_rule_that_no_exponent_can_read_is_refused_when_composed(rule: qt.Rule, words: str):
    with pytest.raises(ValueError, match=words):
        qt.Method("mine", 0.0, ((1.0, qt.residual.guided(rule)),), scope="batch")


def test_a_statistic_that_a_source_cannot_give_is_refused():
    case = Case(Row("target-sft", {"eta": "agreement"}))
    label = qt.LabelOnly(torch.full((T,), -1.0))
    with pytest.raises(ValueError, match="reads the whole teacher distribution"):
        _both(case, 6, teacher=label)
    case = Case(Row("dft", {"trust": "teacher_p_y"}))
    out = qt.q_target_loss(case.logits, case.labels, case.method, teacher=label)
    assert (out.trust[case.supervised] - math.exp(-1)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"eta": {"from": 0.2}}, "a schedule with 'to', for example eta={'from': 0, 'to': 1}"),
        ({"eta": {"from": 0.2, "to": 0.8, "shap": "linear"}}, "without 'shap', which is no part of one"),
        ({"eta": {"from": 0.2, "to": 1.8}}, "whose 'to' is a number in"),
        ({"eta": {"from": 0.2, "to": 0.8, "shape": "steps"}}, "whose 'shape' is one of linear, cosine"),
        ({"eta": {"from": 0.2, "to": 0.8, "along": "entropy"}}, "whose 'along' is one of progress"),
        ({"eta": {"from": 0.2, "to": 0.8, "until": 0}}, "whose 'until' is a number in"),
        ({"eta": "agrement"}, 'did you mean "agreement"'),
        ({"eta": ({"from": 0.2, "to": 0.8}, 0.3)}, "numbers whose sum is at most 1"),
        ({"teacher_temperature": {"from": 1, "to": 2}}, "cannot be a schedule; of this method eta and trust can"),
    ],
)
def test_a_schedule_that_is_none_is_refused(settings: dict, words: str):
    with pytest.raises(ValueError, match=words):
        qt.method("target-sft", **settings)


DOWN, UP = {"from": 1, "to": 0}, {"from": 0, "to": 1}


@pytest.mark.parametrize(
    "pair",
    [
        [DOWN, UP],
        [{**DOWN, "shape": "cosine", "until": 0.5}, {**UP, "until": 0.5, "shape": "cosine"}],
        [{"from": 0.5, "to": 0}, {"from": 0.2, "to": 0.8, "along": "progress", "until": 1}],
        ["agreement", {**DOWN, "along": "agreement"}],
        [0.5, {"from": 0.5, "to": 0}],
    ],
)
def test_exponents_may_cross_over_where_their_sum_stays_at_most_1(pair: list):
    assert qt.method("target-sft", eta=pair).num_teachers == 2


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ([{"from": 0.5, "to": 0}, {"from": 0.6, "to": 1}], "they come to 1.1"),
        ([DOWN, {**UP, "shape": "cosine"}], "may come to 2, for only schedules of equal shape, along and until"),
        ([DOWN, {**UP, "until": 0.5}], "may come to 2, for"),
        (["agreement", DOWN], "may come to 2, for"),
        ([{"from": "p_y", "to": 0.3}, {"from": 0.6, "to": 0}], "may come to 1.6, for"),
    ],
)
def test_exponents_whose_sum_may_be_above_1_are_refused_in_a_true_sentence(pair: list, words: str):
    with pytest.raises(ValueError, match=words):
        qt.method("target-sft", eta=pair)


@pytest.mark.parametrize("now", [0.0, 0.25, 1.0])
def test_a_crossfade_is_the_two_teachers_at_their_exponents_of_the_moment(now: float):
    case = Case(Row("target-sft", {"eta": 0.5}))
    first, second = torch.randn(2, *case.logits.shape, dtype=torch.float64)
    fade, still = (qt.method("target-sft", eta=eta) for eta in ([DOWN, UP], [1 - now, now]))
    ours = qt.target_distribution(case.logits, case.labels, fade, teacher=(first, second), progress=now).q
    theirs = qt.target_distribution(case.logits, case.labels, still, teacher=(first, second)).q
    assert (ours - theirs)[case.supervised].abs().max() < 1e-12


def test_a_schedule_that_is_none_is_called_so_and_the_example_is_one():
    with pytest.raises(
        ValueError, match=r"'too': 1} is no schedule that eta takes; .*for example eta={'from': 0, 'to': 1}"
    ):
        qt.method("target-sft", eta={"from": 0, "too": 1})


def test_position_as_one_number_is_refused_in_words():
    case = Case(Row("target-sft", {"eta": "position"}))
    teacher = torch.randn_like(case.logits)
    for call in (qt.q_target_loss, qt.target_distribution):
        with pytest.raises(ValueError, match=r"position=0.5 is .*pass position=share, shaped like labels"):
            call(case.logits, case.labels, case.method, teacher=teacher, position=0.5)
    head = qt.Head(torch.eye(case.logits.shape[-1], dtype=torch.float64))
    kept = qt.Dense(teacher, head)
    with pytest.raises(ValueError, match=r"position=0.5 is .*pass position=share, shaped like labels"):
        qt.linear_q_target_loss(case.logits, head, case.labels, case.method, teacher=kept, position=0.5)


def test_a_schedule_in_a_method_that_takes_none():
    with pytest.raises(ValueError, match=r"alpha cannot be a schedule; no other of this method's can. Write alpha=0.5"):
        qt.method("beyond-log", alpha={"from": 0.1, "to": 1})


def test_the_names_of_schedules_stand_once():
    from qtarget.target import hyperparameters

    assert tuple(changing.ALONG) == hyperparameters.RAMP_ALONG
    assert tuple(changing.SHAPES) == hyperparameters.RAMP_SHAPES
