"""The harness of `make bench`, in its smallest setting."""

import importlib
import io
import sys
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="module")
def bench():
    """The modules by name."""
    sys.path.insert(0, BENCHMARKS)
    names = ("bench", "loss_cost", "objectives", "peers", "timing", "verdicts", "whole_step", "speed_page")
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(BENCHMARKS)


def gradients(way, x):
    x.forget()
    way(x).backward()
    return x.hidden.grad, x.weight.grad


@pytest.mark.parametrize("objective", ["sft", "dft", "eaft", "kd", "target-sft"])
def test_everyone_computes_the_same_gradient(bench, objective):
    peers, x = bench["peers"], bench["objectives"].Inputs(bench["objectives"].Case(objective, 64, 64, 512))
    ours, *others = [p for p in peers.of(objective) if not (p.warm_whole or p.missing())]
    expected = gradients(ours.build(), x)
    assert len(others) >= 1
    for peer in others:
        torch.testing.assert_close(gradients(peer.build(), x), expected, rtol=1e-4, atol=1e-7, msg=peer.name)


def test_a_sparse_teacher_of_all_tokens_is_the_dense_one(bench, monkeypatch):
    module = bench["objectives"]
    monkeypatch.setattr(module, "KEPT", 511)
    cases = [module.Case(name, 16, 64, 512) for name in ("target-sft, sparse", "target-sft")]
    kept, dense = (torch.cat(gradients(module.fused, module.Inputs(case))) for case in cases)
    assert (kept - dense).norm() < 1e-3 * dense.norm()


def test_several_teachers_and_masked_tokens(bench):
    cost, module = bench["loss_cost"], bench["objectives"]
    x = module.Inputs(module.Case("kd", 32, 64, 512, teachers=3, masked=0.5))
    assert len(x.evidence) == 3
    assert (x.labels == -100).sum() == 16
    three, first = (gradients(lambda x, n=n: module.fused(x, cost.mixture(n)), alone(x, n)) for n in (3, 1))
    thrice = gradients(lambda x: module.fused(x, cost.mixture(3)), alone(x, 1, times=3))
    torch.testing.assert_close(thrice, first)
    assert (three[0] - first[0]).norm() > 0.1 * first[0].norm()


def alone(x, teachers, times=1):
    """The inputs with so many of their teachers, each so many times."""
    other = copy(x)
    other.teachers = x.teachers[:teachers] * times
    vars(other).pop("evidence", None)
    return other


def test_slopes_are_powers(bench):
    slope = bench["loss_cost"].slope
    assert slope([1, 2, 4], [3.0, 12.0, 48.0]) == pytest.approx(2)
    assert slope([1, 2], [None, 1.0]) is None


def test_a_fresh_process_says_what_a_step_takes(bench):
    cost, module = bench["loss_cost"], bench["objectives"]
    if not bench["timing"].has_peak():
        pytest.skip("the system does not say how much memory a process had at most")
    case = module.Case("dft", tokens=256, hidden=16, vocab=32768)
    ours, plain = cost.peaks([cost.Peak(case, options={"chunk_tokens": 32}), cost.Peak(case, "plain autograd")])
    whole = 256 * 32768 * 4 / 2**20
    assert 2 * whole < plain < 6 * whole
    assert ours < plain / 4


def test_the_sections_that_time_the_loss_and_their_targets(bench):
    cost, verdicts = bench["loss_cost"], bench["verdicts"]
    found = {name: cost.SECTIONS[name](cost.QUICK) for name in ("speed", "bf16", "vocabulary", "masked", "diagnostics")}
    lines = verdicts.lines(found)
    assert len(lines) == 25
    assert all(line.found > 0 for line in lines if "oneDNN" not in line.what)
    slow = verdicts.lines(found)[0]._replace(found=1.0, target=1.25, machine=None)
    assert slow.is_met is False
    assert slow.verdict == "missed by 20 %"
    assert slow._replace(limit="at most").verdict == "met by 20 %"
    assert slow._replace(found=None).verdict == "not measured: not run"
    assert slow._replace(machine=1.3).verdict == "missed by 20 %"
    assert slow._replace(machine=1.2).verdict == "missed by 20 %; the machine's bare products alone miss it"
    shown = Console(file=io.StringIO(), width=160)
    bench["bench"].show(found, shown)
    assert "V=151936: time over the bare products" in shown.file.getvalue()


def test_a_processor_with_amx_leaves_bf16_unmeasured(bench):
    lines = bench["verdicts"].lines({"bf16": {"amx": True, "rows": []}})
    over_plain = {line.verdict for line in lines if "plain" in line.what}
    assert over_plain == {"not measured: a processor with AMX"}


def test_each_figure_stands_beside_its_machines_limit(bench):
    """Beside plain's 1.44 s and products of 1.25 s and 1.2 s no loss is 1.25 times as fast."""
    verdicts, plain = bench["verdicts"], bench["peers"].PLAIN.name
    bare, onednn = bench["verdicts"].BARE, bench["verdicts"].BARE_ONEDNN
    ratios = {"median": 0.98}, {"median": 1.02}
    row = {
        "objective": "sft",
        "seconds": {plain: {"cpu": 1.44}, bare: {"cpu": 1.25}, onednn: {"cpu": 1.2}},
        "over": dict(zip((bare, onednn), ratios, strict=True)),
        "faster": {"median": 1.2},
    }
    lines = verdicts.lines({"speed": {"machine": {"processor": "a processor"}, "rows": [row]}})
    found = {line.what: line for line in lines if line.what.startswith("sft, fp32")}
    of_plain, over = found["sft, fp32: as fast as plain"], found["sft, fp32: time over the better bare products"]
    assert (of_plain.machine, of_plain.processor) == (pytest.approx(1.2), "a processor")
    assert of_plain.verdict == "missed by 4 %; the machine's bare products alone miss it"
    assert (over.found, over.target, over.is_met) == (1.02, 1.05, True)
    assert {line.processor for line in lines if line.found is None} == {""}


def test_a_whole_step_of_every_trainer(bench, monkeypatch):
    whole_step = bench["whole_step"]
    monkeypatch.setattr(whole_step, "peaks", lambda trainers, sizes: dict.fromkeys(trainers, 1.0))
    found = whole_step.run(replace(whole_step.QUICK, rounds=1))
    assert set(found["seconds"]) == set(whole_step.TRAINERS)
    assert len(bench["verdicts"].lines({"step": found})) == 5
    whole = bench["speed_page"].step(found)
    assert "| TRL nll |" in whole


def test_the_pages_tables_are_those_of_the_results(bench):
    module = bench["speed_page"]
    text = module.PAGE.read_text()
    assert text.count("<!-- table: ") == len(module.TABLES)
    assert module.page(text) == text
