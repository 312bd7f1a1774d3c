"""The demo, small: every part is real, only the budget is not."""

import json
from dataclasses import asdict, replace
from io import StringIO

import pytest
from evaluate.answered import answers
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from qtarget import lab
from qtarget.evaluate.compare.arms import Arm
from qtarget.evaluate.compare.tables import ONE_SEED, compare_arms
from qtarget.evaluate.compare.view import average_text, difference_cells
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


def as_compared(outcome):
    """The outcome as an arm of `qtarget compare`: the same grades, question by question."""
    drawn = answers([1.0] * len(outcome.right), k=outcome.run.budget.samples)
    rows = zip(drawn.records, outcome.correct, strict=True)
    records = tuple(
        tuple(replace(r, grade=int(right)) for r, right in zip(own, grades, strict=True)) for own, grades in rows
    )
    return Arm(outcome.run.label, ({"t": replace(drawn, records=records)},))


def test_its_intervals_and_p_are_those_of_compare(finished):
    folder, scores = finished
    arms = [as_compared(scores[2]), as_compared(scores[0]), as_compared(scores[1])]  # sft is the baseline
    (compared,) = compare_arms(arms).tasks
    table = " ".join((folder / "table.txt").read_text(encoding="utf-8").split())
    for score in compared.scores:
        assert f"{score.arm} {average_text(score.average)}" in table
    found = {arm["arm"]["name"]: arm["minus_sft"] for arm in json.loads((folder / "results.json").read_text())["arms"]}
    assert found.pop("sft") is None
    for score in compared.scores[1:]:
        kept = {"comparison": asdict(score.against), "p_holm": score.p_holm}
        assert found[score.arm] == json.loads(json.dumps(kept))
        shown = difference_cells(score.against.difference, score.p_holm, score.is_clear)
        assert " ".join(" ".join(cell.plain for cell in shown).split()) in table
    assert ONE_SEED in table


def test_the_table_is_whole_at_80_columns(finished):
    _, scores = finished
    narrow = Console(file=StringIO(), width=80)
    narrow.print(demo.score_table(scores))
    assert "…" not in narrow.file.getvalue()
    assert all(average_text(s.average).plain in narrow.file.getvalue() for s in scores)


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
        demo_outcome(Run(world.name, "sft", {}, 0, demo_budget(world, quick=True)), world, tmp_path, stop, console())
    assert not (tmp_path / "score.json").exists()


def test_an_unknown_world_is_refused_by_its_near_miss(tmp_path):
    with pytest.raises(ValueError, match="weak-operator"):
        demo.run_demo(tmp_path, world="weak-opertor")
