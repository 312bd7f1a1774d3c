"""Bad input through the command: one clear error, no traceback, the right exit code, nothing half-written."""

import os

import pytest
import torch
from job.command import run as command
from job.directories import model_directory
from safetensors.torch import load_file

from qtarget.cli.main import main
from qtarget.outcomes import Refusal

CASES = {
    "no configuration": ("nothing", ["configuration gives no `model`", "write `model: path/or/hub-name`"]),
    "configuration not there": ("confg.yaml", ["confg.yaml is not there", "did you mean config.yaml?"]),
    "stray word": ("config.yaml 3", ["'3' belongs to no key", "write `--key 3`"]),
    "unknown key": ("config.yaml --learning-rat 1", ["unknown key `learning_rat`", "did you mean `learning_rate`?"]),
    "a key far from any": ("config.yaml --xyzzy 1", ["unknown key `xyzzy`", "keys are those of trl.SFTConfig"]),
    "wrong type": ("config.yaml --learning-rate fast", ["`learning_rate: 'fast'`", "number", "`learning_rate: 2e-05`"]),
    "unknown method": ("config.yaml --method target-sfd", ["no method 'target-sfd'", 'did you mean "target-sft"?']),
    "hyperparameter of another": (
        "config.yaml --kl-weight 1",
        ["no hyperparameter `kl_weight`", "sft-kl, asft", "remove"],
    ),
    "unknown hyperparameter": ("config.yaml --method-kwargs {etta:\u00a01}", ['no hyperparameter "etta"', '"eta"']),
    "out of range": ("config.yaml --eta 1.5", ["`eta: 1.5` is out of range", "[0, 1]", "`eta: 0.5`"]),
    "no teacher": ("config.yaml --teacher null", ['"target-sft" needs a teacher', "write `teacher: path/or/hub-name`"]),
    "a teacher nobody reads": ("config.yaml --method dft --eta null", ['"dft" reads no teacher', "remove `teacher`"]),
    "no reference": (
        "config.yaml --method asft --eta null --teacher null --reference null",
        ['"asft" needs a reference', "`reference: initial`"],
    ),
    "another loss": ("config.yaml --loss-type dft", ["`loss_type: dft` is set beside `method`", "Remove that line"]),
    "TRL's loss written down": ("config.yaml --loss-type nll", ["`loss_type: nll` is set beside `method`", "Remove"]),
    "adapter options alone": ("config.yaml --lora-r 8", ["`lora_r`", "write `use_peft: true`"]),
    "model not there": ("config.yaml --model ./qwen3", ["qwen3 is not there", "did you mean qwen2?"]),
    "teacher not there": ("config.yaml --teacher ./teachr", ["`teacher: ./teachr`", "did you mean teacher?"]),
    "reference not there": ("config.yaml --reference ./qwen3", ["`reference: ./qwen3`", "did you mean qwen2?"]),
    "a student that is served": (
        "config.yaml --model http://host:1",
        ["the address of a server, and the model is trained"],
    ),
    "a teacher at no address": ("config.yaml --teacher ftp://host", ["ftp://", "write http://host:port"]),
    "not a model": ("config.yaml --model .", ["directory without config.json"]),
    "rows not there": ("config.yaml --train-dataset row.jsonl", ["row.jsonl is not there", "did you mean rows.jsonl?"]),
    "unknown format": ("config.yaml --train-dataset config.yaml", ["config.yaml must end in .jsonl, .json, .csv"]),
    "evaluation of nothing": (
        "config.yaml --eval-dataset null --eval-strategy steps",
        ["nothing to evaluate on", "write `eval_dataset: path/to/rows.jsonl`"],
    ),
    "another tokenizer": ("config.yaml --teacher llama", ["another tokenizer", "first 0: '!' and '<pad>'"]),
    "nothing to resume": (
        "config.yaml --resume-from-checkpoint",
        ["no checkpoint in out", "leave `resume_from_checkpoint`"],
    ),
    "checkpoint not there": (
        "config.yaml --resume-from-checkpoint out/checkpoint-9",
        ["out/checkpoint-9` is not there"],
    ),
    "an unreachable name": ("config.yaml --model qwen", ["qwen is not there", "did you mean qwen2?"]),
    "a tracker that is not installed": ("config.yaml --report-to dvclive", ["dvclive to be installed"]),
    "an argument that no model takes": (
        "config.yaml --model-init-kwargs {typo:\u00a01,\u00a0use_cache:\u00a0false}",
        ["`model_init_kwargs` holds `typo`", "write `model_init_kwargs: {use_cache: false}`"],
    ),
    "an argument that no teacher takes": (
        "config.yaml --teacher-init-kwargs {dtpe:\u00a0float32}",
        ["`teacher_init_kwargs` holds `dtpe` (did you mean `dtype`?)", "write `teacher_init_kwargs: null`"],
    ),
    "offloading from a device that there is not": (
        "config.yaml --activation-offloading --use-cpu",
        ["`activation_offloading: true` moves", "on the CPU", "write `activation_offloading: false`"],
    ),
    "a batch that shrinks by itself": (
        "config.yaml --auto-find-batch-size",
        ["`auto_find_batch_size: true` changes the batch", "write `per_device_train_batch_size: 1`"],
    ),
    "a rate beyond arithmetic": (
        "config.yaml --learning-rate 3e38",
        ["`learning_rate: 3e+38` is out of range", "at most 1e+38", "`learning_rate: 2e-05`"],
    ),
    "a count beyond arithmetic": (
        "config.yaml --per-device-train-batch-size 10000000000000000000000000",
        ["is out of range", "at most 2,147,483,647"],
    ),
    "no chat mask": ("config.yaml --assistant-only-loss", ["assistant_only_loss"]),
}


@pytest.mark.failure_case(25)
@pytest.mark.parametrize("case", CASES)
def test_refused_before_anything_is_written(here, capsys, case):
    words, expected = CASES[case]
    words = [] if words == "nothing" else [word.replace("\u00a0", " ") for word in words.split(" ")]
    before = sorted(os.listdir(here))
    said = command(capsys, "train", *words)
    assert said.code == 2
    for part in expected:
        assert part in said.err
    assert "Traceback" not in said.err
    assert sorted(os.listdir(here)) == before


def test_a_cache_in_the_place_of_a_teacher_is_refused_with_the_key_to_write(here, capsys):
    (here / "kept").mkdir()
    (here / "kept" / "plan.json").write_text("{}")
    said = command(capsys, "train", "config.yaml", "--teacher", "kept")
    assert said.code == 2
    assert "`teacher: kept` is a teacher cache" in said.err
    assert "write `teacher_cache: kept`" in said.err


ROWS = {
    "broken line": (['{"prompt": "w1 ", "completion": "w2"}', '{"prompt": "w1 "'], ["bad.jsonl, line 2, column 17"]),
    "no row": (["", ""], ["bad.jsonl has no rows"]),
    "no object": (['["w1", "w2"'[:0] + '"w1"'], ["bad.jsonl, line 1: a row is an object", "this is text"]),
    "two types": (
        ['{"prompt": "w1 ", "completion": "w2"}', "", '{"prompt": "w1 ", "completion": 3}'],
        ["bad.jsonl, line 3: `completion` is a number, and on line 1 it is text"],
    ),
    "missing columns": (
        ['{"asked": "w1", "said": "w2"}'],
        ["the columns `asked`, `said`", "write `columns: {prompt: asked, completion: said}`"],
    ),
    "empty completion": (
        ['{"prompt": "w1 ", "completion": "w2"}', '{"prompt": "w1 ", "completion": " "}'],
        ["Row 2 of the train data set", "`completion` is empty", "--bad-rows skip"],
    ),
    "token outside": (
        ['{"input_ids": [5, 6]}', '{"input_ids": [5, 6, 400]}'],
        ["row 2: input_ids holds 400", "0 to 304"],
    ),
    "a mask among the tokens": (['{"input_ids": [5, -100, 6]}'], ["row 1: input_ids holds -100"]),
    "label outside": (
        ['{"input_ids": [5, 6], "labels": [5, -7]}'],
        ["row 1: labels holds -7", "(its tokenizer knows 305)"],
    ),
    "all masked": (
        ['{"input_ids": [5, 6, 7], "labels": [-100, -100, -100]}'],
        ["The train data set has no label (1 rows without one)"],
    ),
}


@pytest.mark.failure_case(12)
@pytest.mark.parametrize("case", ROWS)
def test_rows_that_cannot_be_trained_on(here, capsys, case, written):
    lines, expected = ROWS[case]
    said = command(capsys, "train", "config.yaml", "--train-dataset", written("bad.jsonl", *lines))
    assert said.code == 2
    for part in expected:
        assert part in said.err
    assert "Traceback" not in said.err
    assert not (here / "out").exists()


def test_a_tokenizer_with_tokens_the_model_lacks(here, capsys):
    model_directory(here / "short", "llama", vocab=60)
    said = command(
        capsys, "train", "config.yaml", "--model", "short", "--method", "sft", "--eta", "null", "--teacher", "null"
    )
    assert said.code == 2
    assert "and the model has tokens 0 to 59 (its tokenizer knows 100)" in said.err
    assert not (here / "out").exists()


def test_damaged_weights(here, capsys):
    model_directory(here / "cut", "llama")
    weights = here / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    said = command(
        capsys, "train", "config.yaml", "--model", "cut", "--method", "sft", "--eta", "null", "--teacher", "null"
    )
    assert (said.code, "Traceback" in said.err) == (2, False)
    assert f"weights of {here / 'cut'} are damaged" in said.err
    assert not (here / "out").exists()


def test_a_key_that_is_no_text_is_named_with_its_line(here, capsys):
    (here / "odd.yaml").write_text("model: llama\ntrain_dataset: rows.jsonl\n7: seed\n")
    said = command(capsys, "train", "odd.yaml")
    assert (said.code, "odd.yaml, line 3: unknown key `7`" in said.err) == (2, True)


def test_debug_shows_the_traceback(here):
    with pytest.raises(Refusal, match="eta: 3"):
        main(["train", "config.yaml", "--eta", "3", "--debug"])


def poison(monkeypatch, token: int) -> None:
    """Every model says NaN after one token, though its weights are sound."""
    embed = torch.nn.Embedding.forward

    def poisoned(self, ids):
        return embed(self, ids).masked_fill((ids == token)[..., None], torch.nan)

    monkeypatch.setattr(torch.nn.Embedding, "forward", poisoned)


@pytest.mark.failure_case(3)
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_weights(here, capsys, written, monkeypatch):
    good, bad = {"input_ids": [5, 6, 7, 8]}, {"input_ids": [9, 99, 10, 11]}
    written("some.jsonl", good, good, good, bad)
    poison(monkeypatch, 99)
    words = "--model llama --train-dataset some.jsonl --eval-dataset null --method sft"
    words += " --eta null --teacher null --per-device-train-batch-size 1 --train-sampling-strategy sequential"
    said = command(capsys, "train", "config.yaml", *words.split(), "--save-strategy", "no")
    assert said.code == 1
    assert "The loss of optimizer step 4" in said.err
    assert "w4 w94 w5 w6" in said.err
    assert "The weights after step 3 are in out/last-good-3." in said.err
    kept = load_file(here / "out" / "last-good-3" / "model.safetensors")
    assert all(bool(torch.isfinite(weight).all()) for weight in kept.values())
    assert not (here / "out" / "README.md").exists()
