"""The study on real models: its protocols, its units, that it goes on, what it refuses. The runs are real, of a model
that is tiny; `make real-quick` is the same on a pre-trained one."""

import gzip
import json
import random
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from threading import Event

import psutil
import pytest
import yaml
from job.command import run as command
from tiny_models import tiny_model, tiny_tokenizer

from qtarget.cli.main import main
from qtarget.disk.pages import filled
from qtarget.study.own_commands import CommandCost, CommandSurroundings, printed_by, run_qtarget
from qtarget.study.real_models import arm_answers, arm_models
from qtarget.study.real_models.real_comparison import compared, outcomes_by_arm
from qtarget.study.real_models.real_page import costs_table, real_parts, units_sentence
from qtarget.study.real_models.real_protocol import read_protocol
from qtarget.study.real_models.real_rows import (
    RealRow,
    check_apart,
    gsm8k_row,
    made_rows,
    parts_digest,
    with_slip,
    write_parts,
)
from qtarget.study.real_models.real_study import RealStudy
from qtarget.study.real_models.run_real import check_study, estimate_sentence, missing_units, run_real_study
from qtarget.study.real_models.study_units import (
    Unit,
    chosen_rate,
    development_average,
    needed_before,
    units_in_order,
)
from qtarget.study.real_models.unit_files import check_one_protocol, path_of_unit, read_unit, save_unit
from qtarget.study.real_models.unit_work import conduct_unit
from qtarget.study.real_models.unit_workers import conducted

ROOT = Path(__file__).parents[2]
TINY = """
name: tiny
question: Does every kind of unit work?
decodings:
  sampled: {k: 2, temperature: 0.7, top_p: 0.95}
  greedy: {k: 1, temperature: 0}
tuned_at: sampled
tuning_k: 2
token_rows: 3
effect_prompts: 2
arms:
  - {name: sft, method: sft}
  - {name: target-sft-0.5, method: target-sft, values: {eta: 0.5}}
settings:
  - name: tiny-sums
    student: tiny/student
    rows: {source: sums, train: 8, teacher: 8, development: 3, test: 4, wrong_share: 0.25}
    prompt: chat
    grade: number
    max_new_tokens: 4
    training: {max_steps: 2, per_device_train_batch_size: 2, max_length: 64, gradient_checkpointing: false,
      use_peft: true, lora_r: 2, lora_target_modules: all-linear}
    rates: [0.001, 0.01]
    seeds: [0, 1]
    teacher_decodings: [greedy]
"""


def protocol_file(folder: Path, **changes) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(TINY), **changes}, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> RealStudy:
    """A finished study, whose commands are run in this process."""
    folder = tmp_path_factory.mktemp("real")
    words = ["What", "is", "+", "?", *map(str, range(199))]
    tiny_tokenizer(words).save_pretrained(folder / "student")
    tiny_model(vocab=len(tiny_tokenizer(words))).save_pretrained(folder / "student")
    protocol = read_protocol(str(protocol_file(folder)))
    study = RealStudy(protocol, folder / "results", folder / "work", {"tiny/student": str(folder / "student")})
    with pytest.MonkeyPatch.context() as patch:
        for module in (arm_models, arm_answers):
            patch.setattr(module, "run_qtarget", in_this_process)
        run_real_study(study)
    return study


def in_this_process(words, log, around) -> CommandCost:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert not ended.value.code, words
    return CommandCost(1.0, 1.0, 1.0)


def test_every_unit_is_run_and_kept(study):
    assert missing_units(study) == []
    assert units_sentence(study.protocol, study.results) == "14 of 14 units are run."
    teacher = read_unit(Unit("tiny-sums", "teacher", "teacher"), study.results)
    assert list(teacher["evaluations"]) == ["greedy"]
    assert teacher["training"]["metrics"]["steps"] == 2
    test = read_unit(Unit("tiny-sums", "test", "target-sft-0.5", 0), study.results)
    assert [len(each["shares"]) for each in test["evaluations"].values()] == [4, 4]
    assert test["effects"]["calibration"]["tokens"] >= 8  # an answer and its end
    assert test["effects"]["forgetting"]["kl"] >= 0
    assert 0 < test["training"]["log"][0]["trust"] < 1
    assert "effects" not in read_unit(Unit("tiny-sums", "test", "base", 1), study.results)


def test_a_processor_computes_as_a_gpu_does_where_it_is_told_to(study, tmp_path, monkeypatch):
    weights = {"tiny/student": study.weights["tiny/student"]}
    alike = RealStudy(study.protocol, tmp_path / "results", tmp_path / "work", weights, bf16=True)
    for module in (arm_models, arm_answers):
        monkeypatch.setattr(module, "run_qtarget", in_this_process)
    for unit in (Unit("tiny-sums", "rows"), Unit("tiny-sums", "tuning", "sft", 0, 0.01)):
        save_unit(unit, alike.results, conduct_unit(unit, alike))
    trial = read_unit(Unit("tiny-sums", "tuning", "sft", 0, 0.01), alike.results)
    (config,) = (tmp_path / "work" / "tiny-sums" / "config").glob("sft-*.yaml")
    assert yaml.safe_load(config.read_text())["bf16"] is True
    generation = json.loads(trial["evaluations"]["sampled"]["files"]["run.json"])["generation"]
    assert generation["dtype"] == "bfloat16"
    assert trial["made_with"]["device"].endswith("bfloat16")


def test_a_test_is_at_the_rate_that_development_chose(study):
    setting = study.protocol.settings[0]
    for arm in ("sft", "target-sft-0.5"):
        averages = {
            rate: development_average(read_unit(Unit("tiny-sums", "tuning", arm, 0, rate), study.results))
            for rate in setting.rates
        }
        chosen = chosen_rate(setting, averages)
        assert read_unit(Unit("tiny-sums", "test", arm, 1), study.results)["rate"] == chosen
    assert chosen_rate(setting, {0.001: 0.2, 0.01: 0.3}) == 0.01
    assert chosen_rate(setting, {0.001: 0.3, 0.01: 0.3}) == 0.001


def test_a_models_training_is_shared_by_trial_and_test(study):
    rate = read_unit(Unit("tiny-sums", "test", "sft", 0), study.results)["rate"]
    trial = read_unit(Unit("tiny-sums", "tuning", "sft", 0, rate), study.results)
    assert trial["training"] == read_unit(Unit("tiny-sums", "test", "sft", 0), study.results)["training"]


def test_tables_are_those_of_compare(study):
    tests = outcomes_by_arm(study.protocol, study.protocol.settings[0], study.results)
    for result in tests["sft"]:
        grade_first_samples_right(result["evaluations"]["sampled"]["files"])
    assert {arm: len(results) for arm, results in tests.items()} == {"base": 2, "sft": 2, "target-sft-0.5": 2}
    tables = compared(tests, "sampled")
    assert tables.baseline == "sft"
    averages = {score.arm: score.average.mean for score in tables.tasks[0].scores}
    shares = {arm: [each for r in tests[arm] for each in r["evaluations"]["sampled"]["shares"]] for arm in tests}
    assert averages["sft"] >= 0.5 > fmean(shares["sft"])
    assert {arm: averages[arm] for arm in ("base", "target-sft-0.5")} == pytest.approx(
        {arm: fmean(shares[arm]) for arm in ("base", "target-sft-0.5")}
    )
    parts = real_parts(study.protocol, study.results)
    assert parts["tiny_sums_sampled"].count("\n") == 4
    assert "Not run yet." not in parts.values()
    assert parts["tiny_sums_reading"].startswith("2 of 2 trained arms and 2 of 2 training seeds are run.")
    assert re.search(r"\| the teacher \| [\d.]+ \| \d", parts["tiny_sums_greedy"])


def test_the_seeds_shown_are_those_that_every_begun_arm_has(study, tmp_path):
    def shown(*missing: tuple[str, int]) -> dict[str, list[int]]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(study.results, folder)
        for arm, seed in missing:
            path_of_unit(Unit("tiny-sums", "test", arm, seed), folder).unlink()
        tests = outcomes_by_arm(study.protocol, study.protocol.settings[0], folder)
        seeds = {
            json.dumps(read_unit(Unit("tiny-sums", "test", arm, s), study.results)): s for arm in tests for s in (0, 1)
        }
        return {arm: [seeds[json.dumps(result)] for result in results] for arm, results in tests.items()}

    trained = ("sft", "target-sft-0.5")
    assert shown(*((arm, 0) for arm in trained)) == {arm: [1] for arm in ("base", *trained)}
    assert shown(("target-sft-0.5", 1)) == {arm: [0] for arm in ("base", *trained)}
    assert shown(("sft", 0), ("target-sft-0.5", 1)) == {"base": [0], "target-sft-0.5": [0]}


def grade_first_samples_right(files: dict[str, str]) -> None:
    """Of two samples of every question."""
    (name,) = [name for name in files if name.endswith("samples.jsonl")]
    records = [json.loads(line) for line in files[name].splitlines()]
    for record in records:
        record["grade"] = 1 if record["sample_i"] == 0 else record["grade"]
        del record["check"]  # earlier versions wrote none
    files[name] = "".join(json.dumps(record) + "\n" for record in records)


def test_an_unfinished_unit_is_run_again_and_the_rest_stays(study, tmp_path, monkeypatch):
    again = replace(study, results=tmp_path / "results")
    shutil.copytree(study.results, again.results)
    lost = Unit("tiny-sums", "test", "sft", 1)
    path_of_unit(lost, again.results).unlink()
    assert missing_units(again) == [lost]
    rate = read_unit(Unit("tiny-sums", "test", "sft", 0), study.results)["rate"]
    (study.home(study.protocol.settings[0]) / "models" / f"sft-rate{rate:g}-seed1.json").unlink()  # stopped in training
    kept = {path: path.read_bytes() for path in again.results.rglob("*.gz")}
    for module in (arm_models, arm_answers):
        monkeypatch.setattr(module, "run_qtarget", in_this_process)
    run_real_study(again)
    new, old = (read_unit(lost, each.results) for each in (again, study))
    assert new["evaluations"]["greedy"]["shares"] == old["evaluations"]["greedy"]["shares"]
    assert {path: path.read_bytes() for path in kept} == kept


def test_results_of_another_protocol_are_refused(study, tmp_path):
    other = read_protocol(str(protocol_file(tmp_path, tuning_k=3)))
    with pytest.raises(ValueError, match=r"is of the protocol 'tiny', which differs from 'tiny' in `tuning_k`"):
        check_study(replace(study, protocol=other))
    arms = [
        {"name": "sft", "method": "sft"},
        {"name": "target-sft-0.5", "method": "target-sft", "values": {"eta": 0.4}},
    ]
    other = read_protocol(str(protocol_file(tmp_path, arms=arms)))
    with pytest.raises(ValueError, match=r"in `arms\.1\.values\.eta`; write another --results"):
        check_study(replace(study, protocol=other))
    with pytest.raises(ValueError, match=r"work is of the protocol 'tiny', .*write another --work"):
        check_study(replace(study, protocol=other, results=tmp_path))
    check_study(study)


def test_a_damaged_result_is_refused_by_name(study, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(study.results, results)
    path = path_of_unit(Unit("tiny-sums", "tokens"), results)
    whole = path.read_bytes()
    others = path_of_unit(Unit("tiny-sums", "cache"), results).read_bytes()
    changed = json.loads(gzip.decompress(whole))
    changed["tokens"] += 1
    for damaged in (whole[:40], b"no gzip", gzip.compress(json.dumps(changed).encode()), others):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"tokens\.json\.gz .*remove it to run its unit again"):
            check_study(replace(study, results=results))


def test_the_order_is_fixed_and_each_setting_comes_whole_before_further_seeds():
    protocol = read_protocol("whole")
    units = units_in_order(protocol)
    assert len(units) == len({(unit.setting, unit.name) for unit in units}) == 116
    firsts = [unit.setting for unit in units if unit.seed == 0]
    assert list(dict.fromkeys(firsts)) == [setting.name for setting in protocol.settings]
    seeds = [unit.seed for unit in units]
    assert seeds == sorted(seeds)
    for setting in protocol.settings:
        mine = [unit for unit in units if unit.setting == setting.name]
        assert [unit.kind for unit in mine[:5]] == ["rows", "test", "teacher", "cache", "tokens"]
        assert setting.rows.test >= 100
    assert all(decoding.k >= 4 for name, decoding in protocol.decodings.items() if name != "greedy")


@pytest.mark.parametrize("name", ["whole", "quick"])
def test_shipped_protocols_are_read_and_their_rows_can_be_made(name: str):
    protocol = read_protocol(name)
    for setting in protocol.settings:
        assert setting.grade in ("number", "math")
        if setting.rows.source == "sums":
            parts = made_rows(setting, None)
            assert {part: len(rows) for part, rows in parts.items()} == {
                part: getattr(setting.rows, part) for part in ("train", "teacher", "development", "test")
            }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arm": []}, "`arm`: extra inputs are not permitted"),
        ({"arms": [{"name": "sft", "method": "sfft"}]}, "sfft"),
        (
            {"arms": [{"name": "sft", "method": "target-sft", "values": {"eta": 2}}]},
            "`eta: 2.0` is out of range; .*for example `eta: 0.5`",
        ),
        ({"tuned_at": "grredy"}, "names the decoding 'grredy'; it has sampled, greedy"),
        ({"arms": [{"name": "base", "method": "sft"}]}, "'base' twice"),
    ],
)
def test_a_protocol_that_will_not_do_is_refused(changes, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        read_protocol(str(protocol_file(tmp_path, **changes)))


def test_wrong_rows_are_as_many_as_said_and_the_others_parts_are_right():
    setting = read_protocol("quick").settings[0]
    plan = setting.rows.model_copy(update={"train": 40, "teacher": 9, "development": 5, "wrong_share": 0.3})
    parts = made_rows(setting.model_copy(update={"rows": plan}), None)
    assert sum(row.answer != row.gold for row in parts["train"]) == 12
    assert all(len(row.answer) == len(row.gold) for row in parts["train"])
    assert [row for part in ("teacher", "development", "test") for row in parts[part] if row.answer != row.gold] == []
    assert parts_digest(parts) == parts_digest(made_rows(setting.model_copy(update={"rows": plan}), None))
    with pytest.raises(ValueError, match="has none; write 0"):
        with_slip(RealRow("q", "Paris", "Paris"), random.Random(0))


def test_development_questions_among_those_of_the_test_are_refused(tmp_path):
    rows = [{"question": f"How many are {n}?", "answer": f"Just <<{n}={n}>>{n}.\n#### {n}"} for n in range(20)]
    write_lines(tmp_path / "train.jsonl", rows)
    write_lines(tmp_path / "test.jsonl", [{**rows[4], "question": "How  many are 4?"}])
    human = read_protocol("whole").settings[2]
    plan = human.rows.model_copy(update={"train": 10, "development": 10, "test": 1})
    with pytest.raises(
        ValueError, match=r"the (train|development) question 'How many are 4\?' stands among those of test"
    ):
        made_rows(human.model_copy(update={"rows": plan}), tmp_path)
    row = RealRow("a", "1", "1")
    check_apart({"development": [row], "test": [RealRow("b", "1", "1")]}, "x")
    with pytest.raises(ValueError, match="the development question 'a' stands among those of test"):
        check_apart({"development": [row], "test": [row]}, "x")
    sums = [RealRow(question, "4", "4") for question in ("What is 2 + 2?", "what is 2+2", "What is 2 - 2?")]
    with pytest.raises(ValueError, match="the train question 'what is 2\\+2' stands among those of test"):
        check_apart({"train": [sums[1]], "test": [sums[0]]}, "x")
    check_apart({"train": [sums[2]], "test": [sums[0]]}, "x")


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_human_rationales_lose_their_notes_and_end_in_a_box():
    row = gsm8k_row({"question": " Q? ", "answer": "2 and 3 are <<2+3=5>>5.\nSo 1,005.\n#### 1,005"})
    assert row == RealRow("Q?", "2 and 3 are 5.\nSo 1,005.\nThe final answer is $\\boxed{1005}$.", "1005")
    with pytest.raises(ValueError, match="none of GSM8K's"):
        gsm8k_row({"question": "Q?", "answer": "5"})


def test_rows_that_are_others_than_those_of_earlier_units_are_refused(tmp_path):
    human = read_protocol("whole").settings[2]
    small = human.model_copy(update={"rows": human.rows.model_copy(update={"train": 2, "development": 1, "test": 2})})
    protocol = read_protocol("whole").model_copy(update={"settings": (small,)})
    for part in ("train", "test"):
        write_lines(
            tmp_path / f"{part}.jsonl", [{"question": f"{part} {n}", "answer": f"{n}\n#### {n}"} for n in range(4)]
        )
    study = RealStudy(protocol, tmp_path / "results", tmp_path / "work", rows={"openai/gsm8k": tmp_path})
    first = Unit(small.name, "rows")
    save_unit(first, study.results, conduct_unit(first, study))
    assert "kept" not in read_unit(first, study.results)
    write_lines(tmp_path / "test.jsonl", [{"question": f"new {n}", "answer": f"{n}\n#### {n}"} for n in range(4)])
    with pytest.raises(ValueError, match=r"are not those of the units that are done .*--rows openai/gsm8k=FOLDER"):
        conduct_unit(Unit(small.name, "test", "base"), study)


def test_a_prompt_without_reference_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`prompt: m1` is not known to this study"):
        write_parts({}, tmp_path, "m1")


def test_a_command_is_a_process_and_its_failure_is_told(tmp_path):
    log = tmp_path / "log"
    cost = run_qtarget(["tasks", "--json"], log)
    assert cost.cpu_seconds > 0.1
    assert cost.peak_gib > 0.01
    assert '"gsm8k"' in log.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"`qtarget tasks` failed \(.*log holds all it said\):(.|\n)*--nonesuch"):
        run_qtarget(["tasks", "--nonesuch"], log)
    assert json.loads(printed_by(["tasks", "--json"]))
    with pytest.raises(ValueError, match="`qtarget nonesuch` failed"):
        printed_by(["nonesuch"])


def test_a_command_does_not_outlive_the_study(tmp_path, monkeypatch):
    def interrupted(process, options):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.wait4", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_qtarget(["tasks"], tmp_path / "log")
    assert not any("qtarget" in child.cmdline() for child in psutil.Process().children())


def test_an_estimate_is_by_units_of_the_kind_that_are_done(study, tmp_path):
    assert estimate_sentence(study, []) == "14 units; all that were asked for are done."
    none_done = replace(study, results=tmp_path)
    units = units_in_order(study.protocol)
    assert "14 units, 14 of them to do: about 2.3 hours." in estimate_sentence(none_done, units)  # 10 minutes each
    test = next(unit for unit in units if unit.kind == "test")
    save_unit(test, tmp_path, {"seconds": 600 * 60})
    assert "13 of them to do: about 51.3 hours." in estimate_sentence(none_done, missing_units(none_done))


def test_no_unit_is_begun_after_the_hours(study, tmp_path, capsys):
    later = replace(study, results=tmp_path / "results", work=tmp_path / "work")
    run_real_study(later, hours=1e-9)
    assert "hours are over; the same command goes on with tiny-sums rows." in " ".join(capsys.readouterr().out.split())
    assert len(missing_units(later)) == 14


def test_places_that_are_not_there_or_of_no_setting_are_refused_by_the_command(tmp_path, capsys):
    quick = ["study-real", "--protocol", "quick", "--results", str(tmp_path / "r"), "--work", str(tmp_path / "w")]
    for words, said in (
        (["--model", "SmolLM2"], "write --model NAME=PLACE"),
        (["--model", f"a={tmp_path / 'none'}"], "is not there"),
        (["--model", f"other/model={tmp_path}"], "the protocol has HuggingFaceTB/SmolLM2-135M-Instruct"),
        (["--setting", "smol"], "--setting smol: the protocol has no such setting; write one of"),
        (["--protocol", "nonesuch"], "nonesuch is no protocol"),
        (["--page", str(tmp_path / "none.md")], "none.md is not there"),
    ):
        told = command(capsys, *quick, *words)
        assert told.code == 2
        assert said in told.err.replace("\n", " ")
    assert not (tmp_path / "w").exists()


def test_a_gguf_file_that_is_none_is_refused_before_any_unit(tmp_path, capsys):
    (tmp_path / "model.gguf").write_bytes(b"not a model at all" * 10)
    name = read_protocol("quick").settings[0].student
    quick = ["study-real", "--protocol", "quick", "--results", str(tmp_path / "r"), "--work", str(tmp_path / "w")]
    told = command(capsys, *quick, "--model", f"{name}={tmp_path / 'model.gguf'}")
    assert told.code == 2
    assert "model.gguf cannot be read as a GGUF file" in told.err.replace("\n", " ")
    assert not (tmp_path / "r").exists()


def test_the_page_is_what_the_results_say():
    page, results = ROOT / "docs" / "real-models.md", ROOT / "benchmarks" / "results" / "real_models"
    text, protocol = page.read_text(encoding="utf-8"), read_protocol("whole")
    check_one_protocol(protocol, results)
    assert filled(text, real_parts(protocol, results).__getitem__) == text, "out of date; run: make real-page"
    assert sum(path.stat().st_size for path in results.rglob("*")) < 20 * 10**6


def test_units_side_by_side_begin_after_those_that_they_need():
    protocol = read_protocol("whole")
    units = units_in_order(protocol)
    began, ended, at_once = [], set(), []

    def conduct(unit):
        assert needed_before(unit, protocol) <= ended
        time.sleep(0.001)
        return unit.name

    def may_begin(unit):
        began.append(unit)
        at_once.append(len(began) - len(ended))
        return True

    for unit, result in conducted(units, protocol, conduct, 5, may_begin, Event()):
        assert result == unit.name
        ended.add(unit)
    assert ended == set(units)
    assert len(began) == len(units)
    assert max(at_once) >= 4
    kd = Unit("smollm2-right-rows", "test", "kd", 2)
    assert {unit.kind for unit in needed_before(kd, protocol)} == {"rows", "cache", "tuning"}
    assert {unit.kind for unit in needed_before(Unit("smollm2-right-rows", "cache"), protocol)} == {"rows", "teacher"}


def test_units_beside_one_that_fails_are_kept_and_no_further_one_begins():
    protocol = read_protocol("whole")
    failed = Unit("smollm2-wrong-rows", "teacher", "teacher")

    def conduct(unit):
        if unit == failed:
            raise ValueError("a teacher failed")
        time.sleep(0.05)

    ended: list[Unit] = []
    done = (unit for unit, _ in conducted(units_in_order(protocol), protocol, conduct, 4, lambda unit: True, Event()))
    with pytest.raises(ValueError, match="a teacher failed"):
        ended.extend(done)
    assert 3 <= len(ended) < 12
    assert Unit("smollm2-wrong-rows", "cache") not in ended


def test_commands_of_other_threads_end_with_the_study(tmp_path):
    units, stop = [Unit("smollm2-right-rows", "rows"), Unit("smollm2-wrong-rows", "rows")], Event()
    asleep = CommandSurroundings(("sleep",), is_stopped=stop.is_set)
    began = time.monotonic()

    def conduct(unit):
        run_qtarget(["3600"], tmp_path / unit.setting, asleep)

    def may_begin(unit):
        if unit == units[1]:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        list(conducted(units, read_protocol("whole"), conduct, 2, may_begin, stop))
    assert time.monotonic() - began < 3000
    assert "sleep" not in [child.name() for child in psutil.Process().children(recursive=True)]


def test_a_killed_study_leaves_its_training_to_the_orphan(study, tmp_path):
    """With real processes: a second start waits while a training that the first one began still runs."""
    words = [sys.executable, "-m", "qtarget", "study-real", "--protocol", str(protocol_file(tmp_path))]
    words += ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    words += ["--model", f"tiny/student={study.weights['tiny/student']}"]
    first = psutil.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (orphan := _training_of(first)):
        assert first.poll() is None
    first.kill()
    first.wait()
    orphan.suspend()
    with (tmp_path / "said.txt").open("wb") as said:
        second = psutil.Popen(words, stdout=said, stderr=said)
    try:
        while "waiting for its end" not in (text := (tmp_path / "said.txt").read_text()):
            assert second.poll() is None, text
            assert not _training_of(second)
            time.sleep(0.1)
    finally:
        second.kill()
        orphan.kill()


def _training_of(study: psutil.Process) -> psutil.Process | None:
    for child in study.children():
        with suppress(psutil.Error):  # it has ended
            if "train" in child.cmdline():
                return child
    return None


def test_two_units_at_once_give_what_one_at_a_time_gives(study, tmp_path):
    arms = [{"name": "sft", "method": "sft"}]
    setting = {**yaml.safe_load(TINY)["settings"][0], "rates": [0.01], "seeds": [0]}
    file = protocol_file(tmp_path, arms=arms, settings=[setting], effect_prompts=0)
    beside = replace(study, protocol=read_protocol(str(file)), results=tmp_path / "results", work=tmp_path / "work")
    run_real_study(beside, workers=2)
    assert missing_units(beside) == []
    base = Unit("tiny-sums", "test", "base")
    new, old = (read_unit(base, each.results)["evaluations"] for each in (beside, study))
    assert {name: each["shares"] for name, each in new.items()} == {name: each["shares"] for name, each in old.items()}
    assert read_unit(Unit("tiny-sums", "test", "sft"), beside.results)["training"]["metrics"]["steps"] == 2


@pytest.mark.parametrize(
    ("setting", "trainings", "sentence"),
    [
        (
            "smollm2-wrong-rows",
            3,
            "from rows of which 30 % are wrong {low} to {high} under target-sft (three η), {kd} under kd, "
            "{sft} under sft and {dft} under dft",
        ),
        ("smollm2-right-rows", 3, "from right rows {low} to {high}, {kd}, {sft} and {dft}."),
        (
            "qwen-human-rationales",
            2,
            "which gets {base} % of GSM8K's questions right before, learning its human solutions, two trainings of "
            "each arm: {low} to {high} under target-sft, {dft} under dft, {kd} under kd and {sft} under sft; no "
            "difference to sft is clear there either (Holm's p of the largest: .{p})",
        ),
    ],
)
def test_what_the_readme_says_of_real_models_is_what_the_results_say(setting, trainings, sentence):
    protocol, results = read_protocol("whole"), ROOT / "benchmarks" / "results" / "real_models"
    tables = compared(outcomes_by_arm(protocol, protocol.setting(setting), results), "sampled")
    scores = {score.arm: score for score in tables.tasks[0].scores}
    mean = {arm: f"{100 * score.average.mean:.1f}" for arm, score in scores.items()}
    ours = sorted(score.average.mean for arm, score in scores.items() if arm.startswith("target-sft"))
    assert len(ours) == 3
    assert ours[0] > scores["sft"].average.mean  # as docs/which-target.md says
    said = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    low, high = f"{100 * ours[0]:.1f}", f"{100 * ours[-1]:.1f}"
    p = min(score.p_holm for score in scores.values() if score.p_holm is not None)
    names = {arm: mean[arm] for arm in ("base", "kd", "sft", "dft")}
    assert sentence.format(low=low, high=high, p=f"{1000 * p:03.0f}", **names) in said
    assert "With three trainings an arm no difference to sft is clear." in said
    assert not any(score.is_clear for score in scores.values() if score.against is not None)
    assert {score.n_seeds for score in scores.values()} == {trainings}


def test_costs_of_two_machines_are_never_averaged():
    results = ROOT / "benchmarks" / "results" / "real_models"
    of_card = read_unit(Unit("qwen-human-rationales", "test", "sft", 1), results)
    of_processor = read_unit(Unit("qwen-human-rationales", "test", "sft", 0), results)
    one, both = costs_table({"sft": [of_card]}), costs_table({"sft": [of_processor, of_card]})
    assert "machine" not in one
    assert len(both.splitlines()) == 4
    seconds = [f"{each['training']['cost']['cpu_seconds']:.0f}" for each in (of_processor, of_card)]
    for line, shown, device in zip(both.splitlines()[2:], seconds, ("1 threads, bfloat16", "NVIDIA H200"), strict=True):
        assert f"| {shown} |" in line
        assert line.endswith(f"| {device} |")
