"""What the user wrote becomes a checked `Job`."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError
from trl import ModelConfig, SFTConfig

import qtarget as qt
from qtarget.data.user_files.yaml_file import parse_scalar, read_yaml
from qtarget.job.config.flags import RunArguments, parse_arguments
from qtarget.job.config.keys import RUN_KEYS, TRL_NAMES, all_keys, schema
from qtarget.job.config.machine import machine_choices
from qtarget.job.config.read_job import read_job
from qtarget.target.hyperparameters import hyperparameters


def job_of(*words: str):
    return read_job(parse_arguments(["config.yaml", *words]))


# Flags


def test_words_are_taken_apart():
    words = parse_arguments(
        ["a.yaml", "--learning-rate", "1e-5", "--packing", "--lora_target_modules", "q", "v", "--seed=-1"]
    )
    assert words == RunArguments(
        Path("a.yaml"), {"learning_rate": ["1e-5"], "packing": [], "lora_target_modules": ["q", "v"], "seed": ["-1"]}
    )
    assert parse_arguments(["--model", "m"]) == RunArguments(None, {"model": ["m"]})
    assert parse_arguments(["--config", "a.yaml", "--seed", "1"]) == RunArguments(Path("a.yaml"), {"seed": ["1"]})
    with pytest.raises(ValueError, match="--seed is given twice"):
        parse_arguments(["--seed", "1", "--seed=2"])


def test_flags_stand_over_the_file_and_become_what_their_key_takes(here):
    job = job_of(
        "--learning-rate", "1e-5", "--packing", "--eos-token", "[PAD]", "--max-length", "null", "--run-name", "7",
        "--diagnostics", "p_y", "--model-init-kwargs", "{use_cache: false}", "--eta=0.1", "--report-to", "none",
    )  # fmt: skip
    args = job.args
    assert (args.learning_rate, args.packing, args.eos_token, args.max_length) == (1e-5, True, "[PAD]", None)
    assert (args.run_name, args.diagnostics, args.model_init_kwargs) == ("7", ["p_y"], {"use_cache": False})
    assert (job.method.hyperparameters, args.report_to, args.max_steps) == (
        {"eta": 0.1, "teacher_temperature": 1.0, "trust": "p_y"},
        [],
        4,
    )


def test_a_run_without_a_file(here):
    job = read_job(parse_arguments(["--model", "llama", "--train-dataset", "rows.jsonl", "--method", "sft"]))
    assert (job.model, job.method.name) == (str(here / "llama"), "sft")


# YAML


def test_yaml_as_people_mean_it(tmp_path):
    text = "a: 1e-5\nb: no\nc: 2024-01-01\nd: true\ne: 3\nf: [1e-1, null]\n"
    (tmp_path / "a.yaml").write_text(text)
    found = read_yaml(tmp_path / "a.yaml")
    assert found.values == {"a": 1e-5, "b": "no", "c": "2024-01-01", "d": True, "e": 3, "f": [0.1, None]}
    assert found.lines["e"] == 5
    assert parse_scalar("{unclosed") == "{unclosed"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: a\n  seed: 1\n", "bad.yaml, line 2, column 7: this is not YAML"),
        ("model: a\nseed: [1\n", "bad.yaml, line 3"),
        ("model: a\nseed: 1\nmodel: b\n", "line 3: `model` is already written on line 1"),
        ("- model\n", "holds no `key: value` lines"),
        ("", "holds no `key: value` lines"),
        ("a: \x07\n", "bad.yaml is not YAML"),
    ],
)
def test_yaml_that_is_none(tmp_path, text, said):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match="bad") as error:
        read_yaml(tmp_path / "bad.yaml")
    assert said in str(error.value)


# Keys


def test_every_key_of_trl_is_taken():
    init = {f.name for owner in (SFTConfig, ModelConfig) for f in fields(owner) if f.init}
    assert init <= {*all_keys(), *TRL_NAMES}


def test_the_schema_alone_refuses_unknown_keys():
    with pytest.raises(ValidationError, match="learning_rat"):
        schema()(model="m", train_dataset="r", learning_rat=1)


def test_no_hyperparameter_shadows_a_key():
    names = {h.name for factory in qt.METHODS.values() for h in hyperparameters(factory)}
    assert not names & {*all_keys(), *TRL_NAMES, *RUN_KEYS}
    assert not {"self", "name"} & set(inspect.signature(qt.method).parameters) & names


def test_a_trl_configuration_carries_over(here):
    (here / "trl.yaml").write_text(
        "model_name_or_path: llama\ndataset_name: rows.jsonl\ndataset_train_split: train\nlearning_rate: 2.0e-4\n"
        "eval_strategy: no\nlr_scheduler_type: cosine\nuse_peft: true\nlora_target_modules: all-linear\nlora_r: 8\n"
        "gradient_checkpointing: false\ndtype: bfloat16\nmethod: dft\n"
    )
    job = read_job(parse_arguments(["trl.yaml"]))
    assert (job.model, job.train.names) == (str(here / "llama"), ("rows.jsonl",))
    assert (job.model_args.lora_target_modules, job.model_args.lora_r) == ("all-linear", 8)
    assert (job.args.learning_rate, job.model_args.dtype, job.evaluation) == (2e-4, "bfloat16", None)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("train_dataset: rows.jsonl\ndataset_config: main\n", "remove `dataset_config`"),
        ("train_dataset: [rows.jsonl, rows.jsonl]\ndataset_config: main\n", "remove `dataset_config`"),
        ("train_dataset: saved\ndataset_config: main\n", "remove `dataset_config`"),
        ("train_dataset: [{path: rows.jsonl}]\ndataset_config: main\n", "remove `dataset_config`"),
        ("train_dataset: [{path: rows.jsonl, config: main}, {path: owner/rows}]\n", "remove `config: main`"),
        (
            "train_dataset: rows.jsonl\neval_dataset: owner/rows\ndataset_config: main\n",
            "`- {path: its/name, config: main}` under `eval_dataset:`",
        ),
    ],
)
def test_a_configuration_of_rows_that_have_none_is_refused(here, rows, said):
    Dataset.from_list([{"text": "a"}]).save_to_disk(here / "saved")
    (here / "mine.yaml").write_text(f"model: llama\n{rows}")
    with pytest.raises(ValueError, match=re.escape(said)):
        read_job(parse_arguments(["mine.yaml"]))


def test_a_configuration_goes_to_the_rows_that_have_some(here):
    (here / "described").mkdir()
    (here / "described" / "README.md").write_text("---\nconfigs:\n- config_name: main\n---\n")
    for rows in ("owner/rows", "described", "[{path: rows.jsonl}, {path: owner/rows}]"):
        (here / "mine.yaml").write_text(
            f"model: llama\ntrain_dataset: {rows}\neval_dataset: rows.jsonl\ndataset_config: main\n"
        )
        job = read_job(parse_arguments(["mine.yaml"]))
        assert [part.config for part in job.train.sets or (job.train,)][-1] == "main"
    (here / "mine.yaml").write_text(
        "model: llama\ntrain_dataset: rows.jsonl\neval_dataset: [{path: owner/rows, config: main}]\n"
    )
    job = read_job(parse_arguments(["mine.yaml"]))
    assert job.evaluation is not None
    assert job.evaluation.sets[0].config == "main"


def test_one_name_is_enough(here):
    (here / "both.yaml").write_text("model: llama\ntrain_dataset: rows.jsonl\ndataset_name: rows.jsonl\n")
    with pytest.raises(ValueError, match="`dataset_name` and `train_dataset` mean the same"):
        read_job(parse_arguments(["both.yaml"]))


def test_hyperparameters_stand_at_the_top_or_under_method_kwargs(here):
    assert job_of("--method-kwargs", "{eta: 0.9}", "--eta", "0.1").method.hyperparameters["eta"] == 0.1
    (here / "twice.yaml").write_text("model: llama\ntrain_dataset: rows.jsonl\neta: 0.5\nmethod_kwargs: {eta: 0.4}\n")
    with pytest.raises(ValueError, match="line 3: `eta` is in `method_kwargs` too"):
        read_job(parse_arguments(["twice.yaml"]))


def test_another_method_over_a_file_with_hyperparameters(here):
    job = job_of("--method", "gem", "--teacher", "null", "--eta", "null", "--beta", "0.5")
    assert dict(job.method.hyperparameters) == {"beta": 0.5, "h": "linear"}


def test_the_test_split_is_what_trl_evaluates_on(here):
    (here / "folder").mkdir()
    job = job_of("--train-dataset", "folder", "--eval-dataset", "null", "--eval-strategy", "epoch")
    assert job.evaluation is not None
    assert (job.evaluation.names, job.evaluation.split, job.evaluation.held_out) == (("folder",), "test", True)
    assert job_of("--train-dataset", "folder", "--eval-dataset", "null").evaluation is None


# The machine


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({}, {"bf16": False, "dataloader_pin_memory": False}),
        ({"bf16": True, "dataloader_pin_memory": True}, {"use_cpu": True}),
        ({"bf16": True, "use_cpu": True, "dataloader_pin_memory": True}, {}),
        ({"bf16_full_eval": True, "dataloader_pin_memory": True}, {"bf16": False, "use_cpu": True}),
        ({"fp16": False, "use_cpu": True}, {"dataloader_pin_memory": False}),
    ],
)
def test_precision_without_a_gpu(values, keys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert machine_choices(values).keys == keys
    assert bool(machine_choices(values).note) == ("bf16" not in values and "fp16" not in values)


def test_fp16_is_refused_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"`fp16: true` needs a GPU.*write `bf16: true`"):
        machine_choices({"fp16": True})


@pytest.mark.parametrize(("has_bf16", "keys"), [(True, {"bf16": True}), (False, {"bf16": False, "fp16": True})])
def test_precision_with_a_gpu(has_bf16, keys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert machine_choices({}).keys == keys
    assert machine_choices({"use_cpu": True}).keys["bf16"] is False
