"""Recipes from beginning to end with tiny models, offline: trained, evaluated, tabled, gone on with."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from job.command import run as command
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

from qtarget.evaluate.run.conduct import run_evaluation
from qtarget.job.config.read_job import job_of
from qtarget.job.training import prepare_training
from qtarget.recipes.dry import DRY_ROWS, TRAINING, dry_models, dry_values
from qtarget.recipes.launch import arm_values
from qtarget.recipes.parity import check_parity
from qtarget.recipes.recipe_files import recipe
from qtarget.recipes.resolve import without_sources
from qtarget.recipes.run_recipe import RunOptions, evaluation_plan, run_recipe
from qtarget.study.quiet import quiet

ARMS = ["base", "sft", "dft", "kd", "target-sft"]
WHOLE = "openr1-15k-qwen3-1.7b"
OTHERS = {
    "numinamath-cot-qwen3-1.7b": "qwen3",
    "numinamath-cot-qwen2.5-math-1.5b": "qwen2",
    "openr1-15k-qwen2.5-math-7b": "qwen2",
    "m23k-llama-3.1-8b": "llama",
    "m23k-qwen2.5-1.5b": "qwen2",
}
"""One of each other pair of data set and architecture."""


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    datasets.config.HF_DATASETS_CACHE = folder / ".cache"
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with quiet():
        yield


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def run(capsys, out: Path, *words: str):
    return command(capsys, "recipes", "run", *words, "--dry-run", "--out", str(out))


@pytest.fixture(scope="module")
def whole(out) -> Path:
    """The folder of a recipe of which every arm was run."""
    with quiet():
        run_recipe(recipe(WHOLE), RunOptions(out, dry=True), lambda line: None)
    return out / WHOLE


def test_every_arm_is_trained_and_evaluated(whole, out):
    results = json.loads((whole / "results.json").read_text())
    assert [score["arm"] for score in results["arms"]] == ARMS
    assert set(results["arms"][0]["tasks"]) == {"math-500", "minerva-272", "olympiadbench", "aime24", "amc23"}
    base = weights(out / "tiny" / "qwen3-student")
    heads = [weights(whole / arm / "model")["model.embed_tokens.weight"] for arm in ARMS[1:]]
    assert all(not torch.equal(head, base["model.embed_tokens.weight"]) for head in heads)
    assert all(not torch.equal(one, other) for i, one in enumerate(heads) for other in heads[:i])


def test_what_is_finished_is_read_and_stands_beside_the_papers_figures(whole, out, capsys):
    model, samples = (whole / "sft" / name for name in ("model/model.safetensors", "evaluation"))
    before = {path: path.stat().st_mtime_ns for path in (model, *samples.rglob("*.jsonl"))}
    assert len(before) > 1
    said = run(capsys, out, WHOLE, "--methods", "base,sft")
    assert (said.code, "sft: trained already" in said.out) == (0, True)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    results = json.loads((whole / "results.json").read_text())
    assert [score["arm"] for score in results["arms"]] == ARMS  # those of the first run too
    assert results["paper"]["target-sft"]["value"] == 31.4
    for text in ("target-sft", "31.4", "read off its figure: ±0.3", "The figures here mean nothing"):
        assert text in said.out


def test_a_folder_of_another_run_is_refused(whole, out, capsys, monkeypatch):
    monkeypatch.setitem(TRAINING, "max_steps", 3)
    said = run(capsys, out, WHOLE, "--methods", "sft")
    assert said.code == 1
    assert "`max_steps: 2`, and this one has `max_steps: 3`; write another `--out`" in said.err


@pytest.mark.parametrize(("name", "family"), OTHERS.items())
def test_each_data_set_on_each_architecture(name, family, out, capsys):
    said = run(capsys, out, name, "--methods", "base,target-sft")
    assert said.code == 0, said.err
    for folder in (out / name / "target-sft" / "model", out / "tiny" / f"{family}-teacher"):
        assert AutoConfig.from_pretrained(folder).model_type == family


def test_evaluation_asks_with_the_ids_of_training(out, tmp_path):
    """The same questions as training rows and as a task's rows: the stored prompts are the rows' beginnings."""
    one, options = recipe("numinamath-cot-qwen2.5-math-1.5b"), RunOptions(out, dry=True)
    rows = [json.loads(line) for line in (DRY_ROWS / one.data.rows).read_text().splitlines()][:4]
    file = tmp_path / "math-500.jsonl"
    asked = [{**row, "answer": "1", "unique_id": str(i), "subject": "", "level": 1} for i, row in enumerate(rows)]
    file.write_text("".join(json.dumps(row) + "\n" for row in asked))
    plan = evaluation_plan(one, "base", dry_models(one, out)["model"], tmp_path, options)
    plan = replace(plan, tasks=("math-500",), rows={"math-500": file}, limit=None, lock=tmp_path / "lock.json")
    run_evaluation(plan)
    trainer = prepare_training(job_of(dry_values(one, without_sources(arm_values(one, "sft", tmp_path)), out)))
    assert check_parity(trainer, "qwen-boxed") == 4
    trained = {_sha(_prompt(row)) for row in trainer.train_dataset}
    stored = [json.loads(line) for path in tmp_path.rglob("samples.jsonl") for line in path.read_text().splitlines()]
    assert {record["prompt_ids_sha256"] for record in stored} == trained
    assert len(trained) == 4


def _prompt(row: dict) -> list[int]:
    return [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label == -100]


def _sha(ids: list[int]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


@pytest.mark.parametrize("name", ["m23k-llama-3.2-3b", "m23k-qwen2.5-7b"])
def test_one_beginning_and_a_learned_end(name, out, tmp_path):
    one = recipe(name)
    trainer = prepare_training(job_of(dry_values(one, without_sources(arm_values(one, "sft", tmp_path)), out)))
    tokenizer = AutoTokenizer.from_pretrained(dry_models(one, out)["model"])
    for row in trainer.train_dataset:
        assert row["input_ids"].count(tokenizer.bos_token_id) == ("llama" in name)
        assert row["labels"][-1] == tokenizer.eos_token_id


def test_a_prompt_that_evaluation_does_not_use_is_refused(out, tmp_path):
    one = recipe("m23k-llama-3.2-3b")
    job = job_of({**dry_values(one, without_sources(arm_values(one, "sft", tmp_path)), out), "prompt_format": "plain"})
    with pytest.raises(ValueError, match="not what was trained on"):
        check_parity(prepare_training(job), "llama-boxed")


def test_a_template_that_forgets_the_beginning_is_refused(out, tmp_path):
    one = recipe("m23k-llama-3.2-3b")
    values = dry_values(one, without_sources(arm_values(one, "sft", tmp_path)), out)
    shutil.copytree(values["model"], tmp_path / "student")
    (tmp_path / "student" / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    job = job_of({**values, "model": str(tmp_path / "student"), "prompt_format": "chat"})
    with pytest.raises(ValueError, match=r"0 beginning-of-sequence tokens where the tokenizer of .* puts 1"):
        check_parity(prepare_training(job), "chat")


def test_an_end_at_which_generation_does_not_stop_is_refused(out, tmp_path):
    one = recipe("m23k-qwen2.5-1.5b")
    values = dry_values(one, without_sources(arm_values(one, "sft", tmp_path)), out)
    trainer = prepare_training(job_of({**values, "eos_token": "<|im_end|>"}))
    trainer.model.generation_config.eos_token_id = trainer.text_tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert check_parity(trainer, "qwen-boxed") > 0  # generation stops at the tokenizer's own end too
    trainer.text_tokenizer.eos_token = "<|endoftext|>"
    with pytest.raises(ValueError, match=r"rows end with '<\|im_end\|>'"):
        check_parity(trainer, "qwen-boxed")


def test_rows_over_the_limit_are_left_out(out, tmp_path):
    one = recipe(WHOLE)
    values = dry_values(one, without_sources(arm_values(one, "sft", tmp_path)), out) | {
        "train_rows": 7,
        "train_rows_seed": 0,
    }
    assert len(prepare_training(job_of(values)).train_dataset) == 7
    with pytest.raises(ValueError, match="write `train_rows: 7` or fewer"):  # the eighth is a trace of over 512 tokens
        prepare_training(job_of(values | {"train_rows": 8}))
