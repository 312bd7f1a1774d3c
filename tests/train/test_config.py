"""The configuration is plain data, and refuses a second objective."""

import dataclasses
import json

import pytest
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
