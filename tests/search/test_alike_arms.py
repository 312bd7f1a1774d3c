"""What makes arms comparable: a name each, seeds that are fresh, rows that none is scored on, keys that all share."""

import json

import pytest
import yaml
from job.command import run as command
from job.directories import write_rows
from search.searched import ASKED, CONFIG, SPACE, results_of, sums, write_file

from qtarget import lab
from qtarget.search.race import scaled_difference
from qtarget.search.search_space import SearchArm

SHORT = {**SPACE, "steps": 1, "rungs": 1, "confirm_seeds": 1}


@pytest.fixture
def asked(here, capsys):
    """`asked(config, space, *words)`: a search with keys over the usual ones."""

    def search(config: dict, space: dict | None, *words: str):
        (here / "config.yaml").unlink()
        write_file(here / "config.yaml", {k: v for k, v in {**CONFIG, **config}.items() if v is not None})
        named = () if space is None else ("--space", write_file(here / "own.yaml", {**SHORT, **space}))
        return command(capsys, "search", "config.yaml", *named, "--out", "s", *words)

    return search


def scores_in(folder) -> list[list[float]]:
    return [json.loads(path.read_text())["scores"] for path in sorted(folder.rglob("result.json"))]


def test_arms_whose_names_are_shown_alike_keep_their_own_scores(here, asked):
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"]
    arms = [
        {"method": "sft", "learning_rate": 0.3, "lora_target_modules": [modules, [*modules, "up_proj", "down_proj"]]},
        {"method": "sft", "learning_rate": [1e-3, 1.0000001e-3], "lora_target_modules": [modules]},
    ]
    said = asked({"eval_dataset": "held_out.jsonl", "use_peft": True, "lora_r": 2}, {"arms": arms, "steps": 4})
    assert said.code == 0, said.err
    found = results_of(here / "s")["arms"]
    assert len({each["name"] for each in found}) == 4, [each["name"] for each in found]
    for each in found:
        (scores,) = scores_in(here / "s" / each["folder"])
        assert each["rungs"][0]["mean"] == pytest.approx(sum(scores) / len(scores)), each["name"]
    assert found[0]["rungs"][0]["mean"] != found[1]["rungs"][0]["mean"]


def test_the_name_of_an_arm_says_a_number_whole_and_how_a_long_value_goes_on():
    assert SearchArm(1, {"method": "sft", "learning_rate": 1e-05}).name == "sft learning_rate=1e-05"
    assert SearchArm(1, {"learning_rate": 1.0000001e-3}).name == "learning_rate=0.0010000001"
    assert SearchArm(7, {"lora_target_modules": ["q_proj"] * 9}).name.endswith("… #7")


def test_fresh_seeds_are_fresh_where_the_configuration_has_a_seed_of_the_data(here, asked):
    config = {"eval_dataset": "held_out.jsonl", "data_seed": 7}
    arms = [{"method": ["sft", "target-sft"], "learning_rate": 1e-2}]
    said = asked(config, {"arms": arms, "steps": 2, "confirm_seeds": 2})
    assert said.code == 0, said.err
    for arm in sorted((here / "s" / "confirmation").iterdir()):
        first, second = scores_in(arm)
        assert first != second
    assert "data_seed" not in (here / "s" / "arms" / "01-sft-learning-rate-0.01" / "rung-1" / "config.yaml").read_text()
    assert yaml.safe_load((here / "s" / "best.yaml").read_text())["data_seed"] == 7


def test_sft_races_where_the_configuration_names_a_reference(here, asked):
    config = {"method": "sft-kl", "kl_weight": 0.5, "reference": "teacher", "eta": None, "teacher": None}
    said = asked(config, {"arms": [{"kl_weight": [0.1, 0.5]}]}, *ASKED)
    assert said.code == 0, said.err
    found = results_of(here / "s")
    assert [(each["name"], each["failed"]) for each in found["arms"]] == [
        ("sft learning_rate=0.001", ""), ("kl_weight=0.1", ""), ("kl_weight=0.5", ""),
    ]  # fmt: skip
    assert found["confirmation"] is not None


def test_held_out_rows_that_the_search_draws_are_refused_where_the_configuration_takes_others(here, asked):
    rows = [json.loads(line) for line in (here / "rows.jsonl").open()]
    write_rows(here / "leak.jsonl", [*sums(6, 9, 14, 20), rows[20]])
    said = asked({"eval_dataset": "leak.jsonl", "train_rows": 8}, {"rows": 24})
    assert said.code == 2
    assert "row 7 of `eval_dataset` is also one of the `rows: 24` that the search draws" in said.err
    assert not (here / "s").exists()


def test_sft_is_not_added_where_the_configuration_is_sft(here, asked):
    config = {"method": "sft", "eta": None, "teacher": None}
    assert asked(config, {"arms": [{"learning_rate": [1e-3, 1e-2]}]}, *ASKED).code == 0
    names = [each["name"] for each in results_of(here / "s")["arms"]]
    assert names == ["learning_rate=0.001", "learning_rate=0.01"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model_name_or_path", "teacher", "all arms begin from the model of the configuration"),
        ("dataset_name", "dev.jsonl", "all arms share the rows of the configuration"),
        ("dataset_train_split", "test", "all arms share the rows of the configuration"),
        ("streaming", True, "all arms share the rows of the configuration"),
        ("rounds", 2, "a search races single trainings"),
        ("gradient_accumulation_steps", {"low": 1, "high": 4}, "takes whole numbers, and a range draws others; write"),
        ("top_k", {"low": 2, "high": 10}, "takes whole numbers, and a range draws others; write a list, as in"),
    ],
)
def test_an_arm_that_is_no_arm_is_refused_before_any_run(here, asked, key, value, said):
    method = "eaft" if key == "top_k" else "dft"
    ended = asked({}, {"arms": [{"method": method, key: value}, {"method": "sft"}]}, *ASKED)
    assert ended.code == 2, ended.err
    assert f"arm 1: `{key}`" in ended.err
    assert said in ended.err
    assert not (here / "s").exists()


def test_a_question_is_seen_in_rows_of_token_ids(here, asked):
    """In the lab, whose tokenizer gives its words back."""
    world = lab.world("strong-prior")
    tokenizer = lab.tokenizer(world)
    student, made, rows = str(lab.student_path(world)), [], lab.demonstrations(world, 0)[:24]
    for row in rows:
        asks, says = (tokenizer(row[name])["input_ids"] for name in ("prompt", "completion"))
        made.append({"input_ids": [*asks, *says, 2], "labels": [-100] * len(asks) + [*says, 2]})
    write_rows(here / "ids.jsonl", made)
    fresh = [{"question": each["prompt"], "answer": each["answer"]} for each in lab.questions(world, 6, 0)]
    write_rows(here / "leak.jsonl", [*fresh, {"question": rows[2]["prompt"], "answer": "1"}])
    config = {"model": student, "teacher": student, "train_dataset": "ids.jsonl", "prompt_format": None}
    said = asked(config, {}, "--questions", "leak.jsonl", *ASKED[2:])
    assert said.code == 2, said.err
    assert "is also training row 3 of `train_dataset`" in said.err


def test_of_two_teachers_the_arms_of_inspect_are_set_up_for_two(here, asked):
    (here / "second").symlink_to(here / "teacher")
    said = asked({"teacher": ["teacher", "second"], "eta": [0.2, 0.2]}, None, *ASKED)
    assert said.code == 0, said.err
    found = {each["name"]: each["failed"] for each in results_of(here / "s")["arms"]}
    assert len(found) == 9
    assert not any(found.values()), found
    assert any("eta=[0.25, 0.25]" in name for name in found)


def test_a_grader_that_changed_is_not_mixed_into_a_race(here, asked):
    (here / "grade.py").write_text("def right(answer, gold, row):\n    return True\n")
    words = ("--questions", "dev.jsonl", "--grade", "python:grade.py:right", "--k", "1", "--max-new-tokens", "2")
    assert asked({}, {}, *words).code == 0
    (here / "grade.py").write_text("def right(answer, gold, row):\n    return False\n")
    said = asked({}, {}, *words)
    assert said.code == 2
    assert "differs in `grader`" in said.err


def test_held_out_rows_that_are_the_same_count_as_one(here, asked):
    different = sums(4, 9, 14, 20)
    write_rows(here / "often.jsonl", [row for row in different for _ in range(3)])
    arms = [{"method": ["sft", "target-sft"], "learning_rate": 1e-2}]
    said = asked({"eval_dataset": "often.jsonl"}, {"arms": arms})
    assert said.code == 0, said.err
    kept = [json.loads(path.read_text()) for path in sorted((here / "s").rglob("result.json"))]
    assert {len(each["scores"]) for each in kept} == {6}
    assert {len(set(each["units"])) for each in kept} == {2}
    arms = sorted(results_of(here / "s")["arms"], key=lambda each: each["rungs"][0]["mean"])
    behind, leader = (scores_in(here / "s" / each["folder"]) for each in arms)
    found = scaled_difference(behind, leader, kept[0]["units"])
    assert arms[0]["rungs"][0]["low"] == pytest.approx(found.low)


@pytest.mark.parametrize("words", [(), ("--questions", "same.jsonl", *ASKED[2:])], ids=["rows", "questions"])
def test_what_cannot_be_halved_is_refused_before_any_run(here, asked, words):
    write_rows(here / "same.jsonl", sums(1, 9, 14, 20) * 5)
    said = asked({"eval_dataset": "same.jsonl"}, {}, *words)
    assert said.code == 2, said.err
    assert "are one cluster, and the race and its confirmation need others" in said.err
    assert not (here / "s").exists()
