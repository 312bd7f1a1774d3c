"""The configuration is plain data, and refuses a second objective."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from transformers import Seq2SeqTrainingArguments, TrainingArguments
from trl import SFTConfig, TrlParser

from qtarget.train import TargetSFTConfig
from qtarget.train.target_sft_config import as_target_config

QUIET = {"bf16": False, "use_cpu": True, "report_to": []}


def test_json_and_back(tmp_path):
    config = TargetSFTConfig(
        str(tmp_path), method="gem", method_kwargs={"beta": 0.5}, teacher=["a", "b"], eos_token="<eos>", **QUIET
    )
    known = {field.name for field in dataclasses.fields(TargetSFTConfig) if field.init}
    read = {name: value for name, value in json.loads(config.to_json_string()).items() if name in known}
    again = TargetSFTConfig(**read)
    assert again.build_method().hyperparameters["beta"] == 0.5
    assert again.eos_token == "<eos>"
    assert (again.method, again.teacher, again.diagnostics) == ("gem", ["a", "b"], config.diagnostics)


def test_yaml_through_trls_parser(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        f"output_dir: {tmp_path}\nmethod: kd-hybrid\nmethod_kwargs: {{teacher_weight: 0.3}}\nteacher: some/teacher\n"
        "bf16: false\nuse_cpu: true\nmax_length: 77\n"
    )
    (config,) = TrlParser(TargetSFTConfig).parse_args_and_config(["--config", str(path)])
    assert config.build_method().hyperparameters["teacher_weight"] == 0.3
    assert (config.teacher, config.max_length) == ("some/teacher", 77)


def test_flags_through_trls_parser(tmp_path):
    flags = ["--output_dir", str(tmp_path), "--method", "gem", "--method_kwargs", '{"beta": 0.5}']
    (config,) = TrlParser(TargetSFTConfig).parse_args_and_config(
        [*flags, "--teacher", "a/b", "--bf16", "false", "--use_cpu", "true", "--diagnostics", "trust", "entropy"]
    )
    assert config.build_method().hyperparameters["beta"] == 0.5
    assert (config.teacher, config.diagnostics) == ("a/b", ["trust", "entropy"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"loss_type": "dft"}, "`loss_type: dft` is set beside `method`. Remove that line"),
        ({"label_smoothing_factor": 0.1}, "`label_smoothing_factor: 0.1` .*Remove that line.*smoothing: 0.1"),
        ({"use_liger_kernel": True}, "`use_liger_kernel: true` .*Remove that line"),
        ({"diagnostics": ["trust", "entropi"]}, r"\['entropi'\].*entropy"),
        ({"method": "target-stf"}, "target-sft"),
        ({"method": "gem", "method_kwargs": {"bta": 0.5}}, "beta"),
        ({"method": "gem", "method_kwargs": {"beta": -1}}, "beta"),
        ({"method": "gem", "method_kwargs": "beta=1"}, "expected a mapping"),
    ],
)
def test_what_is_refused(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        TargetSFTConfig(str(tmp_path), **{"method": "sft", **line}, **QUIET)


def test_a_plain_sft_config_means_sft(tmp_path):
    plain = SFTConfig(str(tmp_path), max_length=33, learning_rate=1e-3, eos_token="<eos>", **QUIET)
    config = as_target_config(plain)
    assert (config.method, config.max_length, config.learning_rate, config.eos_token) == ("sft", 33, 1e-3, "<eos>")
    with pytest.raises(ValueError, match="Remove that line"):
        as_target_config(SFTConfig(str(tmp_path), loss_type="dft", **QUIET))


PLAIN = {
    "learning_rate": 3e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 3,
    "accelerator_config": {"dispatch_batches": False},
    "hub_token": "secret",
    "gradient_checkpointing": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "eval_strategy": "steps",
    "eval_steps": 7,
    "save_strategy": "best",
    "metric_for_best_model": "eval_nll",
    "greater_is_better": False,
    "weight_decay": 0.1,
    "optim": "sgd",
    "include_num_input_tokens_seen": "all",
    "label_names": ["labels"],
    "remove_unused_columns": False,
}


@pytest.mark.parametrize("kind", [TrainingArguments, Seq2SeqTrainingArguments, SFTConfig])
def test_any_training_arguments_are_taken(tmp_path, kind):
    """With every value as it was given, those that are hidden when they are printed too."""
    given = kind(str(tmp_path), **PLAIN, **QUIET)
    config = as_target_config(given)
    assert (config.method, config.output_dir) == ("sft", str(tmp_path))
    for field in dataclasses.fields(TrainingArguments):
        if field.init and field.name != "logging_nan_inf_filter":
            assert getattr(config, field.name) == getattr(given, field.name), field.name


def test_fields_of_a_users_own_are_kept_for_their_callbacks(tmp_path):
    @dataclasses.dataclass
    class Own(TrainingArguments):
        project: str = "atlas"

    assert as_target_config(Own(str(tmp_path), project="borealis", **QUIET)).project == "borealis"
    assert (
        as_target_config(
            Seq2SeqTrainingArguments(str(tmp_path), generation_max_length=9, **QUIET)
        ).generation_max_length
        == 9
    )


def test_other_objects_are_refused():
    with pytest.raises(ValueError, match="args is a dict; pass a TargetSFTConfig"):
        as_target_config({"output_dir": "x"})


@pytest.mark.parametrize("metric", ["eval_nll", "nll", "eval_target_kl", "eval_other_nll", "eval_loss"])
def test_less_is_better_of_our_own_measures_of_loss(metric):
    assert TargetSFTConfig(metric_for_best_model=metric, **QUIET).greater_is_better is False
    assert TargetSFTConfig(metric_for_best_model=metric, greater_is_better=True, **QUIET).greater_is_better is True
    assert TargetSFTConfig(metric_for_best_model="eval_accuracy", **QUIET).greater_is_better is True


def test_another_configuration_that_takes_more_of_them_for_better_is_refused():
    """transformers sets that by itself where nothing was said."""
    with pytest.raises(ValueError, match=r"greater_is_better=False"):
        as_target_config(SFTConfig(metric_for_best_model="eval_nll", **QUIET))
    assert as_target_config(SFTConfig(metric_for_best_model="eval_accuracy", **QUIET)).greater_is_better is True


@pytest.mark.parametrize(("backend", "given"), [("gloo", {}), ("nccl", {}), ("gloo", {"WORLD_SIZE": "1"})])
def test_the_backend_of_a_launch_is_nothing_to_one_process(tmp_path, backend, given):
    code = f"""
from qtarget.train import TargetSFTConfig
config = TargetSFTConfig(output_dir={str(tmp_path)!r}, ddp_backend={backend!r}, use_cpu=True, bf16=False)
print(config.world_size, config.parallel_mode.value)
"""
    around = {k: v for k, v in os.environ.items() if k not in {"RANK", "WORLD_SIZE", "LOCAL_RANK"}}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**around, **given})
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["1", "not_parallel"]
