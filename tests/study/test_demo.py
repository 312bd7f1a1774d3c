"""The demo, small: every part is real, only the budget is not."""

import json
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path

import pytest
from evaluate.answered import answers
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from qtarget import lab
from qtarget.evaluate.compare.arms import Arm
from qtarget.evaluate.compare.tables import compare_arms
from qtarget.evaluate.compare.view import average_text, difference_cells
from qtarget.study.demo import run_demo as demo
from qtarget.study.demo.demo_scenes import ARMS, BASELINE, OWN_DECODING, RIVAL, SCENES, SHOWN_DECODINGS, scene
from qtarget.study.demo.demo_scores import demo_table
from qtarget.study.demo.demo_view import closing_lines, scene_heading, scene_view
from qtarget.study.demo.run_demo import QUICK_DEMO, WHOLE_DEMO, demo_outcome, demo_run, run_demo
from qtarget.study.tuned.analysis import finished_settings, primary_verdicts
from qtarget.study.tuned.design import DEVELOPMENT_SEED, chosen_for
from qtarget.study.tuned.outcome import DrawnAnswers, StudyOutcome, known_outcome, read_study_outcome
from qtarget.study.tuned.pretrained import Pretraining
from qtarget.study.tuned.protocol import kept_protocol
from qtarget.study.tuned.run_study import WHOLE
from qtarget.study.tuned.tuned_arms import COMMON, GREEDY, OURS, WHOLE_SOFTMAX

STUDY = Path(__file__).parents[2] / "benchmarks" / "results" / "study"
SHORTEST = "careless"
"""The setting with the fewest steps."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "QUICK_DEMO", replace(QUICK_DEMO, test=5, samples=3))
        patch.setattr(demo, "QUICK_STEPS", 250)
        tables = run_demo(out, setting=SHORTEST, seed=3, workers=1, quick=True)
    return out, tables[SHORTEST]


@pytest.mark.parametrize("each", SCENES.values(), ids=SCENES)
def test_rates_steps_and_knobs_are_those_that_the_study_chose(each):
    kept_protocol(WHOLE, STUDY)
    assert each.nearest in WHOLE.settings
    tuned = [known_outcome(run, STUDY) for run in WHOLE.development_runs(each.nearest)]
    found = chosen_for(WHOLE, each.nearest, [outcome for outcome in tuned if outcome is not None])
    assert {name: (found[name].configuration, found[name].decoding) for name in each.chosen} == dict(each.chosen)
    assert set(each.chosen) == {arm.name for arm in ARMS}


@pytest.mark.parametrize("each", SCENES.values(), ids=SCENES)
def test_a_setting_is_near_and_its_models_ship(each, tmp_path):
    assert (each.setting.noise, each.setting.teacher) == (each.nearest.noise, each.nearest.teacher)
    world = each.setting.world
    for role, model in (("student", world.student), ("teacher", world.teacher)):
        path = Pretraining(role, model, 0).path(tmp_path)
        assert path in (find(lab.world(name)) for name in lab.WORLDS for find in (lab.student_path, lab.teacher_path))


def test_it_is_the_study_with_as_many_rows_and_its_test_questions():
    assert (WHOLE_DEMO.demonstrations, WHOLE_DEMO.samples) == (WHOLE.demonstrations, WHOLE.samples)
    world = scene("wrong-rows").setting.world
    assert WHOLE_DEMO.questions(world)[1] == WHOLE.questions(world)[1][: WHOLE_DEMO.test]
    assert SHOWN_DECODINGS == (GREEDY, COMMON, WHOLE_SOFTMAX)


def test_what_it_says_of_the_study_is_what_its_results_say():
    kept = kept_protocol(WHOLE, STUDY)
    study = replace(WHOLE, **{name: kept[name] for name in ("seeds", "pretraining_seeds")})
    found = finished_settings(study, STUDY)
    console = Console(file=StringIO(), width=200)
    console.print(closing_lines(WHOLE_DEMO))
    said, words = " ".join(console.file.getvalue().split()), {5: "five", 10: "ten", 13: "thirteen"}
    numbers = [words[number] for number in (study.pretraining_seeds, len(study.arms), len(found))]
    assert "has {} students of each kind, {} arms and {} settings, and no clear winner".format(*numbers) in said
    assert {verdict.word for verdict in primary_verdicts(study, found)} == {"not told apart"}


def test_each_training_is_one_run_and_draws_the_answers_of_all_its_arms():
    runs = scene("wrong-rows").runs(WHOLE_DEMO)
    assert [(run.method, run.seed) for run in runs if not run.trains] == [("base", 0), ("teacher", 0)]
    trained = {(run.method, run.seed): run for run in runs if run.trains}
    assert len(trained) == 4 * 3
    assert DEVELOPMENT_SEED not in {seed for _, seed in trained}
    assert scene("wrong-rows").chosen[OWN_DECODING][1] in trained["sft", 2].decodings
    assert all(set(SHOWN_DECODINGS) <= set(run.decodings) for run in runs)


def test_it_saves_models_that_load_and_generate(finished):
    out, _ = finished
    (path, _) = sorted((out / "models").glob("*/target-sft-*"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    ids = tokenizer("7 + 5 ?", return_tensors="pt")
    assert model.generate(**ids, max_new_tokens=4).shape[1] > ids["input_ids"].shape[1]
    trained, base = model.state_dict(), lab.load_student(lab.world("strong-prior")).state_dict()
    assert any((trained[name] != base[name]).any() for name in base)


def test_it_saves_tables_results_and_picture(finished):
    out, tables = finished
    results = json.loads((out / "results.json").read_text())
    kept = results["settings"][SHORTEST]
    assert list(kept) == [decoding.label for decoding in SHOWN_DECODINGS]
    shown = (out / "table.txt").read_text(encoding="utf-8")
    for table in tables:
        arms = kept[table.decoding.label]["arms"]
        assert list(arms) == [score.arm for score in table.scores]
        for score in table.scores:
            assert arms[score.arm]["mean"] == pytest.approx(score.average.mean)
            assert f"{100 * score.average.mean:.1f}" in shown
    assert results["versions"]["torch"]
    assert (out / "scores.png").stat().st_size > 10_000


def test_a_decoding_of_an_arms_own_stands_beside_the_studys_only(finished):
    _, tables = finished
    rows = {table.decoding: [score.arm for score in table.scores] for table in tables}
    assert [OWN_DECODING in rows[decoding] for decoding in SHOWN_DECODINGS] == [False, True, False]
    by_arm = {table.decoding: {score.arm: score for score in table.scores} for table in tables}
    assert scene(SHORTEST).chosen[OWN_DECODING][1] == GREEDY
    assert by_arm[COMMON][OWN_DECODING].average == by_arm[GREEDY][BASELINE].average


def outcomes_of(out):
    quick = [demo_run(run, 3, True) for run in scene(SHORTEST).runs(QUICK_DEMO)]
    places = {run.place for run in quick}
    return [read_study_outcome(path) for place in sorted(places) for path in sorted((out / place).glob("*.json"))]


def as_compared(name, outcomes, decoding):
    """The outcomes as an arm of `qtarget compare`: the same grades, question by question, a folder a seed."""
    seeds = []
    for outcome in outcomes:
        drawn = outcome.answers[decoding.label]
        asked = answers([1.0] * len(drawn.right), k=drawn.k)
        rows = zip(asked.records, drawn.right, strict=True)
        records = tuple(tuple(replace(r, grade=int(n < right)) for n, r in enumerate(own)) for own, right in rows)
        seeds.append({"t": replace(asked, records=records)})
    return Arm(name, tuple(seeds))


def test_its_intervals_and_p_are_those_of_compare(finished):
    out, tables = finished
    known = outcomes_of(out)
    for table in (tables[0], tables[2]):
        names = [score.arm for score in table.scores]
        methods = {arm.name: arm.method or "base" for arm in ARMS} | {"teacher": "teacher"}
        of = {name: [each for each in known if each.run.method == methods[name]] for name in names}
        order = [BASELINE, *(name for name in names if name != BASELINE)]
        (compared,) = compare_arms([as_compared(name, of[name], table.decoding) for name in order]).tasks
        ours = {score.arm: score for score in table.scores}
        for score in compared.scores:
            assert ours[score.arm].average == score.average
            if score.against is not None:
                assert asdict(ours[score.arm].against) == {"comparison": asdict(score.against), "p_holm": score.p_holm}


def test_the_tables_are_whole_at_80_columns(finished):
    _, tables = finished
    narrow = Console(file=StringIO(), width=80)
    narrow.print(scene_heading(scene(SHORTEST), WHOLE_DEMO), scene_view(tables), closing_lines(WHOLE_DEMO))
    said = narrow.file.getvalue()
    assert "…" not in said
    for table in tables:
        for score in table.scores:
            assert average_text(score.average).plain in said
            if score.against is not None:
                cells = difference_cells(score.against.comparison.difference, score.against.p_holm, False)
                assert cells[0].plain.strip() in said
    words = " ".join(said.split())
    assert "3 trainings of one pre-trained student" in words
    assert f"{OURS} minus {RIVAL}:" in words
    assert "target-sft 0.01 150 eta 0.8" in words


def test_finished_runs_are_read_and_those_of_another_size_are_made_again(finished, monkeypatch, capsys):
    out, tables = finished
    monkeypatch.setattr(demo, "QUICK_DEMO", replace(QUICK_DEMO, test=5, samples=3))
    monkeypatch.setattr(demo, "QUICK_STEPS", 250)
    monkeypatch.setattr(demo, "made_outcome", lambda *given, **named: pytest.fail("a run was made again"))
    assert run_demo(out, setting=SHORTEST, seed=3, workers=1, quick=True) == {SHORTEST: tables}
    run = read_study_outcome(next(out.glob("*/base-*.json"))).run
    assert demo_outcome(run, replace(QUICK_DEMO, test=5, samples=3), out) is not None
    assert demo_outcome(run, replace(QUICK_DEMO, test=6, samples=3), out) is None
    assert demo_outcome(run, replace(QUICK_DEMO, test=5, samples=2), out) is None


def test_a_damaged_outcome_is_refused_by_name(finished, tmp_path):
    out, _ = finished
    path = next(out.glob("*/base-*.json"))
    run = read_study_outcome(path).run
    (tmp_path / run.place).mkdir()
    (tmp_path / run.place / path.name).write_text(path.read_text()[:-40])
    with pytest.raises(ValueError, match="is damaged; remove it to run it again"):
        demo_outcome(run, QUICK_DEMO, tmp_path)


def test_answers_that_were_cut_off_are_said():
    of = scene(SHORTEST)
    runs = of.runs(replace(WHOLE_DEMO, seeds=2, test=4, samples=2))
    outcomes = []
    for run in runs:
        drawn = {
            each.label: DrawnAnswers([1, 0, 1, 1], 2 if each.temperature else 1, 0.4 * (run.method == "dft"), 9.0)
            for each in run.decodings
        }
        outcomes.append(StudyOutcome(run, drawn, {}, [], 1.0, {}))
    console = Console(file=StringIO(), width=80)
    console.print(scene_view([demo_table(of, outcomes, COMMON)]))
    assert "! answers cut off at the length limit: dft 40 %" in console.file.getvalue()


def test_an_interrupted_run_leaves_no_outcome(tmp_path, monkeypatch):
    from qtarget.study.tuned import runs

    def stop(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "score_model", stop)
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path, setting=SHORTEST, workers=1, quick=True)
    assert list(tmp_path.glob("noise*/*.json")) == []


def test_an_unknown_setting_is_refused_by_its_near_miss(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'wrong-rows'"):
        run_demo(tmp_path, setting="wrong-row")
