"""The engine of a call: chosen once, before any chunk, and used by all of them."""

import pytest
import torch
from laws.cases import Case, T
from laws.papers import Row

import qtarget as qt
from qtarget.fused import engine, loss_plan
from qtarget.fused.torch_engine import TorchChunk


class Watched(TorchChunk):
    """Torch operations that count how often a chunk was started, measured and made into gradients."""

    calls: list[str]

    @staticmethod
    def start(*args) -> "Watched":
        Watched.calls.append("start")
        return Watched(**vars(TorchChunk.start(*args)))

    def measure(self, *args, **named) -> None:
        Watched.calls.append("measure")
        super().measure(*args, **named)

    def add_gradients(self, *args) -> None:
        Watched.calls.append("gradients")
        super().add_gradients(*args)


@pytest.fixture
def choices(monkeypatch) -> list:
    """What was asked of the choice, which falls on `Watched`."""
    asked = []
    monkeypatch.setattr(loss_plan, "choose_engine", lambda *args: (asked.append(args), Watched)[1])
    monkeypatch.setattr(Watched, "calls", [], raising=False)
    return asked


def _call(name: str, **options) -> tuple[int, list[torch.Tensor]]:
    case = Case(Row(name, {}))
    hidden, weight = case.hidden.clone().requires_grad_(), case.head.weight.clone().requires_grad_()
    out = qt.linear_q_target_loss(hidden, qt.Head(weight), case.labels, case.method, **case.evidence, **options)
    out.loss.sum().backward()
    return int(case.supervised.sum()), [hidden.grad, weight.grad]


@pytest.mark.parametrize("name", ["dft", "target-sft"])
def test_one_choice_for_all_chunks(name: str, choices: list):
    expected = _call(name, chunk_tokens=T)[1]
    Watched.calls.clear()
    choices.clear()
    tokens, gradients = _call(name, chunk_tokens=2)
    assert len(choices) == 1
    assert Watched.calls == ["start", "measure", "gradients"] * -(-tokens // 2)
    for mine, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_trial_of_one_token_runs_on_the_engine_of_the_call(choices: list):
    _call("dft", buffer_bytes=10**4)
    assert len(choices) == 1
    assert Watched.calls[:3] == ["start", "measure", "gradients"]


def test_backward_of_a_loss_per_token_chooses_for_its_own_run(choices: list):
    _call("dft", chunk_tokens=2, reduction="none")
    assert len(choices) == 2


def test_methods_that_look_beyond_a_token_measure_every_chunk_twice(choices: list):
    tokens, _ = _call("iw-sft", chunk_tokens=2)
    assert len(choices) == 1
    assert Watched.calls.count("measure") == 2 * -(-tokens // 2)


def test_a_cpu_is_for_torch():
    case = Case(Row("dft", {}), dtype=torch.float32)
    assert engine.choose_engine(case.hidden, case.method.pools, (), None, case.head, whole_target=False) is TorchChunk
