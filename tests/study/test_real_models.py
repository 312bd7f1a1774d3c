"""The study on real models: its protocols, its units, that it goes on, what it refuses. The runs are real, of a model
that is tiny; `make real-quick` is the same on a pre-trained one."""

import json
import random
from pathlib import Path

import pytest
import yaml
from tiny_models import tiny_model, tiny_tokenizer

from qtarget.cli.main import main
from qtarget.evaluate.compare.tables import compare_arms
from qtarget.study.real_models import unit_work
from qtarget.study.real_models.own_commands import CommandCost, run_qtarget
from qtarget.study.real_models.real_comparison import compared, outcomes_by_arm
from qtarget.study.real_models.real_page import real_parts, units_sentence
from qtarget.study.real_models.real_protocol import read_protocol
from qtarget.study.real_models.real_rows import (
    RealRow,
    check_apart,
    made_rows,
    parts_digest,
    rationale,
    with_slip,
    write_parts,
)
from qtarget.study.real_models.run_real import check_study, missing_units, named_places, run_real_study
from qtarget.study.real_models.unit_files import path_of_unit, read_unit, save_unit
from qtarget.study.real_models.unit_work import RealStudy
from qtarget.study.real_models.units import Unit, chosen_rate, units_in_order

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
        patch.setattr(unit_work, "run_qtarget", in_this_process)
        run_real_study(study)
    return study


def in_this_process(words, log) -> CommandCost:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert not ended.value.code, words
    return CommandCost(1.0, 1.0, 1.0)


def test_every_unit_is_run_and_kept(study):
    assert missing_units(study) == []
    assert units_sentence(study.protocol, study.results) == "16 of 16 units are run."
    teacher = read_unit(Unit("tiny-sums", "teacher", "teacher"), study.results)
    assert list(teacher["evaluations"]) == ["greedy"]
    assert teacher["training"]["metrics"]["steps"] == 2
    test = read_unit(Unit("tiny-sums", "test", "target-sft-0.5", 0), study.results)
    assert [len(each["shares"]) for each in test["evaluations"].values()] == [4, 4]
    assert test["effects"]["calibration"]["tokens"] > 4
    assert test["effects"]["forgetting"]["kl"] >= 0
    assert 0 < test["training"]["log"][0]["trust"] < 1
    assert read_unit(Unit("tiny-sums", "test", "base", 1), study.results).get("effects") is None
