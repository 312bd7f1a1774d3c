"""Methods and rules that a user composes: what they need and what is refused when they are put together."""

import copy

import pytest
import torch
from qtarget.statistics import LOGP_Y, REFERENCE_LOGP_Y, SCALE, SEQUENCE_IDS, TOKEN_WEIGHT, TRUST, pool_logp
from qtarget.trust import spread_means
from qtarget.types import Moment, Statistic

import qtarget as qt
from qtarget import residual, slopes, trust, value

TALR = qt.method("talr").trust
P_Y = qt.method("dft").trust


@pytest.mark.parametrize("rule", [1 - TALR, TALR * 2, P_Y * TALR, TALR / P_Y, -TALR])
def test_a_combined_rule_looks_as_far_as_its_widest_part(rule: qt.Rule):
    assert rule.scope == "batch"
    with pytest.raises(ValueError, match=r'looks at a whole batch.*scope="batch"'):
        qt.Method("mine", rule)


def test_an_unknown_scope_is_refused():
    with pytest.raises(ValueError, match=r'method "mine": scope="tokens" is none of token, sequence, batch'):
        qt.Method("mine", 1.0, scope="tokens")


def test_a_value_that_looks_beyond_its_token_is_refused():
    """The fused path values a chunk at a time; only trust, scale and coefficients are seen across chunks."""
    mean = qt.Rule("mean", (LOGP_Y, SEQUENCE_IDS), lambda a, ids: -spread_means(a, ids), scope="sequence")
    with pytest.raises(ValueError, match="value mean looks at a whole sequence"):
        qt.Method("mine", 1.0, value=mean, scope="sequence")


@pytest.mark.parametrize(
    ("name", "given"),
    [("kd", {"teacher_weights": 1.0}), ("target-sft", {"eta": 0.1}), ("target-sft", {"eta": (0.0, 0.1)})],
)
def test_needs_names_the_teachers_that_a_call_must_bring(name: str, given: dict):
    method = qt.method(name, **given)
    assert method.needs == {"teacher"}
    logits, labels = torch.randn(3, 5), torch.arange(3)
    with pytest.raises(ValueError, match="needs a teacher"):
        qt.q_target_loss(logits, labels, method)
    qt.q_target_loss(logits, labels, method, teacher=(logits,) * method.num_teachers)


@pytest.mark.parametrize("eta", [0, 0.0, (0.0, 0)])
def test_a_teacher_to_the_power_of_zero_is_no_source(eta):
    """target-sft at eta 0 is dft, and builds no buffer for a teacher; a sweep over eta may still give one."""
    method, dft = qt.method("target-sft", eta=eta), qt.method("dft")
    assert method.needs == dft.needs
    assert method.pools == dft.pools == ()
    logits, labels = torch.randn(3, 5, requires_grad=True), torch.arange(3)
    (expected,) = torch.autograd.grad(qt.q_target_loss(logits, labels, dft).loss, logits)
    for teacher in (None, logits.detach()):
        (gradient,) = torch.autograd.grad(qt.q_target_loss(logits, labels, method, teacher=teacher).loss, logits)
        torch.testing.assert_close(gradient, expected)


def test_a_teacher_behind_the_last_exponent_that_is_not_zero_may_be_given_or_not():
    pool, method = residual.guided((0.3, 0.0)), qt.method("target-sft", eta=(0.3, 0.0))
    assert pool == residual.guided(0.3)
    assert (method.num_teachers, method.num_teachers_read) == (2, 1)
    logits, labels = torch.randn(3, 5), torch.arange(3)
    one, two = (qt.q_target_loss(logits, labels, method, teacher=(logits,) * n).loss for n in (1, 2))
    assert one == two
    for number in (0, 3):
        with pytest.raises(ValueError, match="teacher"):
            qt.q_target_loss(logits, labels, method, teacher=(logits,) * number)


def test_what_only_a_tangent_reads_is_needed():
    assert qt.Method("mine", 1.0, ((0.1, residual.reverse_slope()),)).needs == {"teacher"}


def test_what_only_the_value_reads_is_needed_and_measured():
    watched = qt.Method("watched", 1.0, value=value.nll() + value.kl(residual.reference()))
    assert watched.needs == {"reference"}
    assert not watched.label_only
    hidden, head, labels = torch.randn(6, 4).double(), qt.Head(torch.randn(5, 4).double()), torch.arange(6) % 5
    reference = qt.Dense(torch.randn(6, 3).double(), qt.Head(torch.randn(5, 3).double()))
    fused = qt.linear_q_target_loss(hidden, head, labels, watched, reference=reference).loss
    plain = qt.q_target_loss(hidden @ head.weight.T, labels, watched, reference=reference).loss
    torch.testing.assert_close(fused, plain)
    assert fused > qt.q_target_loss(hidden @ head.weight.T, labels, qt.method("sft")).loss


def test_iw_sft_without_anything_asks_for_its_reference():
    with pytest.raises(ValueError, match=r"needs a reference.*pass reference="):
        qt.q_target_loss(torch.randn(3, 5), torch.arange(3), qt.method("iw-sft"), sequence_ids=torch.zeros(3))


@pytest.mark.parametrize("chunk_tokens", [0, -5, 2.5])
def test_a_chunk_holds_at_least_a_token(chunk_tokens):
    with pytest.raises(ValueError, match=r"chunk_tokens=.* whole number >= 1"):
        qt.linear_q_target_loss(
            torch.randn(3, 4), qt.Head(torch.randn(5, 4)), torch.arange(3), qt.method("sft"), chunk_tokens=chunk_tokens
        )


def test_a_source_whose_hidden_states_do_not_fit_its_head_is_refused():
    teacher = qt.Dense(torch.randn(3, 6), qt.Head(torch.randn(5, 4)))
    with pytest.raises(ValueError, match=r"teacher.hidden is 6 wide, its head.weight \[5, 4\]"):
        qt.q_target_loss(torch.randn(3, 5), torch.arange(3), qt.method("kd"), teacher=teacher)


# ---- statistics


def _reading(*statistics, **facts) -> qt.Method:
    return qt.Method("mine", qt.Rule("rule", statistics, lambda *values: values[0], **facts), residual=())


@pytest.mark.parametrize(
    ("statistic", "near"),
    [
        (Statistic("ENTROPI"), "ENTROPY"),
        (Statistic("teacher_entropi", 0), "teacher_entropy"),
        ("entropy", "ENTROPY"),
        ("reference_logp_y", "REFERENCE_LOGP_Y"),
        (Statistic("top_k_entropi", 20), "top_k_entropy"),
    ],
)
def test_a_statistic_without_a_definition_is_refused_with_the_near_miss(statistic, near: str):
    with pytest.raises(ValueError, match=rf'method "mine" reads .*has no definition; did you mean "{near}"\?'):
        _reading(statistic)


def test_a_value_may_not_read_one_without_a_definition_either():
    with pytest.raises(ValueError, match="no definition"):
        qt.Method("mine", 1.0, value=qt.Rule("v", (Statistic("nll"),), lambda v: v))


@pytest.mark.parametrize("statistic", [TRUST, SCALE])
@pytest.mark.parametrize("place", ["trust", "scale", "residual"])
def test_trust_and_scale_cannot_be_made_of_themselves(statistic: Statistic, place: str):
    rule = qt.Rule("rule", (statistic,), lambda value: value)
    numbers = {"trust": rule} if place == "trust" else {"trust": 1.0, "scale": rule}
    if place == "residual":
        numbers = {"trust": 1 - rule, "residual": ((rule, residual.uniform()),)}
    with pytest.raises(ValueError, match=rf'cannot read the statistic "{statistic.name}".*only Method'):
        qt.Method("mine", **numbers)


def _mean_reference(frame, _):
    return frame.reference_TV.mean(-1)


def _inner(frame, _):
    return frame[REFERENCE_LOGP_Y]


@pytest.mark.parametrize(
    ("definition", "source"),
    [
        (_mean_reference, "reference"),
        (_inner, "reference"),
        (lambda frame, _: frame.teacher_TV(0).mean(-1), "teacher 0"),
        (lambda frame, _: frame.column("token_weight"), "token_weight"),
        (lambda frame, _: frame[TOKEN_WEIGHT], "token_weight"),
    ],
)
def test_a_statistic_that_does_not_name_its_source_is_refused_when_composed(definition, source: str):
    with pytest.raises(ValueError, match=rf'reads the {source}, and does not say so.*source="{source}"'):
        _reading(Statistic("forgetful", definition=definition))
    _reading(Statistic("careful", definition=definition, source=source))


@pytest.mark.parametrize(
    ("source", "near"), [("referense", "reference"), ("Reference", "reference"), ("teacher", "teacher 0"), ("", None)]
)
def test_an_unknown_source_is_refused_with_the_near_miss(source: str, near: str | None):
    with pytest.raises(ValueError, match=f"is no source; {f'did you mean .{near}' if near else 'there is'}"):
        Statistic("mine", definition=_mean_reference, source=source)


@pytest.mark.parametrize("source", ["teacher -1", "teacher x", "teacher 0 1", "teachers", "token_weights", None, 3])
def test_a_source_is_none_of_a_few_words(source):
    with pytest.raises(ValueError, match="is no source"):
        Statistic("mine", definition=_mean_reference, source=source)


def test_statistics_that_define_each_other_are_refused_when_composed():
    names = ("ping", "pong")
    ping, pong = (Statistic(name, definition=lambda frame, _, i=i: frame[both[1 - i]]) for i, name in enumerate(names))
    both = (ping, pong)
    with pytest.raises(ValueError, match="defined by itself: ping -> pong -> ping"):
        _reading(ping)


@pytest.mark.parametrize(
    "statistic",
    [
        Statistic("Σp²", definition=lambda frame, _: (2 * frame.logp_TV).exp().sum(-1), moment=Moment.ENTROPY),
        Statistic("top 3", 3, lambda frame, k: frame.logp_TV.topk(k).values.logsumexp(-1), moment=Moment.TOP_ENTROPY),
        Statistic("mean", definition=_mean_reference, source="reference", moment=Moment.ENTROPY),
        Statistic("pool", residual.uniform(), lambda frame, pool: pool_logp(pool, frame).mean(-1), moment=Moment.CROSS),
    ],
    ids=str,
)
def test_a_moment_that_the_definition_is_not_is_refused_when_composed(statistic):
    """Otherwise the two losses would measure different numbers."""
    with pytest.raises(ValueError, match=r"says that it is Moment\.\w+.*definition is another number"):
        _reading(statistic)


def test_a_moment_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"is no Moment; write moment=qtarget\.types\.Moment\.ENTROPY"):
        Statistic("mine", definition=_mean_reference, source="reference", moment="entropy")
    with pytest.raises(ValueError, match="TOP_ENTROPY is the student's alone"):
        Statistic("mine", residual.teacher(), _mean_reference, moment=Moment.TOP_ENTROPY)


def test_a_definition_that_made_up_tokens_do_not_suit_is_left_to_the_call():
    far = Statistic("far", definition=lambda frame, _: frame.logp_TV[:, 50_000])
    assert _reading(far).needs == frozenset()


def test_a_label_only_statistic_of_ones_own():
    whole = Statistic("log t_y", definition=lambda f, _: f.pick(f.teacher_TV(0)), source="teacher 0", label_only=True)
    with pytest.raises(ValueError, match=r'label_only=True reads the whole.*frame\.label_logp\("teacher 0"\)'):
        _reading(whole)
    definition = lambda frame, _: frame.label_logp("teacher 0")  # noqa: E731
    mine = _reading(Statistic("log t_y", definition=definition, source="teacher 0", label_only=True))
    assert mine.label_only == {"teacher"}
    logits, labels = torch.randn(3, 5), torch.arange(3)
    out = qt.q_target_loss(logits, labels, replaced(mine), teacher=qt.LabelOnly(torch.tensor([-1.0, -2.0, -3.0])))
    torch.testing.assert_close(out.trust, torch.tensor([-1.0, -2.0, -3.0]).exp())


def replaced(method: qt.Method) -> qt.Method:
    """The same with trust exp(rule), and the rest to the student."""
    (statistic,) = method.reads
    gamma = qt.Rule("exp", (statistic,), torch.exp)
    return qt.Method("mine", gamma, residual.rest(gamma, residual.student()))


def test_a_rule_reads_a_tuple():
    with pytest.raises(ValueError, match=r"must be a tuple of statistics, as in reads=\(qtarget.statistics.LOGP_Y,\)"):
        qt.Rule("mine", LOGP_Y, lambda logp_y: logp_y)


def _reference_entropy(frame, _):
    return -(frame.reference_TV.exp() * frame.reference_TV).sum(-1)


@pytest.mark.parametrize("moment", [None, Moment.ENTROPY])
def test_a_statistic_of_ones_own_is_one_expression(moment):
    """What it reads, its definition and its fast twin stand in it: needs, refusals and both losses follow."""
    entropy = Statistic("reference_entropy", definition=_reference_entropy, source="reference", moment=moment)
    gamma = qt.Rule("exp(-H(r))", (entropy,), lambda h: (-h).exp())
    mine = qt.Method("mine", gamma, residual.rest(gamma, residual.student()))
    assert mine.needs == {"reference"}
    assert not mine.label_only
    hidden, head, labels = torch.randn(6, 4).double(), qt.Head(torch.randn(5, 4).double()), torch.arange(6) % 5
    with pytest.raises(ValueError, match='"mine" needs a reference'):
        qt.linear_q_target_loss(hidden, head, labels, mine)
    reference = qt.Dense(torch.randn(6, 3).double(), qt.Head(torch.randn(5, 3).double()))
    fused = qt.linear_q_target_loss(hidden, head, labels, mine, reference=reference)
    plain = qt.q_target_loss(hidden @ head.weight.T, labels, mine, reference=reference)
    torch.testing.assert_close(fused.trust, plain.trust)
    torch.testing.assert_close(fused.loss, plain.loss)


def test_two_statistics_of_one_name_are_two_statistics():
    one = Statistic("mine", definition=lambda frame, _: frame[LOGP_Y].exp())
    other = Statistic("mine", definition=lambda frame, _: frame[LOGP_Y].exp() / 2)
    gamma = qt.Rule("sum", (one, other), lambda a, b: a + b)
    mine = qt.Method("mine", gamma, residual.rest(gamma, residual.student()))
    logits = torch.randn(3, 5)
    trust = qt.q_target_loss(logits, torch.arange(3), mine).trust
    torch.testing.assert_close(trust, 1.5 * logits.softmax(-1).diagonal())


def test_a_share_of_tokens_does_not_round_floating_point_noise_up():
    """0.07·100 is 7.000000000000001 in floats, and seven tokens are chosen."""
    chosen = trust.top_share(trust.entropy(), 0.07).fn(torch.arange(100.0))
    assert chosen.sum() == 7


def test_a_copy_of_a_method_has_a_key_of_its_own_and_a_pickle_says_what_fails():
    dft = qt.method("dft")
    assert copy.deepcopy(dft).key != dft.key
    assert copy.copy(dft) == dft


# ---- slopes


def test_a_slope_is_along_the_student_alone():
    with pytest.raises(ValueError, match=r'the slope "reverse" stands on .*write qtarget\.residual\.along\(slope\)'):
        qt.Pool(teachers=(1.0,), tangent=slopes.reverse(residual.teacher()))


def test_what_only_a_slope_reads_is_needed():
    method = qt.Method("mine", 1.0, ((0.1, residual.along(slopes.reverse(residual.teacher(1)))),))
    assert method.needs == {"teacher"}
    assert method.num_teachers_read == 2
    assert not method.label_only


@pytest.mark.parametrize("moment", [Moment.COST, Moment.MEAN_SLOPE])
def test_a_slopes_moments_are_of_slopes_alone(moment: Moment):
    with pytest.raises(ValueError, match="is of a slope alone; leave moment out"):
        Statistic("mine", residual.teacher(), lambda frame, pool: frame[LOGP_Y], moment=moment)
