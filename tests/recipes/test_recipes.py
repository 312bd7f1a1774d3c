"""The ten settings: what they say, where it comes from, and the runs they describe. Nothing is downloaded."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from job.command import run as command

from qtarget.evaluate.prompts import PROMPTS
from qtarget.evaluate.tasks import TASKS
from qtarget.job.config.checked_job import Layout
from qtarget.job.config.read_job import job_of
from qtarget.recipes import recipe_files as catalogue
from qtarget.recipes.launch import arm_values, launch_line, write_config
from qtarget.recipes.recipe_files import FILES, read_part, recipe, recipe_names, recipes
from qtarget.recipes.resolve import left_open, resolved_values, trained_arms, without_sources
from qtarget.recipes.schema import DataFile, ModelFile

GOLDEN = Path(__file__).parent / "openr1-15k-qwen2.5-math-7b-target-sft.yaml"
SIZES = ("1.5b", "7b")
CELLS = [(name, arm) for name in recipe_names() for arm in trained_arms(recipe(name))]


def test_the_papers_ten_settings_with_its_five_arms():
    models = ("qwen3-1.7b", *(f"qwen2.5-math-{n}" for n in SIZES))
    math = [f"{data}-{model}" for data in ("numinamath-cot", "openr1-15k") for model in models]
    medical = [f"m23k-{m}" for m in ("llama-3.2-3b", "llama-3.1-8b", *(f"qwen2.5-{n}" for n in SIZES))]
    assert recipe_names() == math + medical
    for one in recipes():
        assert list(one.arms) == ["base", "sft", "dft", "kd", "target-sft"] == list(one.paper)


@pytest.mark.parametrize(("name", "arm"), CELLS)
def test_every_arm_is_a_checked_run(name, arm, tmp_path):
    job = job_of(without_sources(arm_values(recipe(name), arm, tmp_path)))
    assert job.method.name == arm
    assert job.layout is not None
    assert job.layout.prompt in PROMPTS
    assert ("teacher" in job.method.needs) == (job.args.teacher is not None)
    args = job.args
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps * 8 == 256
    assert (args.adam_beta1, args.adam_beta2, args.weight_decay, args.max_grad_norm) == (0.9, 0.95, 0.01, 1.0)


def test_a_resolved_configuration_is_this_one(tmp_path):
    """One whole configuration, so that no edit of a file changes a run unnoticed."""
    found = without_sources(resolved_values(recipe("openr1-15k-qwen2.5-math-7b"), "target-sft"))
    assert found == yaml.safe_load(GOLDEN.read_text())


def test_the_rows_of_a_setting(tmp_path):
    job = job_of(without_sources(arm_values(recipe("openr1-15k-qwen3-1.7b"), "sft", tmp_path)))
    assert job.layout == Layout("qwen-boxed", 15000, 0, True)
    assert job.args.columns == {"prompt": "problem", "completion": "messages"}
    assert (job.train.names, job.train.config) == (("open-r1/OpenR1-Math-220k",), "default")


def test_one_model_has_a_learning_rate_of_its_own():
    rates = {name: resolved_values(recipe(name), "sft")["learning_rate"].value for name in recipe_names()}
    assert {name for name, rate in rates.items() if rate != 5e-5} == {"m23k-llama-3.1-8b"}
    assert rates["m23k-llama-3.1-8b"] == 2e-5


def test_every_value_has_a_source_and_the_papers_own_are_few():
    for name, arm in CELLS:
        for key, value in resolved_values(recipe(name), arm).items():
            assert value.where, key
    said = {key for name, arm in CELLS for key, v in resolved_values(recipe(name), arm).items() if v.source == "paper"}
    assert said <= {"model", "method", "train_dataset", "train_rows"}


def test_what_the_paper_leaves_open_is_said():
    lines = " ".join(left_open(recipe("openr1-15k-qwen3-1.7b")))
    for word in ("teacher", "η", "learning rate", "batch", "Distill", "15k", "benchmarks"):
        assert word in lines


def test_tasks_exist_and_are_of_the_recipes_suite():
    for one in recipes():
        assert {TASKS[name].suite for name in one.evaluation.tasks.value} == {one.evaluation.suite}


@pytest.mark.parametrize(
    "value", ["2048", "{value: 2048}", "{value: 2048, source: ours}", "{value: 1, source: me, where: x}"]
)
def test_a_value_without_a_source_is_refused(value, tmp_path):
    text = (FILES / "data" / "numinamath-cot.yaml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("  max_length:"))
    (tmp_path / "data.yaml").write_text(text.replace(line, f"  max_length: {value}"))
    with pytest.raises(ValueError, match=r"data.yaml: `job.max_length.*source: ancestor"):
        read_part(tmp_path / "data.yaml", DataFile)


def test_a_key_that_a_file_does_not_know_is_refused(tmp_path):
    shutil.copy(FILES / "models" / "qwen2.5-7b.yaml", tmp_path / "model.yaml")
    with (tmp_path / "model.yaml").open("a") as file:
        file.write("tokenizer: other\n")
    with pytest.raises(ValueError, match="`tokenizer`"):
        read_part(tmp_path / "model.yaml", ModelFile)


def test_unknown_names_name_the_near_miss(capsys):
    said = command(capsys, "recipes", "show", "numinamath-cot-qwen3-1.7")
    assert (said.code, 'did you mean "numinamath-cot-qwen3-1.7b"?' in said.err) == (2, True)
    said = command(capsys, "recipes", "run", "m23k-qwen2.5-7b", "--methods", "sft,target", "--dry-run")
    assert (said.code, 'did you mean "target-sft"?' in said.err) == (2, True)
    assert command(capsys, "recipes", "run", "--dry-run").code == 2


def test_a_step_that_the_gpus_cannot_share_is_refused(capsys):
    said = command(capsys, "recipes", "show", "m23k-qwen2.5-7b", "--gpus", "7")
    assert (said.code, "7 GPUs" in said.err) == (2, True)


def test_the_launch_line_is_one_that_accelerate_understands(tmp_path):
    from accelerate.commands.launch import launch_command_parser

    for name, sharded in (("m23k-llama-3.1-8b", True), ("m23k-qwen2.5-1.5b", False)):
        words = launch_line(recipe(name), tmp_path / "config.yaml").split()[2:]
        args = launch_command_parser().parse_args(words)
        assert (args.num_processes, bool(args.use_fsdp)) == (8, sharded)
        assert args.training_script_args == ["train", str(tmp_path / "config.yaml")]


def test_a_written_configuration_says_the_same_and_where_it_is_from(tmp_path):
    one = recipe("m23k-llama-3.2-3b")
    path = write_config(one, "target-sft", tmp_path)
    assert yaml.safe_load(path.read_text()) == without_sources(arm_values(one, "target-sft", tmp_path))
    assert "# ours: the middle of its range" in path.read_text()


def test_launch_writes_and_prints_and_runs_nothing(tmp_path, capsys):
    said = command(capsys, "recipes", "run", "m23k-qwen2.5-1.5b", "--launch", "--out", str(tmp_path), "--gpus", "2")
    assert said.code == 0
    assert said.out.count("accelerate launch --num_processes 2") == 4
    assert sorted(path.name for path in tmp_path.rglob("*.yaml")) == ["config.yaml"] * 4


@pytest.mark.parametrize("width", [80, 120])
def test_list_and_show_fit_the_terminal(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    listed = command(capsys, "recipes", "list")
    assert all(name in listed.out for name in recipe_names())
    assert "…" not in listed.out
    shown = command(capsys, "recipes", "show", "numinamath-cot-qwen2.5-math-1.5b")
    assert max(len(line.rstrip()) for line in (listed.out + shown.out).splitlines()) <= width
    for said in ("by formula, not measured", "read off its figure, ±0.3", "eta", "[ours]" if width == 80 else " ours "):
        assert said in shown.out


def test_as_json(capsys):
    listed = json.loads(command(capsys, "recipes", "list", "--json").out)
    assert [one["name"] for one in listed] == recipe_names()
    shown = json.loads(command(capsys, "recipes", "show", recipe_names()[0], "--json").out)
    assert shown == listed[0]
    eta = shown["methods"]["target-sft"]["configuration"]["eta"]
    assert eta["source"] == "ours"
    assert set(shown["recipe_version"]) >= {"protocol", "methods", "settings"}


def test_every_file_has_a_version():
    for path in FILES.rglob("*.yaml"):
        assert isinstance(yaml.safe_load(path.read_text())["recipe_version"], int), path
    assert catalogue.recipe("m23k-qwen2.5-7b").versions["protocol"] == 2
