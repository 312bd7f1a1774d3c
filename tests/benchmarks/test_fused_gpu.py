"""The GPU's benchmark, tried on a CPU: who is measured, who is told of and why, and a whole step of every trainer."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="module")
def modules():
    """By name."""
    sys.path.insert(0, BENCHMARKS)
    yield {name: importlib.import_module(name) for name in ("fused_gpu", "objectives", "peers", "step_gpu")}
    sys.path.remove(BENCHMARKS)


@pytest.fixture
def case(modules):
    return modules["objectives"].Case("sft", tokens=16, hidden=32, vocab=256)


def failing():
    raise RuntimeError("no kernel image\nand more")


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU Liger and others run too")
@pytest.mark.parametrize("objective", ["sft", "dft", "target-sft"])
def test_peers_that_run_are_measured_and_others_say_why_not(modules, case, objective: str, capsys):
    fused_gpu = modules["fused_gpu"]
    row = fused_gpu.measured(replace(case, objective=objective), rounds=2)
    peers = {peer.name for peer in modules["peers"].ON_GPU if objective in peer.objectives}
    assert set(row["rounds"]) == {"qtarget", "low memory", "plain", "bare products"} | (peers & {"TRL's head"})
    assert set(row["not measured"]) == peers - {"TRL's head"}
    assert {len(times) for times in row["rounds"].values()} == {2}
    fused_gpu.tell(row)
    said = capsys.readouterr().out
    assert all(f"{name:26} not measured: " in said for name in row["not measured"])
    assert "bare products / qtarget" in said
    assert "Liger / qtarget" not in said


def test_a_peer_that_fails_ends_nobody_elses_measurement(modules, case, monkeypatch):
    fused_gpu, Peer = modules["fused_gpu"], modules["peers"].Peer
    broken = (Peer("broken", ("sft",), failing), Peer("absent", ("sft",), failing, lambda: "absent is not installed"))
    monkeypatch.setattr(fused_gpu, "ON_GPU", broken)
    row = fused_gpu.measured(case, rounds=1)
    assert row["not measured"] == {"broken": "RuntimeError: no kernel image", "absent": "absent is not installed"}
    assert row["ms and MiB"]["qtarget"] > 0


def test_a_step_of_every_trainer(modules, capsys):
    """The shape is small; trainers, rows and clock are those of a GPU."""
    step_gpu = modules["step_gpu"]
    small = replace(step_gpu.BILLION, layers=1, hidden=64, feed_forward=64, vocab=512, heads=8, rows=2, length=16)
    found = dict(step_gpu.steps_of(3, 1, small))
    assert list(found) == list(step_gpu.TRAINERS)
    assert not [name for name, row in found.items() if "failed" in row], found
    assert all(row["tokens a second"] > 0 for row in found.values())
    assert capsys.readouterr().out.count(" tokens/s") == len(found)


def test_a_trainer_that_fails_says_why_and_ends_no_other(modules, monkeypatch):
    step_gpu = modules["step_gpu"]
    monkeypatch.setattr(step_gpu, "TRAINERS", {"unknown": {"loss_type": "no such"}, "sft": {"method": "sft"}})
    small = replace(step_gpu.BILLION, layers=1, hidden=64, feed_forward=64, vocab=512, heads=8, rows=2, length=16)
    found = dict(step_gpu.steps_of(2, 1, small))
    assert "no such" in found["unknown"]["failed"]
    assert found["sft"]["ms a step"] > 0


def test_the_model_has_a_billion_parameters_and_more(modules):
    from whole_step import model_of

    with torch.device("meta"):
        model = model_of(modules["step_gpu"].BILLION)
    assert 1.2e9 < sum(each.numel() for each in model.parameters()) < 1.4e9
