"""`qtarget train` on a user's own model and rows, through the real trainer."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import yaml
from job.command import run as command
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from qtarget.disk.seal import read_seal, seal
from qtarget.job.config.checked_job import DataSource
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import read_job
from qtarget.job.facts import rows_fingerprint
from qtarget.job.rows.sources import load_rows


def generated(folder: Path) -> str:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = [{"role": "user", "content": "w1 w2"}]
    inputs = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    return tokenizer.decode(model.generate(**inputs, max_new_tokens=4, min_new_tokens=4)[0])


def test_the_result_loads_and_generates_with_its_tokenizer(finished, home):
    assert generated(finished).startswith("<user>w1 w2<assistant>")
    after, before = load_file(finished / "model.safetensors"), load_file(home / "qwen2" / "model.safetensors")
    assert not torch.equal(after["model.norm.weight"], before["model.norm.weight"])


def test_the_card_states_the_run(finished, home):
    card = (finished / "README.md").read_text()
    front, _, body = card.removeprefix("---\n").partition("---\n")
    assert yaml.safe_load(front)["library_name"] == "transformers"
    assert "target-sft" in yaml.safe_load(front)["tags"]
    rows = load_rows(DataSource((str(home / "rows.jsonl"),), None, "train"), "train_dataset").rows
    for stated in (
        "**target-sft** for 4 optimizer steps",
        "γ = p_y, π̃ ∝ p^(1−η)·t^η",
        "| trust γ | p_y |",
        "eta = 0.3",
        "| teacher | `teacher` |",
        "arXiv 2606.11189",
        f"`{rows_fingerprint(rows)}`",
        "| training rows | 16 rows; ",
        "| training data | `rows.jsonl`, columns ",
        f"torch {version('torch')}",
    ):
        assert stated in body
    metrics = json.loads((finished / "metrics.json").read_text())
    assert f"| eval nll | {metrics['eval']['nll']:.6g} |" in body


def test_the_metrics_are_those_of_the_run(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    log = json.loads((finished / "trainer_state.json").read_text())["log_history"]
    assert metrics["steps"] == 4
    assert metrics["train"]["nll"] == [entry["nll"] for entry in log if "nll" in entry][-1]
    assert metrics["eval"]["nll"] == log[-1]["eval_nll"]


def test_its_configuration_repeats_the_run(finished, here):
    shutil.copy(finished / "train.yaml", here / "again.yaml")
    first, again = (read_job(RunArguments(Path(name), {})) for name in ("config.yaml", "again.yaml"))
    assert (again.args.to_dict(), again.train, again.model) == (first.args.to_dict(), first.train, first.model)


def test_secrets_stay_out_of_the_result(here, capsys):
    words = "--model llama --method sft --eta null --teacher null --eval-dataset null --max-steps 1 --save-strategy no"
    assert command(capsys, "train", "config.yaml", *words.split(), "--hub-token", "hf_secret").code == 0
    assert (here / "out" / "train.yaml").exists()
    texts = [path for path in (here / "out").iterdir() if path.suffix in (".md", ".yaml", ".json")]
    assert not [path.name for path in texts if "hf_secret" in path.read_text()]


def test_resuming_ends_where_the_whole_run_ends(finished, here, capsys):
    shutil.copytree(finished / "checkpoint-2", here / "out" / "checkpoint-2")
    state = here / "out" / "checkpoint-2" / "trainer_state.json"
    kept = json.loads(state.read_text())
    kept["log_history"][0]["mark"] = 77  # shows that this very checkpoint is read
    state.write_text(json.dumps(kept))
    seal(state.parent, read_seal(state.parent).facts)
    assert command(capsys, "train", "config.yaml", "--resume-from-checkpoint").code == 0
    resumed, whole = load_file(here / "out" / "model.safetensors"), load_file(finished / "model.safetensors")
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())
    assert '"mark": 77' in (here / "out" / "trainer_state.json").read_text()


def test_an_earlier_run_is_not_written_over(finished, here, capsys):
    shutil.copytree(finished, here / "out")
    before = (here / "out" / "metrics.json").stat().st_mtime_ns
    said = command(capsys, "train", "config.yaml")
    assert said.code == 2
    assert "`resume_from_checkpoint: out/checkpoint-4`" in said.err
    assert (here / "out" / "metrics.json").stat().st_mtime_ns == before


def test_an_adapter_on_a_llama_trained_on_conversations(here, capsys):
    words = "--model llama --train-dataset chat.jsonl --eval-dataset null --assistant-only-loss --method asft"
    words += " --eta null --teacher null --use-peft --lora-target-modules q_proj v_proj --lora-r 4"
    assert command(capsys, "train", "config.yaml", *words.split()).code == 0
    assert generated(here / "out").startswith("<user> w1 w2 <assistant>")
    assert not (here / "out" / "model.safetensors").exists()
    card = (here / "out" / "README.md").read_text()
    assert "library_name: peft" in card
    assert "| reference | `initial` |" in card


def test_flags_and_trls_own_names(here, capsys):
    (here / "trl.yaml").write_text(
        "model_name_or_path: llama\ndataset_name: rows.jsonl\nlearning_rate: 1.0e-2\npacking: true\nmax_length: 64\n"
        "max_steps: 1\nreport_to: none\neval_strategy: no\nmethod: sft\noutput_dir: other\n"
    )
    said = command(capsys, "train", "trl.yaml", "--max_steps=2", "--output-dir", "out", "--save-strategy", "no")
    assert said.code == 0
    assert json.loads((here / "out" / "metrics.json").read_text())["steps"] == 2
    assert not (here / "other").exists()
    assert "objective" in said.out
    assert "model and card are in out" in said.out


def test_a_stream_trains_as_the_same_rows_in_memory_and_its_card_says_what_it_was(here, capsys):
    words = "--method sft --eta null --teacher null --eval-dataset null --save-strategy no --max-steps 3"
    words += " --train-sampling-strategy sequential"
    for name, streaming in (("stream", "true"), ("whole", "false")):
        said = command(capsys, "train", "config.yaml", *words.split(), "--output-dir", name, "--streaming", streaming)
        assert said.code == 0, said.err
    logs = [json.loads((here / name / "trainer_state.json").read_text())["log_history"] for name in ("stream", "whole")]
    losses = [[entry["loss"] for entry in log if "loss" in entry] for log in logs]
    assert losses[0] == pytest.approx(losses[1])
    card = (here / "stream" / "README.md").read_text()
    assert "| training rows | a stream |" in card
    assert "| training data | `rows.jsonl`, columns `prompt`, `completion` |" in card
    assert "none: a stream is not read ahead" in card


def test_a_bad_row_of_a_stream_stops_the_run_with_its_place(here, capsys, written):
    good = {"prompt": "w1 ", "completion": "w2"}
    written("late.jsonl", *[good] * 1001, '{"prompt": "w1 \x1b[31m"')
    words = "--streaming --train-dataset late.jsonl --method sft --eta null --teacher null --eval-dataset null"
    words += " --per-device-train-batch-size 1000 --save-strategy no --learning-rate 1e-9"
    said = command(capsys, "train", "config.yaml", *words.split())
    assert said.code == 2
    assert "late.jsonl, line 1002, column 16: this is not JSON" in said.err
    assert "\x1b[31m" not in said.err
