"""The demo, small: every part is real, only the budget is not."""

import json
from dataclasses import replace

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from qtarget import lab
from qtarget.study import demo
from qtarget.study.trainings import DemoArm, DemoBudget, score_arm

TWO = (DemoArm("base"), DemoArm("target-sft η=0.2", "target-sft", {"eta": 0.2}), DemoArm("sft", "sft"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "ARMS", TWO)
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
    assert [s.arm for s in scores] == list(TWO)


def test_it_saves_table_results_and_picture(finished):
    folder, scores = finished
    results = json.loads((folder / "results.json").read_text())
    assert [a["mean"] for a in results["arms"]] == [s.mean for s in scores]
    assert results["versions"]["torch"]
    table = (folder / "table.txt").read_text()
    assert all(f"{100 * s.mean:.1f}" in table for s in scores)
    assert (folder / "scores.png").stat().st_size > 10_000


def test_finished_arms_are_read_and_others_made_again(finished, tmp_path):
    folder, scores = finished
    world, target = lab.world("weak-operator"), scores[1]

    def never(done: int, total: int) -> None:
        raise AssertionError("the arm ran again")

    again = score_arm(target.arm, world, target.budget, folder / "target-sft-eta-0.2", never)
    assert again == target
    base, shorter = scores[0], replace(scores[0].budget, questions=2)
    steps = []
    other = score_arm(base.arm, world, shorter, tmp_path, lambda *s: steps.append(s))
    assert len(other.correct) == 2
    assert steps


def test_an_interrupted_arm_leaves_no_score(tmp_path):
    world = lab.world("weak-operator")
    budget = DemoBudget.of(world, seed=0, quick=True)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_arm(DemoArm("sft", "sft"), world, budget, tmp_path, stop)
    assert not (tmp_path / "score.json").exists()


def test_an_unknown_world_is_refused_by_its_near_miss(tmp_path):
    with pytest.raises(ValueError, match="weak-operator"):
        demo.run_demo(tmp_path, world="weak-opertor")
