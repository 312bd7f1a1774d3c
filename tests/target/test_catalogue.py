"""The catalogue as a whole: what it holds, what each method says of itself, and how rules combine."""

import copy
import inspect

import pytest
import torch
from laws import papers_beyond, papers_divergences, papers_robust
from laws.cases import name_of
from laws.oracle import Row
from laws.papers import PAPERS, ROWS

import qtarget as qt
from qtarget.target import methods_beyond, methods_divergences, methods_robust
from qtarget.target.hyperparameters import hyperparameters


def test_the_catalogue_and_the_laws_hold_the_same_methods():
    assert list(qt.METHODS) == list(PAPERS)
    assert list(methods_beyond.BEYOND) == list(papers_beyond.BEYOND)
    assert list(methods_divergences.DIVERGENCES) == list(papers_divergences.DIVERGENCES)
    assert list(methods_robust.ROBUST) == list(papers_robust.ROBUST)


@pytest.mark.parametrize("name", PAPERS)
def test_methods_need_what_their_papers_loss_reads(name: str):
    assert qt.method(name).needs == PAPERS[name].needs


@pytest.mark.parametrize("name", PAPERS)
def test_hyperparameters_and_their_defaults_are_the_papers(name: str):
    """Both are written by hand, here and there. What `ours` names the paper's loss does not have."""
    library = {h.name: h.default for h in hyperparameters(qt.METHODS[name])}
    assert library.keys() >= set(PAPERS[name].ours)
    assert {key: default for key, default in library.items() if key not in PAPERS[name].ours} == PAPERS[name].defaults


def _gradients(row: Row, seed: int, first_redrawn: int) -> torch.Tensor:
    """The paper's logit gradients [6, V] in two sequences of three tokens, drawn anew from one token on."""
    drawn, redrawn = (torch.randn(4, 6, 11, generator=torch.Generator().manual_seed(s)) for s in (seed, 99 + seed))
    logits, reference, *teachers = torch.cat([drawn[:, :first_redrawn], 3 * redrawn[:, first_redrawn:]], 1)
    weight, ids, labels = torch.ones(6), torch.arange(6) // 3, torch.arange(6)
    evidence = {"teacher": teachers[: qt.method(row.name, **row.hyperparameters).num_teachers], "reference": reference}
    given = {"token_weight": weight, "sequence_ids": ids, "progress": 0.3}
    logits.requires_grad_()
    loss = PAPERS[row.name](logits, labels, **evidence, **given, **row.hyperparameters)
    return torch.autograd.grad(loss.sum(), logits)[0]


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_method_looks_as_far_as_its_papers_loss(row: Row):
    """What is drawn anew after a token changes that token's gradient only where the scope reaches as far."""

    def reads_from(first: int) -> bool:
        return any(not torch.equal(_gradients(row, n, first)[:first], _gradients(row, n, 6)[:first]) for n in range(8))

    scope = "batch" if reads_from(3) else "sequence" if reads_from(1) else "token"
    assert qt.method(row.name, **row.hyperparameters).scope == scope


@pytest.mark.parametrize("name", qt.METHODS)
def test_every_method_states_source_formula_and_limits(name: str):
    text = inspect.getdoc(qt.METHODS[name])
    assert qt.method(name).source
    assert qt.method(name).name == name
    assert any(sign in text for sign in ("γ", "Q ="))
    assert "Limits:" in text


@pytest.mark.parametrize("name", qt.METHODS)
def test_hyperparameters_declare_a_domain_that_admits_their_default(name: str):
    for hyperparameter in hyperparameters(qt.METHODS[name]):
        assert hyperparameter.domain.problem(hyperparameter.default) is None
        assert hyperparameter.domain.about
        assert hyperparameter.domain.interval


def test_a_method_by_name_remembers_its_hyperparameters():
    assert qt.method("target-sft", eta=0.2).hyperparameters == {"eta": 0.2, "teacher_temperature": 1.0, "trust": "p_y"}
    assert qt.method("psft", refresh_every=4).refresh_every == 4


def test_rules_combine_by_arithmetic():
    from qtarget.target.statistics import LOGP_Y
    from qtarget.target.trust import label_probability

    p = label_probability()
    measured = {LOGP_Y: torch.tensor([0.5, 0.25]).log()}
    for rule, expected in [
        (1 - p, [0.5, 0.75]), (p + 1, [1.5, 1.25]), (2 * p / (p + 1), [2 / 3, 0.4]), (-p, [-0.5, -0.25]),
        (1 / p - p, [1.5, 3.75]),
    ]:  # fmt: skip
        torch.testing.assert_close(rule(measured), torch.tensor(expected))
    assert (1 - p).reads == (LOGP_Y,)


def test_a_composed_method_runs_and_its_value_defaults_to_the_cross_entropy():
    half = qt.Method("half", 0.5, ((0.5, qt.Pool()),))
    logits, labels = torch.randn(6, 11, dtype=torch.float64), torch.arange(6)
    out = qt.q_target_loss(logits, labels, half)
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.5)
    torch.testing.assert_close(out.loss, expected)
    hidden, head = torch.randn(6, 4, dtype=torch.float64), qt.Head(torch.randn(11, 4, dtype=torch.float64))
    fused = qt.linear_q_target_loss(hidden, head, labels, half)
    torch.testing.assert_close(fused.loss, qt.q_target_loss(hidden @ head.weight.T, labels, half).loss)


def test_methods_copy():
    m = qt.method("gem", h="logsigmoid")
    assert copy.deepcopy(m).name == "gem"


def test_every_public_name_is_there():
    import qtarget

    names = [name for name in dir(qtarget) if not name.startswith("_")]
    assert {"method", "METHODS", "q_target_loss", "Dense", "Target"} <= set(names)
    assert all(getattr(qtarget, name) is not None for name in names)
    with pytest.raises(AttributeError, match="no attribute 'metod'"):
        _ = qtarget.metod


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("profit", {"threshold": 0.25}, 0.0),
        ("beyond-log-threshold", {"threshold": 0.25}, 0.25),
        ("beyond-log-threshold", {"threshold": 0.25, "keep": "bottom"}, 0.25),
    ],
)
def test_a_label_exactly_at_the_threshold(name: str, given: dict, expected: float):
    """ProFit's paper keeps p > τ only; beyond-log's keeps p = q on either side."""
    out = qt.q_target_loss(torch.zeros(1, 4, dtype=torch.float64), torch.tensor([2]), qt.method(name, **given))
    assert out.trust.item() == expected
