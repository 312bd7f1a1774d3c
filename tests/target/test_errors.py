"""Bad input to the core: one sentence that says what, where, why and the line to write."""

import pytest
import torch

import qtarget as qt

Z, Y = torch.randn(4, 7), torch.tensor([0, 1, 2, -100])
HIDDEN, HEAD = torch.randn(4, 5), qt.Head(torch.randn(7, 5))


def _dense(name: str, **given):
    return qt.q_target_loss(Z, Y, qt.method(name), **given)


def _fused(name: str, **given):
    return qt.linear_q_target_loss(HIDDEN, HEAD, Y, qt.method(name), **given)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: qt.method("taget-sft"), r'no method "taget-sft"; did you mean "target-sft"\?'),
        (lambda: qt.method("target-sft", etta=0.5), r'no hyperparameter "etta"; did you mean "eta"\?'),
        (lambda: qt.method("sft", eta=0.5), r'"sft" has no hyperparameter "eta"; it has none'),
        (lambda: qt.method("target-sft", eta=1.5), r"eta=1.5 is out of range.*\[0, 1\].*for example eta=0.5"),
        (lambda: qt.method("target-sft", eta=(0.7, 0.7)), r"sum is at most 1"),
        (lambda: qt.method("target-sft", eta=()), r"at least one number"),
        (lambda: qt.method("target-sft", eta=True), r"a number in \[0, 1\]"),
        (lambda: qt.method("target-sft", eta="0.5"), r"a number in \[0, 1\]"),
        (lambda: qt.method("kd", temperature=0), r"temperature=0 is out of range.*\(0, 100\]"),
        (lambda: qt.method("kd", temperature=float("nan")), r"temperature=nan is out of range"),
        (lambda: qt.method("kd", teacher_weights=[0.5]), r"must sum to 1"),
        (lambda: qt.method("eaft", top_k=1), r"top_k=1 is out of range.*whole number >= 2"),
        (lambda: qt.method("eaft", normalizer="log"), r"'log_k', None or a number > 0"),
        (lambda: qt.method("gem", h="relu"), r"h='relu' is out of range.*'linear', 'logsigmoid'"),
        (lambda: qt.method("focal", detached=1), r"detached=1 is out of range.*False, True"),
        (lambda: qt.method("idft", exponent_min=3.0), r"exponent_min=3.0 is above exponent_max=2.0"),
        (lambda: _dense("target-sft"), r'"target-sft" needs a teacher, and none was given; pass teacher='),
        (lambda: _fused("asft"), r'"asft" needs a reference, and none was given; pass reference='),
        (lambda: _dense("cft"), r'"cft" needs token_weight.*pass token_weight=mask'),
        (lambda: _dense("iw-sft", reference=Z), r'"iw-sft" needs sequence_ids.*whole sequences'),
        (lambda: _dense("kd", teacher=(Z, Z)), r"set up for 1 teacher\(s\) and got 2"),
        (lambda: _dense("kd", teacher=qt.LabelOnly(Z[:, 0])), r"whole teacher distribution.*LabelOnly"),
        (lambda: _dense("kd", teacher=torch.randn(4, 9)), r"evidence covers 9 tokens.*has 7"),
        (lambda: _dense("kd", teacher=torch.randn(3, 7)), r"teacher has shape \[3, 7\].*\[4, '...'\]"),
        (lambda: _dense("kd", teacher="gpt"), r"teacher is a str; pass teacher="),
        (lambda: _fused("kd", teacher=Z), r"tensor of logits.*qt\.Dense\(hidden, head\)"),
        (
            lambda: _fused("kd", teacher=qt.Dense(HIDDEN, qt.Head(torch.randn(9, 5)))),
            r"9 rows in its output layer.*vocab=",
        ),
        (lambda: _dense("sft", token_weight=torch.ones(3)), r"token_weight has shape \[3\], labels \[4\]"),
        (lambda: _dense("sft", token_weight=-torch.ones(4)), r"finite and >= 0"),
        (
            lambda: qt.q_target_loss(Z, torch.tensor([0, 1, 7, 2]), qt.method("sft")),
            r"label 7 is outside.*of 7 tokens",
        ),
        (lambda: qt.q_target_loss(Z, torch.tensor([0, 1, -1, 2]), qt.method("sft")), r"label -1 is outside"),
        (lambda: qt.q_target_loss(Z, Y.float(), qt.method("sft")), r"labels must be token ids"),
        (lambda: qt.q_target_loss(Z[None], Y, qt.method("sft")), r"logits have shape.*shift both"),
        (
            lambda: qt.linear_q_target_loss(HIDDEN[:3], HEAD, Y, qt.method("sft")),
            r"hidden has shape.*shift both",
        ),
        (
            lambda: qt.linear_q_target_loss(HIDDEN, qt.Head(torch.randn(5, 7)), Y, qt.method("sft")),
            r"head.weight has shape \[5, 7\]; it must be \[V, 5\]",
        ),
        (lambda: _fused("sft", diagnostics="trust"), r'write diagnostics=\("trust",\)'),
        (
            lambda: _fused("kd", teacher=qt.Sparse(Y[:, None].clamp(min=0) + 5, -torch.ones(4, 1), -torch.ones(4))),
            r"teacher: ids must be tokens of the student's 7, 0 to 6",
        ),
        (lambda: _fused("sft", diagnostics=("tust",)), r'no diagnostic "tust"; did you mean "trust"\?'),
        (lambda: _fused("sft", diagnostics=("teacher_entropy",)), r'"sft" has no teacher distribution'),
        (
            lambda: qt.target_distribution(Z, Y, qt.method("sft"), reading="loose"),
            r'reading="loose" is none of declared, strict, minimal',
        ),
        (
            lambda: qt.q_target_loss(Z, Y, qt.Method("mine", 0.5, ((0.4, qt.Pool()),))),
            r'method "mine": trust and coefficients sum to 0.9 .*must sum to 1',
        ),
        (
            lambda: qt.linear_q_target_loss(HIDDEN, HEAD, Y, qt.Method("mine", 0.5, ((0.4, qt.Pool()),))),
            r'method "mine": trust and coefficients sum to 0.9 .*must sum to 1',
        ),
        (
            lambda: qt.Method("mine", qt.method("talr").trust),
            r'method "mine": the rule .* looks at a whole batch.*scope="batch"',
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, says: str):
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_diagnostic_that_was_not_asked_for_is_an_attribute_error():
    out = qt.linear_q_target_loss(HIDDEN, HEAD, Y, qt.method("sft"), diagnostics=("trust",))
    assert out.trust.shape == Y.shape
    with pytest.raises(AttributeError, match=r"no diagnostic 'entropy'; measured: \['trust'\]"):
        _ = out.entropy
