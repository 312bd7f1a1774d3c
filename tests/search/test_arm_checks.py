"""Arms that `qtarget train` refuses once its models are open: a search refuses them before anything is paid."""

import re

import pytest
from job.command import run as command
from search.searched import ASKED, SPACE, WORDS, results_of, write_file
from tiny_models import tiny_model, tiny_tokenizer

ONE_RUNG = {**SPACE, "rungs": 1, "steps": 1, "confirm_seeds": 1}
REFUSED = {
    "weights that rows lack": ({"method": "cft"}, "arm cft: .*reads a weight for every token.*`weight_spans`"),
    "cut sequences": (
        {"method": "iw-sft", "packing": True, "packing_strategy": "wrapped"},
        "write `packing_strategy: bfd`",
    ),
    "another tokenizer": ({"method": "kd", "teacher": "other"}, "arm kd teacher=other: .* has another tokenizer"),
    "another reference": ({"method": "asft", "reference": "other"}, "The reference has another tokenizer"),
    "a student that teaches itself": ({"method": "kd", "teacher": "self"}, "it says what the student says"),
    "layers that are not there": (
        {"method": "sft", "use_peft": True, "lora_target_modules": [["nonesuch"]]},
        "Target modules .* not found in the base model",
    ),
    "attention": ({"method": "sft", "attn_implementation": "nonesuch"}, "arm sft attn_implementation=nonesuch: "),
    "loading": ({"method": "sft", "model_init_kwargs": {"nonesuch": 1}}, "`model_init_kwargs` holds `nonesuch`"),
    "loading of a teacher": ({"method": "kd", "teacher_init_kwargs": {"x": 1}}, "`teacher_init_kwargs` holds `x`"),
    "rows that are cut off": ({"method": "sft", "max_length": 2}, "arm sft max_length=2: .*no label left"),
    "a schedule that lacks a number": (
        {"method": "sft", "lr_scheduler_type": "cosine_with_min_lr"},
        "`lr_scheduler_type: cosine_with_min_lr` cannot be made with `lr_scheduler_kwargs: None`.*min_lr",
    ),
    "a schedule that takes no such number": (
        {"method": "sft", "lr_scheduler_kwargs": {"nonesuch": 1}},
        "`lr_scheduler_type: linear` cannot be made.*nonesuch.*Write what it takes, or `lr_scheduler_type: cosine`",
    ),
}


def searched(capsys, here, *arms: dict, words: tuple[str, ...] = ASKED):
    space = write_file(here / "arms.yaml", {**ONE_RUNG, "arms": [{"method": "sft"}, *arms]})
    return command(capsys, "search", "config.yaml", "--space", space, "--out", "s", *words)


@pytest.mark.parametrize("case", REFUSED)
def test_an_arm_that_train_would_refuse_is_refused_before_any_run(here, capsys, case: str):
    arm, said = REFUSED[case]
    tokenizer = tiny_tokenizer(WORDS[::-1])
    tiny_model(vocab=len(tokenizer), seed=3).save_pretrained(here / "other")
    tokenizer.save_pretrained(here / "other")
    ended = searched(capsys, here, arm)
    assert ended.code == 2, ended.err
    assert re.search(said, " ".join(ended.err.split())), ended.err
    assert not (here / "s").exists()


def test_a_cache_that_lacks_what_a_method_needs_is_refused_with_the_arm(here, capsys):
    cached = ("--teacher-cache", "cache")
    assert command(capsys, "teacher", "cache", "config.yaml", *cached, "--train-rows", "4").code == 0
    ended = searched(capsys, here, {"method": "target-sft", "eta": 0.2}, words=(*ASKED, *cached))
    assert ended.code == 2, ended.err
    assert "arm target-sft eta=0.2: " in ended.err
    assert "holds nothing about 13 of the 16 documents" in ended.err, ended.err


def test_an_arm_whose_method_no_cache_serves_asks_its_teacher_itself(here, capsys):
    ended = searched(capsys, here, {"method": "akl"}, {"method": "target-sft", "eta": 0.2})
    assert ended.code == 0, ended.err
    assert [each["failed"] for each in results_of(here / "s")["arms"]] == ["", "", ""]


def test_arms_of_two_precisions_are_looked_at_in_one_process(here, capsys):
    words = ("--eval-dataset", "held_out.jsonl")
    ended = searched(capsys, here, {"method": "sft", "bf16": [True, False]}, words=words)
    assert ended.code == 0, ended.err
