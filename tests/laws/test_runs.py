"""Laws 9 and 10 on the losses themselves: how a batch is cut does not matter, and official code agrees."""

import pytest
import torch
import torch.nn.functional as F
from laws.cases import Case, T, V, every_row
from laws.papers import Row

import qtarget as qt


def _cut(value, rows):
    if isinstance(value, tuple):
        return tuple(_cut(v, rows) for v in value)
    if isinstance(value, torch.Tensor) and not value.dim():  # of the whole call
        return value
    return qt.Dense(value.hidden[rows], value.head) if isinstance(value, qt.Dense) else value[rows]


@pytest.mark.failure_case(4)
@pytest.mark.parametrize("row", every_row())
def test_law_09_micro_batches_with_the_global_count_equal_the_whole_batch(row: Row):
    case = Case(row, weighted=True)
    if case.method.scope == "batch":  # exempt by name: such a method means the batch it is given
        assert row.name in ("talr", "entropy-selected", "excess-loss-selected")
        return
    items = case.supervised.sum()
    loss, whole, whole_weight = _loss_and_gradients(case, [slice(0, T)], items)
    for cuts in ([slice(0, 12), slice(12, T)], [slice(i, min(i + 6, T)) for i in range(0, T, 6)]):
        losses, parts, parts_weight = _loss_and_gradients(case, cuts, items)
        torch.testing.assert_close(losses, loss, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(parts_weight, whole_weight, rtol=1e-9, atol=1e-12)


def _loss_and_gradients(case: Case, cuts: list[slice], items: torch.Tensor) -> tuple[torch.Tensor, ...]:
    losses = []
    hidden, weight = case.hidden.clone().requires_grad_(), case.head.weight.clone().requires_grad_()
    for rows in cuts:
        given = {k: _cut(v, rows) for k, v in case.evidence.items()}
        out = qt.linear_q_target_loss(
            hidden[rows],
            qt.Head(weight),
            case.labels[rows],
            case.method,
            **given,
            num_items=items,
            chunk_tokens=5,
        )
        out.loss.backward()
        losses.append(out.loss.detach())
    return torch.stack(losses).sum(), hidden.grad, weight.grad


@pytest.mark.failure_case(5)
@pytest.mark.parametrize("row", every_row())
def test_law_09_packed_equals_padded(row: Row):
    """One long row of documents against one row a document, padded: the same tokens, the same loss."""
    case = Case(row, weighted=True)
    pad = torch.full((4, 6), -1)
    for i in range(4):
        rows = torch.arange(6 * i, min(6 * i + 6, T))
        pad[i, : len(rows)] = rows
    place = pad.clamp(min=0)
    labels = case.labels[place].masked_fill(pad < 0, -100)
    given = {k: _cut(v, place) for k, v in case.evidence.items()}
    packed = qt.linear_q_target_loss(case.hidden, case.head, case.labels, case.method, **case.evidence)
    padded = qt.linear_q_target_loss(case.hidden[place], case.head, labels, case.method, **given)
    torch.testing.assert_close(padded.loss, packed.loss, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(padded.nll, packed.nll)
    by_token = {"reduction": "none", "diagnostics": ("trust", "logp_y")}
    packed = qt.linear_q_target_loss(case.hidden, case.head, case.labels, case.method, **case.evidence, **by_token)
    padded = qt.linear_q_target_loss(case.hidden[place], case.head, labels, case.method, **given, **by_token)
    is_token = pad >= 0
    torch.testing.assert_close(padded.loss[is_token], packed.loss, rtol=1e-10, atol=1e-12)
    assert (padded.loss[~is_token] == 0).all()
    for name, values in packed.diagnostics.items():
        torch.testing.assert_close(padded.diagnostics[name][is_token], values, equal_nan=True)


def _official(name: str, case: Case):
    """torch's own loss for a method, as a function of logits; sums over supervised tokens."""
    labels, given = case.labels, case.logit_evidence

    def divergence(z):
        return (
            F.kl_div(z.log_softmax(-1), given["teacher"].softmax(-1), reduction="none").sum(-1)[case.supervised].sum()
        )

    def cross_entropy(z):
        return F.cross_entropy(z, labels, reduction="sum")

    return {
        "sft": cross_entropy,
        "label-smoothing": lambda z: F.cross_entropy(z, labels, reduction="sum", label_smoothing=0.1),
        "kd": lambda z: F.cross_entropy(
            z[case.supervised], given["teacher"].softmax(-1)[case.supervised], reduction="sum"
        ),
        "kd-hybrid": lambda z: 0.5 * cross_entropy(z) + 0.5 * divergence(z),
    }[name]


@pytest.mark.parametrize("name", ["sft", "label-smoothing", "kd", "kd-hybrid"])
def test_law_10_official_code_agrees(name: str):
    case = Case(Row(name, {}))
    official = _official(name, case)
    ours, theirs = case.logits.clone().requires_grad_(), case.logits.clone().requires_grad_()
    out = qt.q_target_loss(ours, case.labels, case.method, **case.logit_evidence, num_items=1)
    out.loss.backward()
    official(theirs).backward()
    torch.testing.assert_close(out.loss.detach(), official(case.logits))
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_law_10_torch_own_fused_loss_agrees():
    if not hasattr(F, "linear_cross_entropy"):
        return
    case = Case(Row("sft", {}), dtype=torch.float32)
    ours = qt.linear_q_target_loss(case.hidden, case.head, case.labels, case.method).loss
    theirs = F.linear_cross_entropy(case.hidden, case.head.weight, case.labels)
    torch.testing.assert_close(ours, theirs)


def test_induced_target_of_a_loss_outside_the_catalogue():
    """Unlikelihood of a token c deletes it: Q is p without c, renormalised."""
    logits = torch.randn(5, V, dtype=torch.float64)
    unlikely = torch.tensor([3, 1, 4, 1, 5])[:, None]
    q = qt.induced_target(lambda z: -torch.log1p(-z.softmax(-1).gather(-1, unlikely).squeeze(-1)), logits)
    rest = logits.softmax(-1).scatter(-1, unlikely, 0.0)
    torch.testing.assert_close(q, rest / rest.sum(-1, keepdim=True))


def test_induced_target_refuses_a_detached_loss():
    with pytest.raises(ValueError, match=r"without \.detach"):
        qt.induced_target(lambda z: z.detach().sum(), torch.randn(2, V))
