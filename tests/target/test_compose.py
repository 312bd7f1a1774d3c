"""Methods and rules that a user composes: what they need and what is refused when they are put together."""

import pytest
import torch

import qtarget as qt
from qtarget.target import residual, value
from qtarget.target.statistics import LOGP_Y, SEQUENCE_IDS
from qtarget.target.trust import spread_means

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
    [("kd", {"teacher_weights": 1.0}), ("target-sft", {"eta": 0.0}), ("target-sft", {"eta": (0.0, 0)})],
)
def test_needs_names_the_teachers_that_a_call_must_bring(name: str, given: dict):
    """A sweep over eta keeps its teacher at 0, where nothing of it is read."""
    method = qt.method(name, **given)
    assert method.needs == {"teacher"}
    logits, labels = torch.randn(3, 5), torch.arange(3)
    with pytest.raises(ValueError, match="needs a teacher"):
        qt.q_target_loss(logits, labels, method)
    qt.q_target_loss(logits, labels, method, teacher=(logits,) * method.num_teachers)


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
