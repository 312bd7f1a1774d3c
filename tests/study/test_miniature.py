"""The study: what it asks for, that it goes on where it stopped, what it concludes. The runs are real, only few."""

import json
import os
import signal
from collections import Counter
from dataclasses import replace
from io import StringIO
from multiprocessing import get_context

import pytest
from job.command import run as command
from rich.console import Console
from rich.progress import Progress

from qtarget import lab
from qtarget.lab.checkpoints import ASSETS
from qtarget.study.miniature import run_study, schedule
from qtarget.study.miniature.analysis import cells, load_outcomes, verdicts
from qtarget.study.miniature.budgets import number_of_others
from qtarget.study.miniature.cut_steps import CUT, keep_share, kept_share
from qtarget.study.miniature.design import ARM_NAMES, Study, choose_eta
from qtarget.study.miniature.model_folders import build_models, missing_models, model_path
from qtarget.study.miniature.page import study_tables, write_page
from qtarget.study.miniature.run_study import QUICK, SWEPT, WHOLE
from qtarget.study.miniature.runs import finished_outcome, path_of, split_questions, study_outcome
from qtarget.study.miniature.schedule import StudyFolders
from qtarget.study.miniature.settings import STUDY, SWEEP
from qtarget.study.run_record import Outcome, read_outcome, save_outcome

TINY = Study(STUDY[1:2], seeds=(0,), etas=(0.2, 0.5), share=0.0, development=4, test=5, samples=3)
"""The setting whose models ship, at the fewest steps there are."""
SETTING = TINY.settings[0]


def console() -> Console:
    return Console(file=StringIO(), width=120)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    place = StudyFolders(folder / "results", folder / "models")
    schedule.conduct_study(TINY, place, 1, console())
    return place


def test_there_are_ten_settings_as_in_the_paper_and_their_names_differ():
    assert Counter(setting.group for setting in STUDY) == {"noisy": 3, "paraphrased": 3, "weak": 4}
    assert len({setting.name for setting in (*STUDY, *SWEEP)}) == 10 + 27


def test_every_method_has_every_seed_in_every_setting():
    trials = WHOLE.test_runs({setting.name: 0.5 for setting in STUDY})
    assert len(trials) == 10 * len(ARM_NAMES) * 5 == len({path_of(run, ASSETS) for run in trials})
    assert {run.seed for run in WHOLE.choice_runs()}.isdisjoint(run.seed for run in trials)


def test_the_questions_eta_is_chosen_on_are_not_those_of_the_test():
    of = {
        split: split_questions(WHOLE.run(SETTING, "sft", 0, split), SETTING.world) for split in ("development", "test")
    }
    assert [len(of["development"]), len(of["test"])] == [100, 200]
    assert not {q["prompt"] for q in of["development"]} & {q["prompt"] for q in of["test"]}


def test_students_of_a_world_answer_the_same_questions_and_read_the_same_rows():
    small, large = STUDY[0], STUDY[2]
    assert small.world.student != large.world.student
    assert lab.questions(small.world, 9, 0) == lab.questions(large.world, 9, 0)
    assert lab.demonstrations(small.world, 3) == lab.demonstrations(large.world, 3)


def test_the_shipped_models_are_used_where_they_are_the_ones_described(tmp_path):
    assert model_path(SETTING.world.student, "student", tmp_path) == lab.student_path(SETTING.world)
    assert model_path(SETTING.world.teacher, "teacher", tmp_path) == lab.teacher_path(SETTING.world)
    assert model_path(STUDY[0].world.student, "student", tmp_path).parent == tmp_path
    assert missing_models([SETTING.world], tmp_path) == {}
    assert len(missing_models([setting.world for setting in STUDY], tmp_path)) == 5


def test_the_best_eta_is_chosen_and_of_equals_the_smallest(place):
    template = read_outcome(next((place.results / SETTING.name).glob("target-sft-*-development-*.json")))

    def scored(eta: float, right: int) -> Outcome:
        return replace(template, run=replace(template.run, hyperparameters={"eta": eta}), right=[right])

    assert choose_eta([scored(0.1, 1), scored(0.2, 2), scored(0.5, 2), scored(0.8, 0)]) == {SETTING.name: 0.2}


@pytest.mark.parametrize(
    "harm", [{"right": None}, {"right": [None]}, {"right": [float("nan")]}, {"right": [-1]}, {"right": [99]},
             {"losses": [None]}, {"mean_tokens": "3"}, {"effects": {"ece": "x"}}], ids=str
)  # fmt: skip
def test_an_outcome_with_figures_that_no_run_gives_is_refused_by_name(place, tmp_path, harm):
    path = next((place.results / SETTING.name).glob("sft-test-*.json"))
    values = {name: value for name, value in json.loads(path.read_text()).items() if name != "content_sha256"}
    (tmp_path / "old.json").write_text(json.dumps({**values, **harm}))
    with pytest.raises(ValueError, match=r"old\.json is not an outcome as this version writes it; remove it"):
        read_outcome(tmp_path / "old.json")


def test_a_file_that_is_no_outcome_is_not_advised_to_be_removed(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is no outcome of a study, so its folder holds something else"):
        read_outcome(tmp_path / "config.json")


def test_every_run_is_kept_with_what_it_was(place):
    kept = [read_outcome(path) for path in (place.results / SETTING.name).glob("*.json")]
    assert Counter(outcome.run.split for outcome in kept) == {"development": 2, "test": len(ARM_NAMES)}
    for outcome in kept:
        assert len(outcome.right) == (4 if outcome.run.split == "development" else 5)
        assert all(0 <= right <= 3 for right in outcome.right)
        assert outcome.effects["forgetting_kl"] >= 0
        assert bool(outcome.losses) is outcome.run.trains
        assert outcome.made_with["torch"]
        assert outcome.greedy in [n / len(outcome.right) for n in range(len(outcome.right) + 1)]
    of = {outcome.run.method: outcome for outcome in kept if outcome.run.split == "test"}
    assert of["base"].effects["forgetting_kl"] == 0
    assert of["sft"].effects["forgetting_kl"] > 0


def test_what_is_finished_is_not_run_again_and_what_is_missing_is(place, monkeypatch):
    folder = place.results / SETTING.name
    before = {path: path.read_text() for path in folder.glob("*.json")}
    lost = folder / "sft-test-0.json"
    lost.unlink()
    started = []
    made = schedule._conduct
    monkeypatch.setattr(schedule, "_conduct", lambda missing, *more: started.extend(missing) or made(missing, *more))
    schedule.conduct_study(TINY, place, 1, console())
    assert [run.name for run in started] == ["sft-test-0"]
    again, first = json.loads(lost.read_text()), json.loads(before[lost])
    assert (again["right"], again["losses"], again["effects"]) == (first["right"], first["losses"], first["effects"])
    assert all(path.read_text() == text for path, text in before.items() if path != lost)


def test_of_a_finished_study_no_time_is_taken(place, monkeypatch):
    monkeypatch.setattr(schedule, "_time_of_a_run", lambda study, folders: pytest.fail("nothing is left to estimate"))
    said = console()
    assert schedule.conduct_study(TINY, place, 1, said) == TINY
    assert "to do" not in said.file.getvalue()


def test_several_processes_give_what_one_does(place, tmp_path):
    untouched = [TINY.run(SETTING, method, 0) for method in ("base", "teacher")]
    elsewhere = StudyFolders(tmp_path / "results", place.models)
    made = {one.run.method: one for one in schedule._conduct(untouched, {SETTING.name: SETTING.world}, elsewhere, 2)}
    for run in untouched:
        alone = finished_outcome(run, place.results)
        assert alone is not None
        assert (made[run.method].right, made[run.method].effects) == (alone.right, alone.effects)
        assert finished_outcome(run, elsewhere.results) == made[run.method]


def test_another_budget_is_another_run(place):
    run = TINY.run(SETTING, "base", 0)
    assert finished_outcome(run, place.results) is not None
    assert finished_outcome(replace(run, budget=replace(run.budget, samples=4)), place.results) is None


def test_an_interrupted_run_leaves_no_result(tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study_outcome(TINY.run(SETTING, "sft", 0), SETTING.world, tmp_path / "models", tmp_path / "results", stop)
    assert list(tmp_path.rglob("*.json")) == []


def test_steps_are_cut_to_the_hours_given_and_seeds_are_not(tmp_path):
    place, said = StudyFolders(tmp_path / "results", tmp_path / "models"), console()
    whole = replace(TINY, share=1.0, seeds=(0, 1))
    cut = schedule._cut_to_hours(whole, place, 1, said, hours=0.001)
    assert cut.share < whole.share
    assert replace(cut, share=1.0) == whole
    assert cut.budget(SETTING).steps < whole.budget(SETTING).steps
    assert "about" in said.file.getvalue()
    assert schedule._cut_to_hours(whole, place, 1, console(), hours=None) == whole


def with_shares(place, method: str, right: list[int], seeds: int = 5, setting: str = SETTING.name) -> None:
    """Outcomes of a method, of so many right answers in 16 to each question, the same for every seed."""
    values = {"eta": 0.5} if method == "target-sft" else {}
    for seed in range(seeds):
        run = replace(TINY.run(SETTING, method, seed), setting=setting, hyperparameters=values)
        run = replace(run, budget=replace(run.budget, samples=16))
        wobble = [min(16, max(0, n + (seed + i) % 2)) for i, n in enumerate(right)]
        effects = {"forgetting_kl": 0.1, "ece": 0.1, "overconfidence": 0.1, "true_nll": 0.1}
        outcome = Outcome(run, wobble, 0.0, 9.0, 2.0, [], 1.0, None, effects, {"torch": "2"})
        save_outcome(outcome, path_of(run, place))


def kept_by(study: Study, results, monkeypatch, quick: bool, capsys):
    """What the command says of a folder that holds a run of a study."""
    outcome = Outcome(study.run(SETTING, "base", 0), [0] * study.test, 0.0, 9.0, 2.0, [], 1.0)
    save_outcome(outcome, path_of(outcome.run, results))
    monkeypatch.setattr(run_study, "conduct_study", lambda *given: pytest.fail("it began to work"))
    return command(capsys, "study", "--results", str(results), *(["--quick"] if quick else []))


@pytest.mark.parametrize("quick", [False, True])
def test_outcomes_of_another_study_are_refused_before_work_and_stay(tmp_path, monkeypatch, capsys, quick):
    said = kept_by(WHOLE if quick else QUICK, tmp_path / "results", monkeypatch, quick, capsys)
    assert said.code == 2
    for words in ("base-test-0.json is of another study", "samples 16 and 8" if quick else "samples 8 and 16"):
        assert words in said.err
    assert "--results" in said.err
    (path,) = tmp_path.rglob("*.json")
    assert read_outcome(path).run.budget == (WHOLE if quick else QUICK).budget(SETTING)


def test_outcomes_of_other_steps_are_in_no_table_with_others(tmp_path):
    cut = replace(TINY, share=1.0)
    for study, methods in ((TINY, ("base", "sft", "target-sft")), (cut, ("base", "sft", "kd", "target-sft"))):
        for method in methods:
            eta = {"eta": 0.5 if study is cut else 0.2} if method == "target-sft" else {}
            one = replace(study.run(SETTING, method, 0), hyperparameters=eta)
            path = path_of(one, tmp_path)
            if not path.exists():
                save_outcome(Outcome(one, [0] * study.test, 0.0, 9.0, 2.0, [], 1.0), path)
    with pytest.raises(ValueError, match=r"(?s)are of two studies \(steps \d+ and \d+\).*move the outcomes"):
        load_outcomes(TINY.settings, tmp_path)
    arms = load_outcomes(TINY.settings, tmp_path, study=TINY)
    assert {(arm.method, arm.eta) for arm in arms} == {("base", None), ("sft", None), ("target-sft", 0.2)}
    assert number_of_others(TINY, tmp_path) == 2


def test_first_is_ahead_of_every_rival_and_clearly_first_beyond_chance(tmp_path):
    names = [setting.name for setting in STUDY[:3]]
    heights = {names[0]: 14, names[1]: 9, names[2]: 7}  # target-sft; kd is at 8
    for name in names:
        for method, height in {"base": 2, "sft": 4, "dft": 6, "kd": 8, "target-sft": heights[name]}.items():
            spread = 4 if name == names[1] and method == "target-sft" else 0
            with_shares(tmp_path, method, [height + spread * (i % 3 - 1) for i in range(40)], setting=name)
    found = {one.setting: one for one in verdicts(load_outcomes(STUDY, tmp_path))}
    assert [found[name].is_first for name in names] == [True, True, False]
    assert [found[name].is_clearly_first for name in names] == [True, False, False]
    assert {one.best for one in found.values()} == {"kd"}
    assert found[names[0]].holm >= found[names[0]].p
    assert found[names[2]].p == 1.0
    assert found[names[0]].against["kd"].mean == pytest.approx(6 / 16, abs=0.01)


def test_only_seeds_that_every_arm_has_are_compared(tmp_path):
    for method in ("base", "sft", "dft", "kd"):
        with_shares(tmp_path, method, [3] * 8, seeds=5)
    with_shares(tmp_path, "target-sft", [4] * 8, seeds=2)
    assert {len(arm.outcomes) for arm in load_outcomes(STUDY, tmp_path)} == {2}


def test_the_sweeps_best_and_its_lead_over_other_methods(tmp_path):
    name = SWEEP[0].name
    for method, height in {"base": 15, "sft": 4, "dft": 8, "target-sft": 12}.items():
        with_shares(tmp_path, method, [height] * 8, seeds=1, setting=name)
    (cell,) = cells(SWEPT.settings, load_outcomes(SWEPT.settings, tmp_path))
    assert (cell.best.method, cell.lead) == ("target-sft", pytest.approx(4 / 16))
    assert (cell.noise, cell.products, cell.slips) == (0.0, 0.0, 0.03)


def test_the_page_is_written_from_the_results_and_no_table_is_left_out(place, tmp_path):
    arms, tried = (
        load_outcomes(TINY.settings, place.results),
        load_outcomes(TINY.settings, place.results, "development"),
    )
    names = [*study_tables(TINY.settings, arms, tried), "sweep", "sweep_counts"]
    page = tmp_path / "page.md"
    page.write_text("before\n" + "".join(f"<!-- table: {name} -->\nold\n<!-- end -->\n" for name in names) + "after\n")
    write_page(page, TINY.settings, place.results)
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "of 1** settings" in text
    mean = next(arm.mean for arm in arms if arm.method == "kd")
    assert f"{100 * mean:.1f} (" in text
    assert (tmp_path / "study.png").stat().st_size > 10_000
    write_page(page, TINY.settings, place.results)
    assert page.read_text() == text


def test_two_runs_train_at_the_same_time(place, tmp_path):
    """As those of two workers do."""
    started = []

    def train_another(done: int, total: int) -> None:
        if not started:
            started.append(done)
            study_outcome(TINY.run(SETTING, "dft", 0), SETTING.world, place.models, tmp_path, lambda done, total: None)

    study_outcome(TINY.run(SETTING, "sft", 0), SETTING.world, place.models, tmp_path, train_another)
    assert {path.name for path in (tmp_path / SETTING.name).iterdir()} == {"sft-test-0.json", "dft-test-0.json"}


def test_a_study_that_was_cut_goes_on_with_the_steps_that_it_began_with(tmp_path, monkeypatch):
    place, said = StudyFolders(tmp_path / "results", tmp_path / "models"), console()
    monkeypatch.setattr(schedule, "_time_of_a_run", lambda study, folders: lambda run: 10.0)
    whole = replace(TINY, share=1.0)
    cut = schedule._cut_to_hours(whole, place, 1, console(), hours=0.01)
    assert cut.share < 1
    monkeypatch.setattr(schedule, "_time_of_a_run", lambda study, folders: lambda run: 30.0)
    assert schedule._cut_to_hours(whole, place, 1, said, hours=0.01) == cut
    assert "as when this study of 0.01 hours began" in said.file.getvalue()
    assert schedule._cut_to_hours(whole, place, 1, console(), hours=0.02).share != cut.share


def test_a_share_of_the_steps_that_was_changed_is_refused_and_one_of_an_earlier_version_is_read(tmp_path):
    keep_share(TINY, 2.0, 0.35, tmp_path)
    path = tmp_path / CUT
    assert kept_share(TINY, 2.0, tmp_path) == 0.35
    path.write_text(path.read_text().replace("0.35", "0.25"))
    with pytest.raises(ValueError, match=r"cut.json is damaged .*delete it to run the study with the steps that fit"):
        kept_share(TINY, 2.0, tmp_path)
    values = json.loads(path.read_text())
    del values["content_sha256"]
    path.write_text(json.dumps(values))
    assert kept_share(TINY, 2.0, tmp_path) == 0.25


def test_a_model_in_the_place_of_another_is_still_to_be_pretrained(tmp_path):
    model = replace(SETTING.world.student, width=16, layers=1, heads=2, feed_forward=16, school_steps=1, steps=1)
    world = replace(SETTING.world, student=model)
    missing = missing_models([world], tmp_path)
    with Progress(disable=True) as progress:
        build_models(missing, progress)
    assert missing_models([world], tmp_path) == {}
    other = replace(world, student=replace(model, steps=2))
    (one,), (two,) = missing, missing_models([other], tmp_path)
    one.rename(two)
    assert list(missing_models([other], tmp_path)) == [two]


def test_a_study_that_fitted_is_not_cut_when_it_goes_on(tmp_path, monkeypatch):
    place, whole = StudyFolders(tmp_path / "results", tmp_path / "models"), replace(TINY, share=1.0)
    monkeypatch.setattr(schedule, "_time_of_a_run", lambda study, folders: lambda run: 1.0)
    assert schedule._cut_to_hours(whole, place, 1, console(), hours=1) == whole
    monkeypatch.setattr(schedule, "_time_of_a_run", lambda study, folders: lambda run: 3600.0)
    assert schedule._cut_to_hours(whole, place, 1, console(), hours=1) == whole


def test_a_worker_that_is_killed_is_said_in_words(tmp_path, monkeypatch):
    place = StudyFolders(tmp_path / "results", tmp_path / "models")
    runs = [TINY.run(SETTING, method, 0) for method in ("base", "teacher")]
    monkeypatch.setattr(schedule, "_conduct_quietly", killed_worker)
    monkeypatch.setattr(schedule, "get_context", lambda how: get_context("fork"))  # dead before it would be needed
    with pytest.raises(ValueError, match=r"was killed.*stays in .*results, and the same command goes on from there"):
        list(schedule._conduct(runs, {SETTING.name: SETTING.world}, place, 2))


def killed_worker(*args) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
