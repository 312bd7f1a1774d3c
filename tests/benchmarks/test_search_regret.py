"""Whether `qtarget search` finds what pays: what is asked, that it is the study's, and what the page says of it."""

import importlib
import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from scipy.stats import ttest_1samp

import qtarget as qt
from qtarget import lab
from qtarget.disk.files import write_digested_json
from qtarget.search import run_search
from qtarget.search.search_outcome import advised
from qtarget.study.fine_tuning import lab_trainer
from qtarget.study.own_commands import BY_ITSELF, FailedCommandError
from qtarget.study.tuned.analysis import regrets
from qtarget.study.tuned.settings import CONTROL_SETTING, DEMO_SETTING, TWELVE
from qtarget.study.tuned.tuned_arms import LONG_STEPS

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="module")
def regret():
    """The modules by name."""
    sys.path.insert(0, BENCHMARKS)
    names = ("forked_commands", "regret_design", "search_regret", "regret_page")
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(BENCHMARKS)


def folders(regret, place: Path):
    return regret["search_regret"].RegretFolders(place / "results", place / "work", place / "models")


def test_six_settings_have_every_student_and_every_kind_of_rows_three_times(regret):
    six = regret["regret_design"].chosen_settings()
    assert six[0] == TWELVE[0]
    assert Counter(each.teacher for each in six) == {"blunt": 2, "sharp": 2, "wrong": 2}
    assert Counter(each.student for each in six) == {"ignorant": 3, "mistaken": 3}
    assert Counter(each.noise for each in six) == {0.0: 3, 0.3: 3}
    of_teacher = Counter((each.teacher, what) for each in six for what in (each.student, each.noise))
    assert set(of_teacher.values()) == {1}


def test_a_search_can_choose_every_full_length_configuration_of_the_study_and_no_other(regret):
    arms = regret["regret_design"].raced_arms()
    assert len({each.label for each in arms}) == len(arms) == 21
    assert {each.configuration.steps for each in arms} == {LONG_STEPS}
    for each in arms:
        assert regret["regret_design"].raced_arm(each.keys) == each
        knobs = {key: value for key, value in each.keys.items() if key not in ("method", "learning_rate")}
        assert qt.method(each.keys["method"], **knobs).name == each.arm.method


def test_a_search_may_spend_a_quarter_at_most_whatever_is_dropped(regret):
    design = regret["regret_design"]
    full, most = design.full_budget(), design.most_spent()
    assert full == (7 * 3 * (150 + 500), 7 * 6 * 100 * 16)
    assert max(most.share_of(full)) <= design.QUARTER
    assert most.share_of(full).steps > 0.24, "no less than what is said"


def test_the_protocol_that_was_kept_is_what_the_code_does(regret, tmp_path):
    module = regret["search_regret"]
    module.keep_protocol(module.RESULTS)
    other = json.loads((module.RESULTS / module.PROTOCOL).read_text(encoding="utf-8"))
    del other["content_sha256"]
    other["search"]["space"]["rungs"] = 4
    write_digested_json(tmp_path / module.PROTOCOL, other)
    with pytest.raises(ValueError, match=r"is of another protocol: search\.space\.rungs differs"):
        module.keep_protocol(tmp_path)


def test_the_command_is_one_that_search_takes(regret, tmp_path, monkeypatch):
    planned = []

    def conduct(search, say):
        planned.append(search)
        raise KeyboardInterrupt

    monkeypatch.setattr(run_search, "conduct_search", conduct)
    module = regret["search_regret"]
    words = module.write_home(DEMO_SETTING, folders(regret, tmp_path), tmp_path / "home")
    assert module.exit_code(words) == 130
    (search,) = planned
    assert [dict(arm.keys) for arm in search.space.arms] == [each.keys for each in regret["regret_design"].raced_arms()]
    assert [search.steps_of_rung(rung) for rung in (1, 2)] == [45, 90]
    assert len(search.development.questions) == 100
    asked = dict(zip(search.evaluation.words[::2], search.evaluation.words[1::2], strict=True))
    assert (asked["--k"], asked["--temperature"], asked["--top-p"]) == ("7", "0.7", "0.95")
    assert (asked["--prompt"], asked["--max-new-tokens"]) == ("plain", "40")


def test_what_search_trains_is_what_the_study_trains(regret, tmp_path):
    """At twenty steps and the seed of both: the same losses, from `qtarget train` and from the study's trainer."""
    module, home, world, steps = regret["search_regret"], tmp_path / "home", DEMO_SETTING.world, 20
    module.write_home(DEMO_SETTING, folders(regret, tmp_path), home)
    config = yaml.safe_load((home / "config.yaml").read_text(encoding="utf-8"))
    config |= {"max_steps": steps, "seed": 1000, "logging_steps": 2, "save_strategy": "no", "report_to": "none"}
    (home / "short.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert module.exit_code(["train", str(home / "short.yaml")]) == 0
    log = json.loads((home / "out" / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    rows = [json.loads(line) for line in (home / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    trainer = lab_trainer(
        qt.method("target-sft", eta=0.5), lab.load_student(world), world, rows, lab.teacher_path(world),
        tmp_path / "scratch", steps=steps, batch_size=world.batch_size,
        learning_rate=config["learning_rate"], seed=1000,
    )  # fmt: skip
    trainer.train()
    here, there = ([each["loss"] for each in entries if "loss" in each] for entries in (log, trainer.state.log_history))
    assert len(here) == len(there) == 10
    np.testing.assert_allclose(here, there, rtol=1e-4)


def test_a_model_that_answers_otherwise_than_the_studys_is_refused(regret, tmp_path, monkeypatch):
    module = regret["search_regret"]
    shutil.copytree(module.STUDY_RESULTS / CONTROL_SETTING.rows, tmp_path / CONTROL_SETTING.rows)
    path = tmp_path / CONTROL_SETTING.rows / "base-test-0.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    del kept["content_sha256"]
    right = kept["answers"]["T0.7-p0.95"]["right"]
    right[3] = 16 - right[3] if right[3] != 8 else 7
    write_digested_json(path, kept)
    monkeypatch.setattr(module, "STUDY_RESULTS", tmp_path)
    with pytest.raises(ValueError, match=r"careless/base-test-0: \d+ of 200 questions are answered otherwise"):
        module.check_models(CONTROL_SETTING, folders(regret, tmp_path))


def test_a_forked_command_is_the_command_and_says_why_it_failed(regret, tmp_path):
    forked = regret["forked_commands"].forked_command
    cost = forked(["methods", "--json"], tmp_path / "log.txt", BY_ITSELF)
    said = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert said.startswith("$ qtarget methods --json")
    assert "target-sft" in said
    assert cost.seconds > 0
    with pytest.raises(FailedCommandError, match=r"`qtarget train` failed") as failed:
        forked(["train", str(tmp_path / "none.yaml")], tmp_path / "log.txt", BY_ITSELF)
    assert "none.yaml" in str(failed.value)
    assert not failed.value.is_stopped


def test_over_settings_is_students_t(regret):
    values = [0.01, 0.03, -0.002, 0.05, 0.0, 0.02]
    found, known = regret["regret_page"].over_settings(values), ttest_1samp(values, 0)
    interval = known.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(known.pvalue)
    assert found.mean == pytest.approx(fmean(values))
    with pytest.raises(ValueError, match="needs two"):
        regret["regret_page"].over_settings([0.1])


def test_the_pages_tables_are_those_of_the_results(regret):
    module = regret["regret_page"]
    text, parts = module.PAGE.read_text(encoding="utf-8"), module.regret_parts(module.found_settings())
    for name, part in parts.items():
        assert f"<!-- table: {name} -->\n{part}\n<!-- end -->" in text


def test_regrets_are_those_of_the_studys_own_table_and_of_the_files(regret):
    page, design = regret["regret_page"], regret["regret_design"]
    found = page.found_settings()
    assert len(found) >= 6
    by_arm = regrets([each.study for each in found], design.plain_arms())
    for place, each in enumerate(found):
        best, eta = each.arms[each.best].mean(), design.ETA
        assert each.regret(page.SFT_ALWAYS).mean == pytest.approx(by_arm["sft"][place])
        assert each.regret(page.RANDOM).mean == pytest.approx(fmean(own[place] for own in by_arm.values()))
        assert each.regret(page.WHOLE_TUNING).mean in [pytest.approx(own[place]) for own in by_arm.values()]
        for way, arm in ((page.SEARCH, each.chosen), (page.ETA_ALWAYS, design.RacedArm(each.chosen.arm, eta))):
            method = "target-sft" if way == page.ETA_ALWAYS else arm.arm.method
            own = mean_in_files(regret, each.setting, f"{method}-{arm.configuration.label}")
            assert each.regret(way).mean == pytest.approx(best - own)


def mean_in_files(regret, setting, name: str) -> float:
    """The share of right test answers over five trainings, from the files of outcomes as they are."""
    module = regret["search_regret"]
    places = [folder / place for folder in (module.STUDY_RESULTS, module.RESULTS / "tests")
              for place in (setting.name, setting.rows)]  # fmt: skip
    shares = []
    for seed in range(5):
        (path,) = [path for place in places if (path := place / f"{name}-test-{seed}.json").is_file()]
        drawn = json.loads(path.read_text(encoding="utf-8"))["answers"]["T0.7-p0.95"]
        assert (len(drawn["right"]), drawn["k"]) == (200, 16)
        shares.append(sum(drawn["right"]) / (200 * 16))
    return fmean(shares)


def test_a_search_raced_every_arm_and_spent_no_more_than_its_quarter(regret):
    page, design = regret["regret_page"], regret["regret_design"]
    for each in page.found_settings():
        assert max(each.spent.share_of(design.full_budget())) <= design.QUARTER
        assert [arm["keys"] for arm in each.search["outcome"]["arms"]] == [arm.keys for arm in design.raced_arms()]
        rungs = sum(45 * 2**rung for arm in each.search["outcome"]["arms"] for rung in range(len(arm["rungs"])))
        assert each.spent.steps == rungs + 2 * 3 * 90


def test_todays_rule_is_that_of_the_command(regret):
    module, arm = regret["search_regret"], SimpleNamespace
    for each in regret["regret_page"].found_settings():
        outcome = each.search["outcome"]
        confirmation = arm(difference=arm(**outcome["confirmation"]["difference"]), is_equal=False)
        name = advised(outcome["winner"], outcome["other"], confirmation, "sft")
        (keys,) = [one["keys"] for one in outcome["arms"] if one["name"] == name]
        assert module.chosen_today(outcome).keys == keys
