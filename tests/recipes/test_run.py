"""A recipe run for real, as on a machine with its models: local checkpoints, rows and a task of the lab."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import yaml

from qtarget.disk.seal import read_seal, seal
from qtarget.recipes.dry import DRY_ROWS, dry_models
from qtarget.recipes.recipe_files import Recipe, recipe
from qtarget.recipes.run_recipe import RunOptions, run_recipe
from qtarget.recipes.schema import SourcedValue, Values
from qtarget.study.quiet import quiet


def here(**values: object) -> Values:
    return {key: SourcedValue(value=value, source="ours", where="the test's own") for key, value in values.items()}


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> tuple[Recipe, Path]:
    """A recipe whose checkpoints, rows and questions are on this machine."""
    home = tmp_path_factory.mktemp("real")
    datasets.config.HF_DATASETS_CACHE = home / ".cache"
    one = recipe("numinamath-cot-qwen2.5-math-1.5b")
    models = dry_models(one, home)
    small = here(train_dataset=str(DRY_ROWS / one.data.rows), train_rows=8, per_device_train_batch_size=4, use_cpu=True)
    asked = {"tasks": ["lab-strong-prior"], "k": 2, "max_new_tokens": 3, "dtype": "float32"}
    return replace(
        one,
        data=one.data.model_copy(update={"job": {**one.data.job, **small}}),
        model=one.model.model_copy(update={"job": {**one.model.job, **here(**models)}}),
        evaluation=one.evaluation.model_copy(update=here(**asked)),
    ), home


def run(local: tuple[Recipe, Path], *arms: str) -> list[str]:
    said: list[str] = []
    one, home = local
    with pytest.MonkeyPatch.context() as patch, quiet():
        patch.chdir(home)
        run_recipe(one, RunOptions(Path("out"), arms), said.append)
    return said


def test_trained_evaluated_and_written_down(local):
    said = run(local, "base", "target-sft")
    folder = local[1] / "out" / local[0].name
    config = yaml.safe_load((folder / "target-sft" / "config.yaml").read_text())
    assert (config["gradient_accumulation_steps"], config["eta"]) == (64, 0.5)
    assert json.loads((folder / "target-sft" / "model" / "metrics.json").read_text())["steps"] == 1
    results = json.loads((folder / "results.json").read_text())
    assert [(arm["arm"], list(arm["tasks"])) for arm in results["arms"]] == [
        ("base", ["lab-strong-prior"]),
        ("target-sft", ["lab-strong-prior"]),
    ]
    assert results["dry_run"] is False
    assert [line.partition(":")[0] for line in said] == ["base", "target-sft", "target-sft"]
    assert "GiB of one GPU, by estimate" in said[1]


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(local):
    run(local, "target-sft")
    model = local[1] / "out" / local[0].name / "target-sft" / "model"
    newest = next(model.glob("checkpoint-*"))
    state = json.loads((newest / "trainer_state.json").read_text())
    state["log_history"].append({"mark": 77, "step": 1})
    (newest / "trainer_state.json").write_text(json.dumps(state))
    seal(newest, read_seal(newest).facts)
    for name in ("train.yaml", "metrics.json", "trainer_state.json", "model.safetensors"):
        (model / name).unlink()
    assert not any("trained already" in line for line in run(local, "target-sft"))
    assert '"mark": 77' in (model / "trainer_state.json").read_text()


@pytest.mark.failure_case(21)
def test_an_arm_that_was_stopped_before_its_first_checkpoint_begins_anew(local):
    model = local[1] / "out" / local[0].name / "sft" / "model"
    (model / "checkpoint-1").mkdir(parents=True)
    for name in ("config.json", "train.log", "checkpoint-1/config.json"):
        (model / name).write_text("{}")
    run(local, "sft")
    assert read_seal(model).files
    assert any("trained already" in line for line in run(local, "sft"))


def test_an_arm_whose_checkpoints_are_all_damaged_is_refused_with_what_to_do(local):
    model = local[1] / "out" / local[0].name / "dft" / "model"
    (model / "checkpoint-1").mkdir(parents=True)
    (model / "checkpoint-1" / "trainer_state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"cannot go on: .*checkpoint-1 \(.*Delete it to train this arm again"):
        run(local, "dft")
    assert (model / "checkpoint-1" / "trainer_state.json").is_file()


@pytest.mark.failure_case(21)
def test_models_of_a_dry_run_that_were_half_written_are_written_again(tmp_path):
    one = recipe("numinamath-cot-qwen2.5-math-1.5b")
    folders = [Path(each) for each in dry_models(one, tmp_path).values()]
    for folder in folders:
        (folder / "model.safetensors").unlink()
    dry_models(one, tmp_path)
    assert all((folder / "model.safetensors").is_file() for folder in folders)


def test_a_model_of_another_run_beside_this_ones_configuration_is_refused(local):
    run(local, "target-sft")
    model = local[1] / "out" / local[0].name / "target-sft" / "model"
    whole, path = (model / "manifest.json").read_bytes(), model / "train.yaml"
    ours = path.read_bytes()
    path.write_bytes(ours.replace(b"eta:", b"ete:"))
    facts = read_seal(model)
    seal(model, facts.facts, facts.left_out)  # the model, as its own run of another configuration left it
    path.write_bytes(ours)
    try:
        with pytest.raises(ValueError, match=r"train.yaml is not what the model beside it was sealed with"):
            run(local, "target-sft")
    finally:
        (model / "manifest.json").write_bytes(whole)
    run(local, "target-sft")


def test_a_damaged_table_of_results_is_refused_before_any_work(local):
    path = local[1] / "out" / local[0].name / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_bytes() if path.is_file() else None
    path.write_text('{"recipe": "x", "arms": [1, ')
    try:
        with pytest.raises(ValueError, match=r"results\.json is damaged \(.*\); delete it"):
            run(local, "base")
    finally:
        path.unlink() if before is None else path.write_bytes(before)


def test_another_teacher_is_another_run(local):
    one, home = local
    run(local, "kd")
    shutil.copytree(dry_models(one, home)["teacher"], home / "other")
    other = one.model.model_copy(update={"job": {**one.model.job, **here(teacher=str(home / "other"))}})
    with pytest.raises(ValueError, match=r"holds a run with `teacher: .*write another `--out`"):
        run((replace(one, model=other), home), "kd")
