"""The third study: sft and target-sft over one and five passes; its files, its page and the sentences on it."""

from dataclasses import replace
from pathlib import Path

import pytest
from study.page_prose import check_differences_stand_in_tables

from qtarget.disk.pages import filled
from qtarget.study.tuned.analysis import finished_settings
from qtarget.study.tuned.design import TunedStudy, chosen_for
from qtarget.study.tuned.fewer_passes import ARMS_OF_THE_FIRST, FIVE_PASSES_STEPS, ONE_PASS_STEPS, PASSES_STUDY
from qtarget.study.tuned.outcome import known_outcome, path_of
from qtarget.study.tuned.page import study_parts
from qtarget.study.tuned.protocol import kept_protocol
from qtarget.study.tuned.run_study import study_of

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture(scope="module")
def study() -> TunedStudy:
    kept = kept_protocol(PASSES_STUDY, RESULTS / "passes")
    assert kept is not None
    return replace(PASSES_STUDY, seeds=kept["seeds"], pretraining_seeds=kept["pretraining_seeds"])


def test_few_steps_are_one_pass_and_five_over_the_rows():
    rows, batch = PASSES_STUDY.demonstrations, PASSES_STUDY.settings[0].world.batch_size
    assert [round(steps * batch / rows) for steps in (ONE_PASS_STEPS, FIVE_PASSES_STEPS)] == [1, 5]
    few = [arm for arm in PASSES_STUDY.arms if arm.name.endswith("passes")]
    assert [{each.steps for each in arm.configurations} for arm in few] == [{ONE_PASS_STEPS, FIVE_PASSES_STEPS}] * 2
    assert [len({each.label for each in arm.configurations}) for arm in few] == [6, 6]
    assert study_of("passes") is PASSES_STUDY


def test_runs_of_the_first_study_are_its_files(study):
    firsts = replace(study, arms=tuple(arm for arm in study.arms if arm.name in ARMS_OF_THE_FIRST))
    for setting in firsts.settings:
        tuned = firsts.development_runs(setting)
        chosen = chosen_for(firsts, setting, [o for run in tuned if (o := known_outcome(run, RESULTS / "passes"))])
        for run in (*tuned, *firsts.test_runs(setting, chosen)):
            assert path_of(run, RESULTS / "passes").read_bytes() == path_of(run, RESULTS / "study").read_bytes()


def test_the_page_of_fewer_passes_says_what_its_runs_say(study):
    text = (ROOT / "docs" / "fewer-passes.md").read_text(encoding="utf-8")
    found = finished_settings(study, RESULTS / "passes")
    assert len(found) == len(study.settings)
    assert filled(text, study_parts(study, found, {}).__getitem__) == text


def test_every_difference_in_its_prose_stands_in_its_tables():
    check_differences_stand_in_tables((ROOT / "docs" / "fewer-passes.md").read_text(encoding="utf-8"), least=3)
