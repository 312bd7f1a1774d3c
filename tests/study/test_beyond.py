"""The second study: arms that the first cannot say, contrasts that are named, and what a context tells a student."""

import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from job.command import run as command
from study.page_prose import check_differences_stand_in_tables, prose_and_tables

from qtarget import lab
from qtarget.evaluate.confidence import holm
from qtarget.lab.tokens import END
from qtarget.study.quiet import quiet
from qtarget.study.tuned import runs
from qtarget.study.tuned.analysis import ahead_of, finished_setting, finished_settings, primary_verdicts
from qtarget.study.tuned.beyond import BEYOND_STUDY, CONTRASTS, KEPT_ARMS, SELF_TAUGHT, beyond_arms
from qtarget.study.tuned.design import TunedStudy, chosen_for
from qtarget.study.tuned.outcome import (
    DrawnAnswers,
    StudyOutcome,
    StudyRun,
    keep_outcome,
    known_outcome,
    path_of,
    read_study_outcome,
)
from qtarget.study.tuned.own_context import (
    CONTEXTS,
    context_table,
    keep_contexts,
    label_probabilities,
    right_solution,
    step_results,
    told_rows,
)
from qtarget.study.tuned.page import study_parts, write_study_page
from qtarget.study.tuned.protocol import kept_protocol, study_protocol
from qtarget.study.tuned.run_study import rounds_parts, study_of
from qtarget.study.tuned.score_tables import configurations_table
from qtarget.study.tuned.settings import DEMO_SETTING, Setting
from qtarget.study.tuned.tuned_arms import COMMON, OURS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
OTHER_SETTING = Setting(0.0, "demo", "blunt")
SMALL = TunedStudy((DEMO_SETTING, OTHER_SETTING), arms=beyond_arms(1, 2), contrasts=CONTRASTS, seeds=3,
                   pretraining_seeds=3, demonstrations=64, development=8, test=40, samples=16)  # fmt: skip


def test_every_configuration_has_a_file_of_its_own_and_a_self_teacher_is_shared_by_settings():
    one, other = (BEYOND_STUDY.development_runs(setting) for setting in BEYOND_STUDY.settings)
    files = {path_of(run, Path()) for run in one}
    assert len(files) == 1 + 8 * 6
    assert all(" " not in str(path) and "{" not in str(path) for path in files)
    shared = files & {path_of(run, Path()) for run in other}
    assert len(shared) == 1 + 3 * 6
    assert {run.method for run in one if path_of(run, Path()) in shared} == {"base", "sft", "dft", "target-sft"}


@pytest.mark.parametrize("knobs", [dict(each.knobs) for arm in beyond_arms() for each in arm.configurations], ids=str)
def test_every_configuration_trains_by_its_own_teacher(knobs, monkeypatch):
    arm = next(arm for arm in beyond_arms() if any(dict(each.knobs) == knobs for each in arm.configurations))
    seen, real = [], runs.lab_trainer
    monkeypatch.setattr(runs, "lab_trainer", lambda *given, **named: seen.append(real(*given, **named)) or seen[0])
    run = StudyRun("x", str(arm.method), knobs, 1.0, 2, 0, "development", 0, ())
    with quiet():
        outcome = runs.made_outcome(run, DEMO_SETTING, SMALL, Path())
    assert len(outcome.losses) == 2
    is_own = knobs.get("teacher") == "self"
    assert (seen[0].args.teacher, seen[0].args.ema) == (
        ("self", knobs.get("ema")) if is_own else (seen[0].args.teacher, None)
    )
    assert is_own or (seen[0].args.teacher is None) == (arm.method in ("sft", "dft"))
    assert (
        dict(seen[0].args.method_kwargs).items()
        >= {k: v for k, v in knobs.items() if k not in ("teacher", "ema")}.items()
    )


def arm_of(run: StudyRun) -> str:
    """The first arm that has this run; "" for a teacher."""
    return next((arm.name for arm in SMALL.arms if run.method == (arm.method or "base") and any(
        (run.rate, run.steps, run.knobs) == (each.rate, each.steps, dict(each.knobs)) for each in arm.configurations
    )), "")  # fmt: skip


def invented(results: Path, heights: dict[str, float], setting: Setting) -> None:
    """Outcomes of a whole setting, of so large a share of right answers by arm, of others a half."""

    def keep(run: StudyRun) -> None:
        answers, questions = {}, SMALL.development if run.split == "development" else SMALL.test
        for each in run.decodings:
            k = SMALL.samples if each.temperature else 1
            height = round(k * heights.get(arm_of(run), 0.5))
            answers[each.label] = DrawnAnswers(
                [min(k, max(0, height + p % 3 - 1)) for p in range(questions)], k, 0.0, 9.0
            )
        effects = dict.fromkeys(("forgetting_kl", "ece", "overconfidence", "true_nll"), 0.1)
        made_with = {"qtarget": "1"}
        keep_outcome(StudyOutcome(run, answers, effects if run.split == "test" else {}, [], 1.0, made_with), results)

    for run in SMALL.development_runs(setting):
        keep(run)
    tuned = [outcome for run in SMALL.development_runs(setting) if (outcome := known_outcome(run, results))]
    for run in SMALL.test_runs(setting, chosen_for(SMALL, setting, tuned)):
        keep(run)


def test_named_contrasts_are_each_judged_and_those_not_run_count_in_holms_adjustment(tmp_path):
    invented(tmp_path, {SELF_TAUGHT: 0.3, OURS: 0.75}, DEMO_SETTING)
    found = finished_settings(SMALL, tmp_path)
    verdicts = primary_verdicts(SMALL, found)
    assert [(each.ours, each.rival) for each in verdicts] == list(CONTRASTS)
    differences = [ahead_of(found[0], other, ours=ours) for ours, other in CONTRASTS]
    assert [each.difference.mean for each in verdicts] == [each.mean for each in differences]
    assert verdicts[3].difference.mean == pytest.approx(0.3125 - 0.75)
    assert [each.holm for each in verdicts] == holm([each.p for each in differences] + [1.0] * 5)[:5]
    assert verdicts[3].word == "clearly behind"


def test_the_page_names_each_contrast_and_what_is_not_run(tmp_path):
    page, results = tmp_path / "beyond.md", tmp_path / "results"
    page.write_text(
        "".join(f"<!-- table: {name} -->\n<!-- end -->\n" for name in ("state", "count", "verdicts", "context"))
    )
    results.mkdir()
    write_study_page(page, SMALL, results)
    assert page.read_text().count("Not run yet") == 3
    assert "Not measured yet." in page.read_text()
    invented(results, {SELF_TAUGHT: 0.3, OURS: 0.75}, DEMO_SETTING)
    write_study_page(page, SMALL, results)
    text = page.read_text()
    assert "Of 10 contrasts, 5 are run" in text
    assert f"{SELF_TAUGHT} is behind {OURS} in {DEMO_SETTING.name} (-43.8" in text
    assert f"| {DEMO_SETTING.name} | {SELF_TAUGHT} − {OURS} | -43.8" in text
    assert "**Not run yet: 1 of 2 settings.**" in text
    assert (tmp_path / "beyond.png").stat().st_size > 5000
    assert not (tmp_path / "beyond-sweep.png").exists()


def test_the_table_of_configurations_tells_schedules_in_words():
    table = configurations_table(BEYOND_STUDY)
    assert "η 0.2 → 0.8, ×10, 500" in table
    assert "η 0.5 → 0.9 cosine, ×3, 500" in table
    assert "η 0.8 → 0.2 along teacher_uncertainty until 0.5, ×10, 150" in table
    assert "η agreement, ×10, 500" in table
    assert "η 0.5, teacher self, ema 0.99, ×10, 500" in table


def test_the_protocol_names_contrasts_question_and_rule():
    protocol = study_protocol(BEYOND_STUDY)
    assert protocol["primary_outcome"]["contrasts"] == [f"{ours} minus {other}" for ours, other in CONTRASTS]
    assert "all contrasts in all settings" in protocol["primary_outcome"]["p"]
    assert {"question", "settings_rule", "kept_runs", "rounds"} <= set(protocol)


def test_runs_that_are_the_first_studys_are_its_files():
    kept = kept_protocol(BEYOND_STUDY, RESULTS / "beyond")
    assert kept is not None
    study = replace(BEYOND_STUDY, seeds=kept["seeds"], pretraining_seeds=kept["pretraining_seeds"])
    study = replace(study, arms=tuple(arm for arm in study.arms if arm.name in KEPT_ARMS))
    for setting in study.settings:
        assert finished_setting(study, setting, RESULTS / "beyond") is not None
        tuned = [known_outcome(run, RESULTS / "beyond") for run in study.development_runs(setting)]
        chosen = chosen_for(study, setting, [outcome for outcome in tuned if outcome])
        for run in (*study.development_runs(setting), *study.test_runs(setting, chosen)):
            assert path_of(run, RESULTS / "beyond").read_bytes() == path_of(run, RESULTS / "study").read_bytes()


def test_another_protocol_is_refused_with_those_there_are(tmp_path, capsys):
    said = command(capsys, "study", "--protocol", "tunned", "--results", str(tmp_path / "results"))
    assert (
        said.code,
        "write `--protocol tuned` or `--protocol beyond` or `--protocol rounds` or `--protocol passes`"
        in " ".join(said.err.split()),
    ) == (2, True)


def test_the_quick_study_is_of_the_first_protocol(tmp_path, capsys):
    assert study_of("beyond") is BEYOND_STUDY
    said = command(capsys, "study", "--quick", "--protocol", "beyond", "--results", str(tmp_path / "results"))
    assert said.code == 2
    assert "`--quick` is a smaller `--protocol tuned`" in " ".join(said.err.split())


def test_results_of_steps_are_found_and_a_right_solution_is_right():
    clean = Setting(0.0, "demo", "blunt")
    for told in told_rows(clean, 0)[:50]:
        assert told.right == told.row["completion"] == right_solution(told.row)
        assert all(is_right for _, is_right in step_results(told.row["completion"]))
    assert step_results(" 1 + 6 = 7 hence 7 * 5 = 4 so answer 4") == [(4, True), (10, False)]
    row = lab.Demonstration(prompt="1 + 6 * 5 ?", completion=" 1 + 6 = 8 hence 8 * 5 = 0 so answer 0")
    assert right_solution(row) == " 1 + 6 = 7 hence 7 * 5 = 5 so answer 5"


def test_a_teachers_p_y_is_that_of_the_completion_behind_the_context():
    model, tokenizer = lab.load(lab.student_path(DEMO_SETTING.world)), lab.tokenizer(DEMO_SETTING.world)
    told = next(
        told for told in told_rows(DEMO_SETTING, 0)
        if {is_right for _, is_right in step_results(told.row["completion"])} == {True, False}
    )  # fmt: skip
    for prompt in CONTEXTS.values():
        text = prompt(told) + told.row["completion"] + END
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        learned = len(told.row["completion"].split()) + 1
        with torch.no_grad():
            p = model(input_ids=ids).logits[0].softmax(-1)
        places = range(ids.shape[1] - learned, ids.shape[1])
        expected = sum(float(p[place - 1, ids[0, place]]) for place in places) / learned
        assert label_probabilities(model, tokenizer, [told], prompt).all == pytest.approx(expected, abs=2e-5)


def test_contexts_are_measured_once_and_their_table_is_of_the_file(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qtarget.study.tuned.own_context.CONTEXT_ROWS", 8)
        keep_contexts(DEMO_SETTING, 1, tmp_path, tmp_path)
        before = (tmp_path / "context.json").read_bytes()
        keep_contexts(DEMO_SETTING, 1, tmp_path, tmp_path)
    assert (tmp_path / "context.json").read_bytes() == before
    assert context_table(tmp_path).count("\n") == 1 + len(CONTEXTS)


def test_the_page_says_what_its_runs_say():
    from qtarget.disk.pages import filled

    text, results = (ROOT / "docs" / "beyond.md").read_text(encoding="utf-8"), RESULTS / "beyond"
    kept = kept_protocol(BEYOND_STUDY, results)
    assert kept is not None
    study = replace(BEYOND_STUDY, seeds=kept["seeds"], pretraining_seeds=kept["pretraining_seeds"])
    parts = study_parts(study, finished_settings(study, results), {}) | {"context": context_table(results)}
    parts |= rounds_parts(RESULTS / "rounds")
    assert filled(text, parts.__getitem__) == text


def test_the_pages_sentences_are_of_the_protocol():
    words = {2: "two", 5: "five", 6: "six", 9: "nine", 10: "ten"}
    text = " ".join((ROOT / "docs" / "beyond.md").read_text(encoding="utf-8").split())
    of_each = len(BEYOND_STUDY.contrasts)
    for sentence in (
        f"{words[of_each]} contrasts in each setting",
        f"p adjusted by Holm for all {words[of_each * len(BEYOND_STUDY.settings)]}",
        f"{words[len(BEYOND_STUDY.arms)].title()} arms, at three decodings",
        f"{words[len(BEYOND_STUDY.settings)].title()} settings by a rule",
        f"noisy rows ({100 * BEYOND_STUDY.settings[0].noise:g} % of the steps wrong)",
        f"{words[max(len(arm.configurations) for arm in BEYOND_STUDY.arms)].title()} configurations for every arm",
    ):
        assert sentence in text, sentence
    assert [setting.teacher for setting in BEYOND_STUDY.settings] == ["wrong", "sharp"], "the wrong one is run first"


def test_every_figure_of_the_pages_prose_stands_in_its_tables_or_runs():
    text = (ROOT / "docs" / "beyond.md").read_text(encoding="utf-8")
    prose, tables = prose_and_tables(text)
    check_differences_stand_in_tables(text, least=5)
    for p, adjusted in re.findall(r"p (0\.\d+), w.{0,40}?(0\.\d+)\.", prose):
        assert f"| {p} | {adjusted} |" in tables
    wrong = RESULTS / "beyond" / "noise0.3-mistaken-wrong"
    for path, score in (
        (wrong / "target-sft-etaagreement-x10-500-development.json", "50.2"),
        (
            wrong.with_name("noise0.3-mistaken") / "target-sft-eta0.5-teacherself-ema0.99-x10-500-development.json",
            "81.6",
        ),
        (wrong.with_name("noise0.3-mistaken") / "dft-x10-500-development.json", "dft 33.4"),
    ):
        mean = fmean(read_study_outcome(path).shares(COMMON))
        assert score.split()[-1] == f"{100 * mean:.1f}"
        assert score in prose
