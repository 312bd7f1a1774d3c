"""What a frame takes from what it keeps is what the definitions measure; and how often it goes over the vocabulary."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import qtarget as qt
from qtarget.job.inspection.measured_rows import MEAN_SLOPES
from qtarget.job.inspection.pull import beside_itself, is_label_trust, residual_pull, target_at
from qtarget.job.inspection.row_forward import RowForward
from qtarget.job.inspection.whole_frame import WholeFrame, frames_of
from qtarget.target import statistics
from qtarget.target.evidence import CallInputs
from qtarget.target.frame import Frame
from qtarget.target.inputs import supervised_tokens
from qtarget.target.source_logits import dense_logits
from qtarget.target.statistics import COLLISION, ENTROPY, LOG_NOT_Y, REFERENCE_MASS_BELOW

TOKENS, VOCABULARY, HIDDEN = 7, 5003, 16
WHOLE = [name for name in qt.METHODS if not is_label_trust(qt.method(name))]
MEASURED = {
    "entropy": ENTROPY,
    "teacher's entropy": statistics.teacher_entropy(0),
    "collision": COLLISION,
    "log_not_y": LOG_NOT_Y,
    "mass below": REFERENCE_MASS_BELOW,
    "top 20": statistics.top_k_entropy(20),
    "mass of top 10": statistics.top_k_mass(10),
    "half": statistics.head_share(0.5),
    "most": statistics.head_share(0.97),
    "all but": statistics.head_share(0.9999),
    **MEAN_SLOPES,
}


def row(spread: float, kind: str) -> RowForward:
    """Tokens of a student and a teacher, all random; "kept": of the teacher 40 tokens; "barred": the student cannot
    produce some tokens; "apart": the reference is a model of its own."""
    torch.manual_seed(3)
    hidden, other, third = (torch.randn(1, TOKENS, HIDDEN) for _ in range(3))
    bias = torch.zeros(VOCABULARY)
    bias[::50] = -torch.inf if kind == "barred" else 0.0
    weight = torch.randn(VOCABULARY, HIDDEN) * spread / HIDDEN**0.5
    head = qt.Head(weight, bias)
    labels = torch.randint(0, VOCABULARY, (1, TOKENS)) // 50 * 50 + 1
    labels[0, 0] = (hidden[0, 0] @ weight.T + bias).argmax()
    teacher = qt.Dense(hidden + 0.5 * other, qt.Head(weight))
    if kind == "kept":
        logp = dense_logits(teacher).log_softmax(-1)
        top = logp.topk(40, -1)
        tail = logp.exp().scatter(-1, top.indices, 0.0).sum(-1).log()
        teacher = qt.Sparse(top.indices, top.values, tail)
    reference = qt.Dense(hidden + 0.3 * third, qt.Head(weight)) if kind == "apart" else None
    given = CallInputs((teacher,), reference, None, torch.zeros_like(labels), progress=0.0)
    tokens = supervised_tokens(labels, qt.method("sft"), VOCABULARY, given, -100, False)
    return RowForward(hidden[0], head, tokens, reference is None)


KINDS = [(1.5, "live"), (6.0, "live"), (6.0, "kept"), (4.0, "barred"), (4.0, "apart")]


@pytest.mark.parametrize(("spread", "kind"), KINDS)
@pytest.mark.parametrize("name", MEASURED)
def test_a_statistic_is_as_its_definition_has_it(spread: float, kind: str, name: str):
    (frame,) = frames_of(row(spread, kind))
    is_of_order = MEASURED[name].name == statistics.head_share(0.5).name  # whose edge a rounding error moves
    defined = Frame(frame.logp_TV if is_of_order else frame.logp_TV.double(), frame.tokens)[MEASURED[name]]
    torch.testing.assert_close(frame[MEASURED[name]].double(), defined.double(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("spread", "kind"), KINDS)
@pytest.mark.parametrize("name", WHOLE)
def test_a_method_pulls_as_its_target_has_it(spread: float, kind: str, name: str):
    (frame,) = frames_of(row(spread, kind))
    method = qt.method(name)
    wide = Frame(frame.logp_TV.double(), frame.tokens)
    target = qt.target.loss.declared_target(method, wide)
    gradient = target.scale * (wide.logp_TV.exp() - target.q).norm(dim=-1)
    pull = residual_pull(beside_itself(method) if frame.is_student_reference else method, frame)
    kl = qt.target.loss.target_kl(target.q, wide.logp_TV)
    sure = ~near_improper(target.q)
    for found, expected in ((pull.trust, target.trust), (pull.scale, target.scale), (pull.gradient, gradient)):
        torch.testing.assert_close(found.double(), expected.double(), rtol=2e-4, atol=2e-6)
    torch.testing.assert_close(pull.target_kl.double()[sure], kl[sure], rtol=5e-4, atol=5e-5, equal_nan=True)
    ids = torch.stack([frame.tokens.labels_T, target.q.argmax(-1)], -1)
    torch.testing.assert_close(target_at(method, frame, ids).double(), target.q.gather(-1, ids), rtol=1e-3, atol=1e-5)


def near_improper(q_TV: torch.Tensor) -> torch.Tensor:
    """Where single precision may call a target proper that double precision does not: an entry a little below 0."""
    least = q_TV.amin(-1)
    return (least < -1e-12) & (least > -2e-6)


class VocabularyPasses(TorchDispatchMode):
    """Counts operations whose result is as large as a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        first = out[0] if isinstance(out, tuple) else out
        is_view = "view" in func.name() or "slice" in func.name() or "alias" in func.name()
        if isinstance(first, torch.Tensor) and first.numel() >= TOKENS * VOCABULARY and not is_view:
            self.passes.append(func.name())
        return out


def passes(name: str) -> list[str]:
    """Over one frame, of one method whose sources are built already."""
    (frame,) = frames_of(row(4.0, "live"))
    warm(frame)
    with VocabularyPasses() as counted:
        residual_pull(beside_itself(qt.method(name)), frame)
    return counted.passes


def warm(frame: WholeFrame) -> None:
    for name in ("reverse-kl", "jsd", "kd", "target-sft", "extrapolated"):
        residual_pull(beside_itself(qt.method(name)), frame)


def test_a_second_method_of_one_pool_goes_over_the_vocabulary_five_times_and_builds_nothing():
    found = passes("kd-hybrid")
    assert len(found) <= 5, found
    assert not any("exp" in each or "log" in each or "softmax" in each for each in found), found


def test_a_target_that_a_page_shows_is_not_built_again():
    (frame,) = frames_of(row(4.0, "live"))
    warm(frame)
    with VocabularyPasses() as counted:
        target_at(beside_itself(qt.method("extrapolated")), frame, frame.tokens.labels_T[:, None])
    assert counted.passes == []
