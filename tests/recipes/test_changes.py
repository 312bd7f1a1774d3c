"""A recipe with models, keys and questions of a user's own: what changes, where it is said, and that all of it runs."""

import json
from pathlib import Path

import datasets
import pytest
import yaml
from job.command import run as command

from qtarget.recipes.changes import changed_recipe, parse_keys
from qtarget.recipes.dry import DRY_ROWS, dry_models
from qtarget.recipes.launch import arm_values
from qtarget.recipes.recipe_files import recipe, recipes
from qtarget.recipes.resolve import resolved_values, trained_arms, without_sources
from qtarget.study.quiet import quiet

NAME = "numinamath-cot-qwen2.5-math-1.5b"
REAL = Path(__file__).parents[2] / "benchmarks" / "results" / "real_models"


def changed(cache: Path | None = None, **job):
    return changed_recipe(recipe(NAME), job, {"tasks": ["gsm8k"], "k": 2, "max_new_tokens": None}, cache)


def test_a_change_holds_above_every_file_and_says_whose_it_is(tmp_path):
    one = changed(learning_rate=1e-4, max_steps=3, gradient_accumulation_steps=1, model="here/student")
    values = arm_values(one, "sft", tmp_path)
    for key, value in (("learning_rate", 1e-4), ("max_steps", 3), ("gradient_accumulation_steps", 1)):
        assert (values[key].value, values[key].source) == (value, "yours")
    assert one.model.job["model"].value == values["model"].value == "here/student"
    assert (one.evaluation.k.value, one.evaluation.tasks.value, one.evaluation.max_new_tokens.value) == (
        2, ["gsm8k"], 4096,
    )  # fmt: skip
    assert recipe(NAME).model.job["model"].value == "Qwen/Qwen2.5-Math-1.5B"


def test_a_hyperparameter_goes_to_the_arms_that_have_it_and_a_teachers_key_to_those_that_are_taught(tmp_path):
    one = changed(tmp_path, eta=0.2, teacher_temperature=0.5, teacher_dtype="bfloat16")
    found = {arm: without_sources(resolved_values(one, arm)) for arm in trained_arms(one)}
    assert [arm for arm in found if "eta" in found[arm]] == ["target-sft"]
    assert found["target-sft"]["eta"] == 0.2
    for key in ("teacher", "teacher_temperature", "teacher_dtype", "teacher_cache"):
        assert [arm for arm in found if key in found[arm]] == ["kd", "target-sft"], key
    assert found["kd"]["teacher_cache"] == str(tmp_path / NAME / "teacher-cache")


def test_without_changes_a_recipe_is_itself():
    for one in recipes():
        same = changed_recipe(one, {}, {"tasks": None, "k": None, "max_new_tokens": None}, None)
        assert same == one


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["max_steps"], "gives no key a value; write it as `--set max_steps=4`"),
        (["=4"], "gives no key a value"),
        (["max_steps=4", "max-steps=5"], "--set max_steps is given twice"),
        (["columns={a"], "the value is no YAML"),
    ],
)
def test_words_that_set_nothing_are_refused(words, said):
    with pytest.raises(ValueError, match=said):
        parse_keys(words)


def test_values_are_read_as_in_a_configuration():
    assert parse_keys(["lr-scheduler-type=linear", "learning_rate=1e-4", "use_peft=true", "columns={prompt: a}"]) == {
        "lr_scheduler_type": "linear", "learning_rate": 1e-4, "use_peft": True, "columns": {"prompt": "a"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "max_stepz=4"], "max_steps"),
        (["--set", "learning_rate=fast"], "learning_rate"),
        (["--rows", "gsm8k=rows.jsonl"], "--rows gives a file for 'gsm8k', which is not among"),
    ],
)
def test_what_cannot_be_is_refused_before_work(words, said, capsys, tmp_path):
    found = command(capsys, "recipes", "run", NAME, *words, "--out", str(tmp_path))
    assert found.code == 2
    assert said in found.err
    assert list(tmp_path.iterdir()) == []


def test_all_of_it_runs_on_models_rows_and_questions_of_ones_own(tmp_path, capsys, monkeypatch):
    """Rows, cache, training and evaluation as on real weights, with tiny models that lie in folders."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / ".cache")
    monkeypatch.chdir(tmp_path)
    models = dry_models(recipe(NAME), tmp_path)
    asked = [{"question": "What is 2 + 2?", "answer": "2 + 2 = 4.\n#### 4"}] * 2
    Path("asked.jsonl").write_text(
        "".join(json.dumps({**row, "question": f"{n}"}) + "\n" for n, row in enumerate(asked))
    )
    words = ["--model", models["model"], "--teacher", models["teacher"], "--cache", "--task", "gsm8k", "--rows",
             "gsm8k=asked.jsonl", "--limit", "2", "--k", "1", "--max-new-tokens", "4", "--out", "out"]  # fmt: skip
    keys = {"train_dataset": DRY_ROWS / "numinamath-cot.jsonl", "train_rows": 4, "max_steps": 2, "max_length": 512,
            "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "use_cpu": "true", "use_peft": "true",
            "lora_r": 2, "lora_target_modules": "all-linear", "save_strategy": "no"}  # fmt: skip
    words += [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    with quiet():
        said = command(capsys, "recipes", "run", NAME, *words)
        assert said.code == 0, said.err
        again = command(capsys, "recipes", "run", NAME, *words, "--methods", "target-sft")
        other = command(capsys, "recipes", "run", NAME, *words, "--methods", "sft", "--set", "lora_alpha=4")
    home = Path("out") / NAME
    results = json.loads((home / "results.json").read_text())
    assert [arm["arm"] for arm in results["arms"]] == ["base", "sft", "dft", "kd", "target-sft"]
    assert results["changed"]["use_peft"] is True
    assert (results["changed"]["limit"], results["changed"]["rows"]) == (2, {"gsm8k": "asked.jsonl"})
    assert (home / "teacher-cache" / "manifest.json").is_file()
    for arm in ("kd", "target-sft"):
        trained = yaml.safe_load((home / arm / "config.yaml").read_text())
        assert trained["teacher_cache"] == str(home / "teacher-cache")
        assert (home / arm / "model" / "adapter_model.safetensors").is_file()
    shown = " ".join(said.out.split())
    assert "Changed from the recipe, so the paper's figures do not stand beside it: model" in shown
    assert "paper's figure " not in shown
    assert "GiB of one GPU, by estimate" not in said.out
    assert "target-sft: trained already" in again.out
    assert "`lora_alpha" in other.err.replace("\n", " ")
    assert other.code == 1
