"""A student taught by itself under another prompt, from one YAML file: live and from a cache, killed and resumed, on
one rank and on two, and what `validate` says of it."""

import json
import os
import shutil
import signal
import sys

import pytest
import torch
from job.command import run as command
from job.directories import write_rows
from job.inspection.test_inspect_command import close, figures
from job.launched import launched
from job.sharding_on_cpus import ShardingOnCPUs
from job.stopped import ended
from safetensors.torch import load_file
from tiny_models import prompt_completion

from qtarget.train.self_teacher import AVERAGE_FILE

SELF = """\
model: qwen2
train_dataset: hinted.jsonl
method: target-sft
eta: 0.3
teacher: self
output_dir: out
max_steps: 6
save_steps: 2
logging_steps: 1
learning_rate: 1e-2
per_device_train_batch_size: 2
gradient_checkpointing: false
disable_tqdm: true
"""


@pytest.fixture
def hinted(here):
    rows = [
        {"prompt": row["prompt"].strip(), "completion": " " + row["completion"], "privileged_context": f"w1 w2 {at}"}
        for at, row in enumerate(prompt_completion(16, seed=1))
    ]
    write_rows(here / "hinted.jsonl", rows)
    (here / "self.yaml").write_text(SELF)
    return here


class KilledAtStep:
    """kill -9 when a step ends."""

    def __init__(self, step: int) -> None:
        self.step = step

    def install(self) -> None:
        from qtarget.train.self_teacher import FollowStudent

        follow, limit = FollowStudent.on_step_end, self.step

        def on_step_end(self, args, state, control, **kwargs):
            follow(self, args, state, control, **kwargs)
            if state.global_step == limit:
                sys.stdout.flush()
                os.kill(os.getpid(), signal.SIGKILL)

        FollowStudent.on_step_end = on_step_end


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_equal(one, two):
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_killed_with_an_average_it_goes_on_to_the_same_weights(hinted):
    words = ("train", "self.yaml", "--ema", "0.9", "--gradient-accumulation-steps", "2")
    whole = ended([*words, "--output-dir", "whole"], folder=hinted)
    assert whole.code == 0, whole.err
    assert ended(words, KilledAtStep(5), folder=hinted).code == -signal.SIGKILL
    resumed = ended([*words, "--resume-from-checkpoint"], folder=hinted)
    assert resumed.code == 0, resumed.err
    assert_equal(weights(hinted / "out"), weights(hinted / "whole"))
    last = [load_file(hinted / name / "checkpoint-6" / AVERAGE_FILE) for name in ("out", "whole")]
    assert_equal(*last)
    assert any((last[0][name] - weights(hinted / "out")[name]).abs().max() > 1e-3 for name in last[0])


def losses(folder):
    history = json.loads((folder / "checkpoint-6" / "trainer_state.json").read_text())["log_history"]
    return [(entry["loss"], entry["grad_norm"]) for entry in history if "grad_norm" in entry]


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_two_ranks_are_one_and_keep_the_same_average(hinted):
    common = ("train", "self.yaml", "--ema", "0.5", "--optim", "sgd")
    one = ended([*common, "--output-dir", "one", "--per-device-train-batch-size", "4"], folder=hinted)
    assert one.code == 0, one.err
    two = launched([*common, "--output-dir", "two", "--ddp-backend", "gloo", "--use-cpu"], folder=hinted)
    assert two.codes == [0, 0], two.err
    for a, b in zip(losses(hinted / "two"), losses(hinted / "one"), strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    averages = [load_file(hinted / name / "checkpoint-6" / AVERAGE_FILE) for name in ("one", "two")]
    for name, average in averages[0].items():
        torch.testing.assert_close(averages[1][name], average, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_under_fsdp_an_average_is_refused_in_words_and_a_copy_is_cut_with_the_student(hinted):
    words = ("train", "self.yaml", "--ddp-backend", "gloo", "--use-cpu", "--fsdp", "full_shard")
    words = (*words, "--fsdp-config", "{version: 2, state_dict_type: FULL_STATE_DICT}", "--max-steps", "2")
    refused = launched([*words, "--ema", "0.9"], ShardingOnCPUs(), folder=hinted)
    assert refused.codes == [2, 2], refused.err
    assert "averages whole weights, and FSDP cuts them over ranks" in " ".join(refused.err.split())
    copied = launched(words, ShardingOnCPUs(), folder=hinted)
    assert copied.codes == [0, 0], copied.err


def test_from_a_cache_it_is_the_live_student_as_it_was_at_first(hinted, capsys):
    kept = ("--teacher-top-k", "1000", "--cache-dtype", "float32")
    assert command(capsys, "train", "self.yaml").code == 0
    said = command(capsys, "teacher", "cache", "self.yaml", "--teacher-cache", "cache", *kept)
    assert said.code == 0, said.err
    said = command(capsys, "train", "self.yaml", "--teacher-cache", "cache", "--output-dir", "cached")
    assert said.code == 0, said.err
    for a, b in zip(losses(hinted / "cached"), losses(hinted / "out"), strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    other = (hinted / "hinted.jsonl").read_text().replace("w1 w2", "w2 w1")
    (hinted / "hinted.jsonl").write_text(other)
    said = command(capsys, "train", "self.yaml", "--teacher-cache", "cache", "--output-dir", "other")
    assert said.code == 2, said.out
    assert "holds nothing about 16 of the 16 documents" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--ema", "0.9", "--teacher-cache", "cache"), "cannot be in a cache; remove `ema`"),
        (("--ema", "0.9", "--teacher", "teacher"), "write `teacher: self` beside it"),
        (("--ema", "1"), "ema"),
        (("--method", "dft", "--eta", "null", "--teacher", "null"), "reads no teacher"),
        (("--reference", "self", "--method", "sft-kl", "--eta", "null"), "write `reference: initial`"),
    ],
)
def test_bad_input_is_refused_in_words(hinted, capsys, words, message):
    said = command(capsys, "validate", "self.yaml", *words)
    assert said.code == 2
    assert message in " ".join(said.err.split())
    assert "Traceback" not in said.err


@pytest.mark.parametrize("words", ["--method kd", "--method jsd --streaming", "--method reverse-kl --streaming"])
def test_a_context_that_is_null_in_every_row_is_refused_before_the_first_step(hinted, capsys, words):
    untold = [{**row, "privileged_context": None} for row in rows_of(hinted / "hinted.jsonl")]
    write_rows(hinted / "hinted.jsonl", untold)
    for verb in ("validate", "train")[: 1 if "--streaming" in words else 2]:
        said = command(capsys, verb, "self.yaml", "--eta", "null", *words.split())
        assert said.code == 2
        shown = " ".join(said.err.split())
        assert "`privileged_context` is null or the prompt itself in every row looked at" in shown
        assert "learns from the teacher alone, so its gradient is zero and nothing would be learned" in shown


def test_a_gradient_of_zero_sends_the_user_to_the_teacher_where_it_is_all_that_is_learned_from(hinted, capsys):
    plain = [{name: row[name] for name in ("prompt", "completion")} for row in rows_of(hinted / "hinted.jsonl")]
    write_rows(hinted / "hinted.jsonl", plain)
    shutil.copytree(hinted / "qwen2", hinted / "copy")  # another folder with the same weights
    said = command(capsys, "validate", "self.yaml", *["--method", "kd", "--eta", "null", "--teacher", "copy"])
    assert said.code == 2
    assert 'norm 0.0, so the model would not learn; look at `teacher` and the prompts it reads ("kd"' in said.err


def test_validate_says_what_the_context_does_and_warns_where_it_holds_the_answer(hinted, capsys):
    said = json.loads(command(capsys, "validate", "self.yaml", "--json").out)
    (context,) = said["contexts"]
    assert 0 < context["with_context"] < 1
    assert context["with_context"] != pytest.approx(context["without"], rel=1e-3)
    assert said["warnings"] == []
    rows = [json.loads(line) for line in (hinted / "hinted.jsonl").read_text().splitlines()]
    leaky = [
        {**row, "privileged_context": f"w1 {row['completion']}" if at % 2 else "w1"} for at, row in enumerate(rows)
    ]
    write_rows(hinted / "hinted.jsonl", leaky)
    shown = command(capsys, "validate", "self.yaml")
    assert "contains the completion itself in 8 of the 16 rows looked at" in " ".join(shown.out.split())
    assert "teacher: mean p_y" in shown.out


def test_inspection_asks_the_teacher_its_own_prompt(hinted, capsys):
    (hinted / "config.yaml").unlink()
    (hinted / "config.yaml").write_text(SELF)
    live = figures(capsys)
    kept = ("--teacher-top-k", "1000", "--cache-dtype", "float32")
    said = command(capsys, "teacher", "cache", "config.yaml", "--teacher-cache", "cache", *kept)
    assert said.code == 0, said.err
    close(figures(capsys, "--teacher-cache", "cache"), live, 1e-3)
    plain = figures(capsys, "--columns", "{privileged_context: null}")
    assert plain["teachers"][0]["nll"] != pytest.approx(live["teachers"][0]["nll"], abs=1e-3)
