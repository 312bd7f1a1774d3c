"""The harness of `make bench-teacher`, in its smallest setting."""

import argparse
import importlib
import io
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

import qtarget as qt
from qtarget import lab
from tests.tiny_models import tiny_model, tiny_tokenizer

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="module")
def bench():
    """The modules by name."""
    sys.path.insert(0, BENCHMARKS)
    names = ("teacher_caches", "teacher_quality", "teacher_lab", "teacher_cost", "cache_layouts")
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def quality(bench):
    return bench["teacher_quality"].run(bench["teacher_quality"].Size(tokens=8, vocab=600, draws=4))


def shown(show, *what):
    console = Console(file=io.StringIO(), width=160)
    show(*what, console)
    return console.file.getvalue()


def test_all_tokens_are_the_teacher_and_more_tokens_are_nearer(bench, quality):
    by = {(e["target"], e["tail"], e["k"], e["storage"]): e["variation"]["mean"] for e in quality["errors"]}
    for target, (_, tails) in bench["teacher_quality"].TARGETS.items():
        assert by[target, "student", 0, "float64"] < 1e-12
        for tail in tails:
            falling = [by[target, tail, k, "float64"] for k in (4, 16, 64)]
            assert falling == sorted(falling, reverse=True)
            assert falling[-1] > 1e-6
    assert "target-sft η=0.8" in shown(bench["teacher_caches"].show_quality, quality)


def test_the_gradient_is_the_one_of_the_loss(bench):
    module = bench["teacher_quality"]
    some = next(module.tokens(module.Size(tokens=4, vocab=300)))
    for method, _ in module.TARGETS.values():
        teacher = module.kept(some, 16, "student")
        logits = some.student_TV.clone().requires_grad_()
        qt.q_target_loss(logits, some.labels_T, method, teacher=teacher, num_items=1).loss.backward()
        torch.testing.assert_close(module.aim(some, method, teacher).gradient_TV, logits.grad)


def test_an_arm_is_trained_once_and_all_tokens_train_as_the_live_teacher(bench, tmp_path):
    module = bench["teacher_lab"]
    world = lab.world("weak-operator")
    budget = replace(module.LabBudget.of(world, 0, quick=True), demonstrations=32, steps=2, questions=2, samples=2)
    wanted = [
        module.LabArm("kd"),
        module.LabArm("kd", {}, "student", 64, "float32"),
        *(module.LabArm("kd", {}, tail, 4) for tail in ("student", "uniform", "sampled")),
    ]
    results = [module.score(arm, budget, tmp_path / "caches", tmp_path / "results") for arm in wanted]
    whole, *others = [module.loss_deviation(result, results) for result in results[1:]]
    assert whole < 1e-5
    assert min(others) > 1e-3
    assert len({tuple(result.losses) for result in results[2:]}) == 3
    assert module.score(wanted[0], budget, tmp_path / "none", tmp_path / "results") == results[0]
    assert "K=64, student, float32" in shown(bench["teacher_caches"].show_lab, world.name, results)


def test_costs_stand_beside_their_targets(bench):
    module = bench["teacher_cost"]
    costs = module.run(module.QUICK)
    step, writing, reading, size = module.lines(costs)
    assert step.found > 0
    assert writing.found > 0
    assert reading.found > 0
    assert 398 <= size.found <= 399
    assert size.is_met
    assert not size._replace(target=398.0).is_met
    assert not size._replace(limit="at least").is_met
    assert size._replace(target=199.0).margin == pytest.approx(-size.found / 199 + 1)
    assert "at most 400 bytes" in shown(bench["teacher_caches"].show_costs, costs)


@pytest.fixture(scope="module")
def layouts(bench, tmp_path_factory):
    """What `cache_layouts` finds with two tiny models, by text and layout."""
    folder, words = tmp_path_factory.mktemp("layouts"), [f"w{i}" for i in range(600)]
    tokenizer, drawn = tiny_tokenizer(words), random.Random(0)
    for name, seed in (("student", 0), ("teacher", 1)):
        tiny_model("llama", seed=seed, vocab=len(tokenizer)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    rows = [{"question": "w1 w2", "answer": " ".join(drawn.choices(words, k=40)) + "#### 7"} for _ in range(3)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "page.md").write_text(" ".join(drawn.choices(words, k=300)))
    given = argparse.Namespace(
        student=str(folder / "student"), teacher=str(folder / "teacher"), student_name="small", teacher_name="large",
        rows=folder / "rows.jsonl", prose=[folder / "page.md"],
    )  # fmt: skip
    found = bench["cache_layouts"].run(given, bench["cache_layouts"].Sizes(3, 1, tokens=16, rounds=1))
    return {name: {row["layout"]: row for row in text["layouts"]} for name, text in found["texts"].items()}


def test_every_layout_of_a_cache_is_written_and_measured(layouts):
    assert layouts.keys() == {"solutions", "prose"}
    for rows in layouts.values():
        for k in (16, 64):
            fixed, packed = rows[f"K = {k}"], rows[f"K = {k}, packed"]
            assert fixed["kept"] == packed["kept"] == k
            assert 14 + 6 * k < fixed["bytes_per_token"] < 1.1 * (14 + 6 * k) + 30
            assert packed["bytes_per_token"] < fixed["bytes_per_token"]
            for name, error in fixed["errors"].items():
                assert packed["errors"][name] == pytest.approx(error, rel=0.01)  # the rest's mass, in float16
        for e in (0.1, 0.05):
            assert 1 < rows[f"ε = {e:g}"]["kept"] <= 256
        for name in rows["K = 8"]["errors"]:
            falling = [rows[f"K = {k}"]["errors"][name]["variation"] for k in (8, 16, 32, 64, 128)]
            assert falling == sorted(falling, reverse=True)
            assert falling[-1] > 1e-6


def changed(found, text, layout, **values):
    """The results with other numbers of one layout."""
    rows = found["texts"][text]["layouts"]
    return {**found, "texts": {**found["texts"], text: {**found["texts"][text], "layouts": [
        {**row, **values} if row["layout"] == layout else row for row in rows
    ]}}}  # fmt: skip


def test_the_page_tells_an_aim_that_is_missed(bench, tmp_path):
    module = importlib.import_module("teacher_page")
    found = module._real(module.RESULTS)
    rows = found["texts"]["prose"]["layouts"]
    assert module.cheapest_at_the_error(rows, "K = 64")["layout"] == "K = 64, packed"
    (tmp_path / "cache_layouts.json").write_text(json.dumps(found))
    assert module.aims(tmp_path).count("| missed by") == module.aims(module.RESULTS).count("| missed by")
    large = changed(found, "prose", "K = 64, packed", bytes_per_token=290.0)
    (tmp_path / "cache_layouts.json").write_text(json.dumps(large))
    assert "| bytes at the errors of K = 64, prose | K = 64, packed | 0.73x | at most 0.5x | missed by 45" in (
        module.aims(tmp_path)
    )


def test_what_the_page_says_of_layouts_is_so(bench):
    """Each sentence beside the tables."""
    module = importlib.import_module("teacher_page")
    found = module._real(module.RESULTS)["texts"]
    by = {name: {row["layout"]: row for row in text["layouts"]} for name, text in found.items()}
    ms = {name: {row["layout"]: row for row in text["reading"]} for name, text in found.items()}
    for rows in by.values():
        assert rows["K = 64, packed"]["bytes_per_token"] < rows["K = 64"]["bytes_per_token"] / 2
    sure, usual = by["solutions"], by["solutions"]["K = 64"]
    assert module.cheapest_at_the_error(found["solutions"]["layouts"], "K = 64")["layout"] == "ε = 0.003"
    loose = sure["ε = 0.01"]
    assert 6 < usual["bytes_per_token"] / loose["bytes_per_token"] < 8
    assert loose["errors"]["target-sft η=0.5"]["gradient"] > 1.1 * usual["errors"]["target-sft η=0.5"]["gradient"]
    assert loose["errors"]["kd"]["variation"] > 1.1 * usual["errors"]["kd"]["variation"]
    for target, error in loose["errors"].items():
        assert error["variation"] == pytest.approx(sure["K = 32"]["errors"][target]["variation"], rel=0.4)
    usual = by["prose"]["K = 64"]
    for e in (0.05, 0.02, 0.01, 0.003, 0.001):
        row = by["prose"][f"ε = {e:g}"]
        assert row["bytes_per_token"] > 0.75 * usual["bytes_per_token"]
        for target, error in row["errors"].items():
            assert all(error[kind] < usual["errors"][target][kind] for kind in error)
    assert by["prose"]["ε = 0.001"]["bytes_per_token"] < 1.2 * by["prose"]["ε = 0.01"]["bytes_per_token"]
    for text in ms.values():
        fixed = [row["ms"] for name, row in text.items() if name in ("K = 16", "K = 32", "K = 64", "K = 128")]
        assert max(fixed) < 0.1
        quick = [name for name, row in text.items() if row["ms"] < 0.1 and not name.removeprefix("K = ").isdigit()]
        assert quick == (["K = 16, packed"] if text is ms["prose"] else [])
    said = "packed only where 16 tokens are kept of documents of 256** ({:.3f} ms; {:.2f} at K = 64)"
    assert said.format(*(ms["prose"][f"K = {k}, packed"]["ms"] for k in (16, 64))) in module.PAGE.read_text()
    assert ms["prose"]["ε = 0.01"]["least_ms"] > 0.1
    assert by["prose"]["ε = 0.01"]["kept"] > 200


def test_the_pages_tables_are_those_of_the_results(bench):
    module = importlib.import_module("teacher_page")
    text = module.PAGE.read_text()
    assert text.count("<!-- table: ") == len(module.TABLES)
    assert module.page(text) == text
