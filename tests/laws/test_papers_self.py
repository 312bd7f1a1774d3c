"""The papers' losses against worked values, closed-form gradients, central differences and torch's losses."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from laws.closed_forms import TOKENS, a_draw
from laws.papers import PAPERS, ROWS, Row

torch.set_num_threads(1)


def num_teachers(row):
    """As many as a hyperparameter has numbers."""
    return max([1, *(len(value) for value in row.hyperparameters.values() if isinstance(value, tuple))])


def run(row, draw, logits=None, **changed):
    """The paper's per-token loss on `draw`; `changed` replaces evidence."""
    logits = torch.tensor(draw.logits) if logits is None else logits
    evidence = {
        "teacher": tuple(torch.tensor(t) for t in draw.teachers[: num_teachers(row)]),
        "reference": torch.tensor(draw.reference),
        "token_weight": torch.tensor(draw.token_weight),
        "sequence_ids": torch.tensor(draw.sequence_ids),
        "progress": draw.progress,
        **changed,
    }
    return PAPERS[row.name](logits, torch.tensor(draw.labels), **evidence, **row.hyperparameters)


def gradient(row, draw, **changed):
    logits = torch.tensor(draw.logits, requires_grad=True)
    run(row, draw, logits, **changed).sum().backward()
    return logits.grad.numpy()


def label_of(row):
    return row.name + "".join(f" {key}={value}" for key, value in row.hyperparameters.items())


every_row = pytest.mark.parametrize("row", ROWS, ids=label_of)


def rows_with(fact):
    """The rows of the papers that state a fact; what a row leaves out is not checked on it."""
    return [row for row in ROWS if getattr(PAPERS[row.name], fact)]


@pytest.mark.parametrize("row", rows_with("closed_form"), ids=label_of)
def test_gradient_is_the_closed_form(row):
    draw = a_draw()
    stated = PAPERS[row.name].closed_form(draw, **row.hyperparameters)
    expected = stated[:, None] * (draw.p - draw.onehot) if stated.ndim == 1 else stated
    np.testing.assert_allclose(gradient(row, draw), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, paper in PAPERS.items() if paper.worked_value is not None])
def test_value_at_defaults_is_the_worked_one(name):
    def logits_of(*probabilities):
        return torch.tensor([probabilities], dtype=torch.float64).log() + 0.7

    loss = PAPERS[name](
        logits_of(1 / 2, 1 / 4, 1 / 4),
        torch.tensor([1]),
        teacher=(logits_of(1 / 4, 1 / 2, 1 / 4),),
        reference=logits_of(1 / 2, 1 / 8, 3 / 8),
        token_weight=torch.ones(1, dtype=torch.float64),
        sequence_ids=torch.zeros(1, dtype=torch.long),
        progress=0.0,
    )
    assert loss.tolist() == [pytest.approx(PAPERS[name].worked_value, rel=1e-12)]


DIFFERENTIABLE_ROWS = [
    row for row in rows_with("differentiable") if not set(PAPERS[row.name].detached_by) & row.hyperparameters.keys()
]
"""Those whose stop-gradients leave the derivative of the value: there value and gradient check each other."""


@pytest.mark.parametrize("row", DIFFERENTIABLE_ROWS, ids=label_of)
def test_gradient_is_the_value_s_central_difference(row):
    draw = a_draw()
    logits = torch.tensor(draw.logits, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: run(row, draw, z), logits, atol=1e-7)


def test_values_agree_with_torch():
    draw = a_draw()
    logits, labels, teacher = map(torch.tensor, (draw.logits, draw.labels, draw.teachers[0]))
    smoothed = F.cross_entropy(logits, labels, reduction="none", label_smoothing=0.3)
    torch.testing.assert_close(run(Row("label-smoothing", {"smoothing": 0.3}), draw), smoothed)
    soft = (teacher / 2).softmax(-1)
    divergence = F.kl_div((logits / 2).log_softmax(-1), soft, reduction="none").sum(-1)
    soft_entropy = torch.distributions.Categorical(soft).entropy()
    torch.testing.assert_close(run(Row("kd", {"temperature": 2.0}), draw), 4 * (divergence + soft_entropy))
    model_entropy = torch.distributions.Categorical(logits=logits).entropy()
    penalised = F.cross_entropy(logits, labels, reduction="none") - 0.5 * model_entropy
    torch.testing.assert_close(run(Row("confidence-penalty", {"weight": 0.5}), draw), penalised)


def test_capped_log_one_minus_p_keeps_its_value_and_stays_finite():
    draw = a_draw()
    capped, natural = Row("log-one-minus-p", {"weight_max": 0.3}), Row("log-one-minus-p", {})
    torch.testing.assert_close(run(capped, draw), run(natural, draw), rtol=0, atol=0)
    certain = draw._replace(logits=1e4 * draw.onehot)
    assert np.isfinite(gradient(natural, certain)).all()


NAMED = [(row, key) for row in ROWS for key in row.hyperparameters]


@pytest.mark.parametrize(("row", "key"), NAMED, ids=[f"{label_of(row)}: {key}" for row, key in NAMED])
def test_every_hyperparameter_of_a_row_acts(row, key):
    """Back at its default it gives another value or gradient on this draw, so a row does check it."""
    draw = a_draw()
    reset = Row(row.name, {k: v for k, v in row.hyperparameters.items() if k != key})
    same = torch.equal(run(row, draw), run(reset, draw)) and ((gradient(row, draw) == gradient(reset, draw)).all())
    assert same == (key in PAPERS[row.name].without_effect)


@pytest.mark.parametrize("name", PAPERS)
def test_every_hyperparameter_has_a_default_and_a_row_off_it(name):
    defaults = PAPERS[name].defaults
    assert inspect.Parameter.empty not in defaults.values()
    rows = [row.hyperparameters for row in ROWS if row.name == name]
    assert {} in rows
    assert {key for given in rows for key, value in given.items() if value != defaults[key]} == defaults.keys()


def test_iw_sft_takes_the_trajectory_weight_in_place_of_a_reference():
    draw, weight = a_draw(), np.linspace(0, 30, TOKENS)
    logits, labels = torch.tensor(draw.logits, requires_grad=True), torch.tensor(draw.labels)
    PAPERS["iw-sft"].without_reference(logits, labels, token_weight=torch.tensor(weight)).sum().backward()
    np.testing.assert_allclose(logits.grad.numpy(), weight[:, None] * (draw.p - draw.onehot), atol=1e-12)


@every_row
def test_no_gradient_reaches_the_evidence(row):
    draw = a_draw()
    reference = torch.tensor(draw.reference, requires_grad=True)
    teacher = tuple(torch.tensor(t, requires_grad=True) for t in draw.teachers[: num_teachers(row)])
    logits = torch.tensor(draw.logits, requires_grad=True)
    run(row, draw, logits, reference=reference, teacher=teacher).sum().backward()
    assert logits.grad is not None
    assert [evidence.grad for evidence in (reference, *teacher)] == [None] * (1 + num_teachers(row))


def test_an_unknown_hyperparameter_is_refused():
    with pytest.raises(TypeError, match="thresold"):
        run(Row("profit", {"thresold": 0.3}), a_draw())


@pytest.mark.parametrize(
    "name", ["oracle", "papers", "papers_beyond", "papers_divergences", "papers_robust", "closed_forms"]
)
def test_the_oracle_takes_nothing_from_the_library(name):
    tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert "torch" in modules or "numpy" in modules
    assert not {module for module in modules if module.split(".")[0] in ("qtarget", "importlib")}
