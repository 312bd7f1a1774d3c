"""Rounds of sampling and training against one pass, at the same budget."""

import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from study.page_prose import prose_and_tables

from qtarget import lab
from qtarget.lab import Demonstration
from qtarget.study.quiet import quiet
from qtarget.study.tuned import rounds_training, runs
from qtarget.study.tuned.analysis import finished_settings
from qtarget.study.tuned.design import TunedStudy, chosen_for
from qtarget.study.tuned.outcome import StudyRun, known_outcome, path_of, read_study_outcome
from qtarget.study.tuned.page import study_parts
from qtarget.study.tuned.protocol import kept_protocol, study_protocol
from qtarget.study.tuned.rounds import GIVEN_AND_RIGHT, KNOWN_ARMS, ONE_PASS, ROUNDS_STUDY, TWO_ROUNDS, rounds_arms
from qtarget.study.tuned.rounds_training import OwnSampling, right_rows, right_samples, train_in_rounds
from qtarget.study.tuned.settings import DEMO_SETTING, Setting
from qtarget.study.tuned.tuned_arms import COMMON

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SMALL = TunedStudy((DEMO_SETTING,), arms=rounds_arms(2, 4), seeds=3, pretraining_seeds=1, demonstrations=24,
                   development=8, test=8, samples=4)  # fmt: skip
WORLD = DEMO_SETTING.world


def test_every_arm_has_six_configurations_and_rounds_share_one_pass_s_budget():
    by_name = {arm.name: arm for arm in ROUNDS_STUDY.arms}
    of = {name: [(each.rate, each.steps) for each in by_name[name].configurations] for name in by_name}
    assert of[ONE_PASS] == of[TWO_ROUNDS] == of[GIVEN_AND_RIGHT] == of["sft"] == of["dft"]
    starts = [each.knobs["start"] for each in by_name[TWO_ROUNDS].configurations]
    assert sorted(starts) == ["base"] * 3 + ["last"] * 3
    assert len({path_of(run, Path()) for run in ROUNDS_STUDY.development_runs(ROUNDS_STUDY.settings[0])}) == 1 + 5 * 6


def test_right_rows_are_those_whose_answer_is_right():
    rows = lab.demonstrations(replace(WORLD, demonstrations=200), seed=0)
    kept = right_rows(rows)
    assert 20 < len(kept) < 180
    assert kept == [row for row in rows if row["completion"].split()[-1] == lab.true_answer(row["prompt"])]


def test_right_samples_are_distinct_right_whole_and_written_as_rows_are():
    rows = lab.demonstrations(replace(WORLD, demonstrations=30), seed=0)
    model, tokenizer = lab.load(lab.teacher_path(WORLD)), lab.tokenizer(WORLD)
    with quiet():
        kept = right_samples(model, [*rows, rows[0]], WORLD, 6, seed=3)
    said = [(row["prompt"], row["completion"]) for row in kept]
    assert len(set(said)) == len(said) > 10
    assert {row["prompt"] for row in kept} <= {row["prompt"] for row in rows}
    assert right_rows(kept) == kept
    for row in (rows[0], kept[0]):
        ids = tokenizer(row["prompt"] + row["completion"])["input_ids"]
        assert ids == tokenizer(row["prompt"])["input_ids"] + tokenizer(row["completion"])["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert row["completion"].startswith(" ")


def test_samples_of_a_student_that_is_never_right_are_refused(monkeypatch):
    monkeypatch.setattr(rounds_training, "score_model", lambda *given, **named: Silent())
    with pytest.raises(ValueError, match="none of 4 samples of 1 prompts is right"):
        right_samples(None, [Demonstration(prompt="1 + 1 ?", completion=" answer 2")], WORLD, 4, seed=0)


class Silent:
    correct, completions = ([[]], [[]])


@pytest.mark.parametrize(("own", "steps", "writers", "beginnings"), [
    (OwnSampling(1), 10, ["base"], ["base"]),
    (OwnSampling(2), 10, ["base", "base+5"], ["base", "base"]),
    (OwnSampling(2, "last"), 10, ["base", "base+5"], ["base", "base+5"]),
])  # fmt: skip
def test_rounds_share_samples_and_steps(own, steps, writers, beginnings, monkeypatch):
    sampled, trained = [], []
    monkeypatch.setattr(
        rounds_training, "right_samples", lambda model, rows, world, k, seed: sampled.append((model, k, seed)) or rows
    )

    def train(model, rows, steps):
        trained.append((model, steps))
        return f"{model}+{steps}"

    out = train_in_rounds(own, lambda: "base", [], WORLD, steps, 7, train)
    assert out == f"{beginnings[-1]}+{steps // own.rounds}"
    assert [model for model, *_ in sampled] == writers
    assert [k for _, k, _ in sampled] == [8 // own.rounds] * own.rounds
    assert len({seed for *_, seed in sampled}) == own.rounds
    assert trained == [(model, steps // own.rounds) for model in beginnings]


@pytest.mark.parametrize("knobs", [{"rows": "right"}, {"rounds": 1}, {"rounds": 2, "start": "last"}], ids=str)
def test_a_run_trains_on_the_rows_that_its_knobs_say(knobs, monkeypatch):
    seen, real = [], runs.lab_trainer
    monkeypatch.setattr(
        runs, "lab_trainer", lambda method, model, world, rows, *more, **named: (
            seen.append((rows, named["steps"])) or real(method, model, world, rows, *more, **named)
        )
    )  # fmt: skip
    run = StudyRun("x", "sft", knobs, 1.0, 4, 0, "development", 0, ())
    with quiet():
        outcome = runs.made_outcome(run, DEMO_SETTING, SMALL, Path())
    given = lab.demonstrations(replace(WORLD, demonstrations=24), seed=0)
    assert [steps for _, steps in seen] == ([2, 2] if knobs.get("rounds") == 2 else [4])
    assert len(outcome.losses) == 4
    for rows, _ in seen:
        assert right_rows(rows) == rows
        assert (rows == right_rows(given)) == ("rows" in knobs)


def test_a_setting_without_a_teacher_asks_for_none():
    setting = ROUNDS_STUDY.settings[0]
    assert setting.name == setting.rows == Setting(0.3, "mistaken", "sharp").rows
    protocol = study_protocol(ROUNDS_STUDY)
    assert protocol["teachers"] == {}
    assert {"question", "own_words", "kept_runs"} <= set(protocol)


def test_runs_that_are_the_first_studys_are_its_files():
    kept = kept_protocol(ROUNDS_STUDY, RESULTS / "rounds")
    assert kept is not None
    study = replace(ROUNDS_STUDY, seeds=kept["seeds"], pretraining_seeds=kept["pretraining_seeds"])
    study, setting = replace(study, arms=tuple(arm for arm in study.arms if arm.name in KNOWN_ARMS)), study.settings[0]
    tuned = [known_outcome(run, RESULTS / "rounds") for run in study.development_runs(setting)]
    chosen = chosen_for(study, setting, [outcome for outcome in tuned if outcome])
    for run in (*study.development_runs(setting), *study.test_runs(setting, chosen)):
        assert path_of(run, RESULTS / "rounds").read_bytes() == path_of(run, RESULTS / "study").read_bytes()


def test_every_figure_of_the_pages_section_stands_in_its_tables_or_runs():
    text = (RESULTS.parents[1] / "docs" / "beyond.md").read_text(encoding="utf-8")
    section = text.partition("## Rounds against one pass")[2].partition("\n## ")[0]
    prose, tables = prose_and_tables(section)
    runs_of = (path for path in (RESULTS / "rounds").glob("*/*-test-*.json"))
    of_runs = {f"{100 * fmean(read_study_outcome(path).shares(COMMON)):.1f}" for path in runs_of}
    said = re.findall(r"[+-]?\d+\.\d+", prose)
    assert len(said) > 15
    assert [each for each in said if each not in tables and each not in of_runs] == []


def test_its_parts_have_no_column_of_a_teacher():
    parts = study_parts(ROUNDS_STUDY, finished_settings(ROUNDS_STUDY, RESULTS / "rounds"), {})
    assert GIVEN_AND_RIGHT in parts["scores"]
    assert "teacher" not in "".join(parts[name] for name in ("scores", "greedy", "design", "models", "students"))
