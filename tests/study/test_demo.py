"""The demo, small: every part is real, only the budget is not."""

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from qtarget import lab
from qtarget.study import demo
from qtarget.study.demo import demo_budget, demo_outcome
from qtarget.study.run_record import Run

THREE = (("base", {}), ("target-sft", {"eta": 0.2}), ("sft", {}))


def console() -> Console:
    return Console(file=StringIO(), width=120)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "ARMS", THREE)
        scores = demo.run_demo(out, world="weak-operator", seed=3, quick=True)
    return out / "weak-operator", scores


def test_it_saves_models_that_load_and_generate(finished):
    folder, scores = finished
    path = folder / "target-sft-eta-0.2" / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    ids = tokenizer("7 + 5 ?", return_tensors="pt")
    assert model.generate(**ids, max_new_tokens=4).shape[1] > ids["input_ids"].shape[1]
    trained, base = model.state_dict(), lab.load_student(lab.world("weak-operator")).state_dict()
    assert any((trained[name] != base[name]).any() for name in base)
    assert [(s.run.method, s.run.hyperparameters) for s in scores] == list(THREE)


def test_it_saves_table_results_and_picture(finished):
    folder, scores = finished
    results = json.loads((folder / "results.json").read_text())
    assert [a["mean"] for a in results["arms"]] == [pytest.approx(s.mean) for s in scores]
    assert results["versions"]["torch"]
    table = (folder / "table.txt").read_text()
    assert all(f"{100 * s.mean:.1f}" in table for s in scores)
    assert (folder / "scores.png").stat().st_size > 10_000


def test_finished_arms_are_read_and_others_made_again(finished, tmp_path):
    folder, scores = finished
    world, target = lab.world("weak-operator"), scores[1]

    def never(done: int, total: int) -> None:
        raise AssertionError("the arm ran again")

    again = demo_outcome(target.run, world, folder / "target-sft-eta-0.2", never, console())
    assert again == target
    base = scores[0].run
    shorter, steps = replace(base, budget=replace(base.budget, test=2)), []
    other = demo_outcome(shorter, world, tmp_path, lambda *s: steps.append(s), console())
    assert len(other.right) == 2
    assert steps


def test_a_score_of_another_version_is_made_again_and_said_so(finished, tmp_path):
    _, scores = finished
    base, said = replace(scores[0].run, budget=replace(scores[0].run.budget, test=2)), console()
    (tmp_path / "score.json").write_text('{"arm": {"name": "base"}, "mean": 0.5}')
    made = demo_outcome(base, lab.world("weak-operator"), tmp_path, lambda *s: None, said)
    assert "score.json is of another version of qtarget; base is run again" in " ".join(said.file.getvalue().split())
    assert demo_outcome(base, lab.world("weak-operator"), tmp_path, lambda *s: pytest.fail("again"), said) == made


def test_an_interrupted_arm_leaves_no_score(tmp_path):
    world = lab.world("weak-operator")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo_outcome(
            Run(world.name, "sft", {}, 0, "test", demo_budget(world, quick=True)), world, tmp_path, stop, console()
        )
    assert not (tmp_path / "score.json").exists()


def test_an_unknown_world_is_refused_by_its_near_miss(tmp_path):
    with pytest.raises(ValueError, match="weak-operator"):
        demo.run_demo(tmp_path, world="weak-opertor")
