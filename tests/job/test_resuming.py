"""Which folders are whole checkpoints, and what `train` and `validate` say of the others."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from job.command import Said
from job.command import run as command
from job.directories import model_directory
from job.stopped import Signalling, ended
from safetensors.torch import load_file

from qtarget.disk.one_writer import one_writer
from qtarget.disk.seal import SEAL, damage, read_seal
from qtarget.train.resumption.branches import Branch, latest, step_left_behind
from qtarget.train.resumption.run_history import RunPart, changes_without_steps, history_sentences
from qtarget.train.resumption.whole_checkpoints import checkpoint_fault, checkpoints_in


@pytest.fixture
def whole(finished, tmp_path) -> Path:
    return shutil.copytree(finished / "checkpoint-4", tmp_path / "copy" / "checkpoint-4")


@pytest.fixture
def unsealed(whole) -> Path:
    (whole / SEAL).unlink()
    return whole


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_a_checkpoint_without_a_manifest_is_taken_only_when_that_is_asked_for(whole):
    assert checkpoint_fault(whole) is None
    (whole / SEAL).unlink()
    assert "it has no manifest.json" in str(checkpoint_fault(whole))
    assert checkpoint_fault(whole, accepts_unsealed=True) is None


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_one_without_a_part_is_not_whole_then_either(unsealed, name):
    (unsealed / name).unlink()
    assert checkpoint_fault(unsealed, accepts_unsealed=True) == f"it has no {name}"


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"])
def test_nor_is_one_with_a_part_cut_off(unsealed, name):
    cut(unsealed / name)
    assert checkpoint_fault(unsealed, accepts_unsealed=True) == f"{name} is damaged"


def test_nor_one_without_weights_or_of_another_step(unsealed):
    (unsealed.parent / "checkpoint-9").mkdir()
    assert checkpoint_fault(unsealed.parent / "checkpoint-9") == "it is empty"
    renamed = unsealed.rename(unsealed.parent / "checkpoint-7")
    assert checkpoint_fault(renamed, accepts_unsealed=True) == "trainer_state.json is of step 4"
    (renamed / "model.safetensors").unlink()
    state = json.loads((renamed / "trainer_state.json").read_text())
    (renamed / "trainer_state.json").write_text(json.dumps({**state, "global_step": 7}))
    assert checkpoint_fault(renamed, accepts_unsealed=True) == "it has no weights"
    assert checkpoints_in(unsealed.parent).newest is None


def test_weights_in_several_files_are_all_needed(unsealed):
    (unsealed / "model.safetensors").rename(unsealed / "model-1.safetensors")
    weights = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (unsealed / "model.safetensors.index.json").write_text(json.dumps(weights))
    assert checkpoint_fault(unsealed, accepts_unsealed=True) == "it has no model-2.safetensors"
    shutil.copy(unsealed / "model-1.safetensors", unsealed / "model-2.safetensors")
    assert checkpoint_fault(unsealed, accepts_unsealed=True) is None


@pytest.mark.failure_case(2)
def test_resuming_takes_the_newest_whole_one_and_says_what_it_skips(finished, here, capsys):
    shutil.copytree(finished / "checkpoint-2", here / "out" / "checkpoint-2")
    flip(shutil.copytree(finished / "checkpoint-4", here / "out" / "checkpoint-4") / "optimizer.pt")
    (here / "out" / "checkpoint-99").mkdir()
    skipped = (
        "out/checkpoint-99 (it is empty), out/checkpoint-4 (optimizer.pt has other content than when it was sealed)"
    )
    said = command(capsys, "validate", "config.yaml", "--resume-from-checkpoint")
    assert f"skipped {skipped}" in " ".join(said.out.split()), said.out
    said = command(capsys, "train", "config.yaml", "--resume-from-checkpoint")
    assert said.code == 0, said.err
    assert "resumes   out/checkpoint-2" in said.out
    assert f"skipped   {skipped}" in said.out
    assert "training  4 optimizer steps, of which 2 are done" in said.out
    assert "resume_from_checkpoint" not in (here / "out" / "train.yaml").read_text()


def flip(path: Path) -> None:
    """One bit in the middle, which no reader of the file would see."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def resumed(finished, here, capfd):
    """Runs `train` from the finished run's checkpoint at step 2, with other words."""
    shutil.copytree(finished / "checkpoint-2", here / "out" / "checkpoint-2")

    def run(*words: str) -> Said:
        return command(capfd, "train", "config.yaml", "--resume-from-checkpoint", *words)

    return run


OTHER_RUNS = [
    (["--seed", "7"], "seed: 42 then, 7 now; write `seed: 42` (or --seed 42)"),
    (["--learning-rate", "1e-3"], "learning_rate: 0.01 then, 0.001 now; write `learning_rate: 0.01`"),
    (["--max-steps", "6"], "max_steps: 4 then, 6 now; write `max_steps: 4` (or --max-steps 4)"),
    (["--eta", "0.7"], "hyperparameters.eta: 0.3 then, 0.7 now; write `eta: 0.3` (or --eta 0.3)"),
    (["--method", "kd", "--eta", "null"], "method: target-sft then, kd now; write `method: target-sft`"),
    (["--teacher", "other"], "teachers.0: a model, "),
    (["--model", "other"], "weights: "),
    (["--train-dataset", "fewer.jsonl"], "rows: 16 rows, sha256 "),
    (["--gradient-accumulation-steps", "2"], "gradient_accumulation_steps: 1 then, 2 now"),
    (["--per-device-train-batch-size", "4"], "per_device_train_batch_size: 2 then, 4 now"),
    (["--max-length", "9"], "max_length: "),
    (["--optim", "adafactor"], "optim"),
    (["--dtype", "bfloat16"], "dtypes: ['torch.float32'] then, ['torch.bfloat16'] now"),
    (["--lr-scheduler-type", "constant"], "lr_scheduler_type: linear then, constant now"),
]


@pytest.mark.failure_case(24)
@pytest.mark.parametrize(("words", "difference"), OTHER_RUNS, ids=[words[0] for words, _ in OTHER_RUNS])
def test_a_run_under_another_configuration_is_refused_with_the_difference(here, home, resumed, words, difference):
    model_directory(here / "other", "qwen2", seed=9)
    rows = (home / "rows.jsonl").read_text().splitlines(keepends=True)
    (here / "fewer.jsonl").write_text("".join(rows[:-1]))
    said = resumed(*words)
    assert said.code == 2, said.out
    assert difference in said.err
    assert not (here / "out" / "model.safetensors").exists()


OTHER_FILES = [
    ("tokenizer.json", lambda file: file["model"]["merges"].reverse(), "tokenizer_config.rules: "),
    (
        "tokenizer_config.json",
        lambda file: file.update(padding_side="left"),
        "tokenizer_config.padding_side: right then, left now",
    ),
    (
        "tokenizer_config.json",
        lambda file: file.update(model_max_length=700),
        "tokenizer_config.model_max_length: ",
    ),
    (
        "generation_config.json",
        lambda file: file.update(temperature=0.1),
        "generation_config.temperature: None then, 0.1 now",
    ),
]


@pytest.mark.failure_case(24)
@pytest.mark.parametrize(("file", "change", "difference"), OTHER_FILES)
def test_files_of_the_model_that_change_rows_or_the_result_are_compared(here, home, resumed, file, change, difference):
    """Rows are tokenized as before, or hidden from the comparison by a stream: the result carries what changed."""
    (here / "qwen2").unlink()
    shutil.copytree(home / "qwen2", here / "qwen2")
    content = json.loads((here / "qwen2" / file).read_text())
    change(content)
    (here / "qwen2" / file).write_text(json.dumps(content))
    said = resumed("--streaming", "true", "--resume-changed", "[rows, evaluation_rows]")
    assert said.code == 2, said.out
    assert difference in said.err
    assert not (here / "out" / "model.safetensors").exists()


def test_what_changes_no_result_may_change(finished, here, resumed):
    words = "--save-steps 1 --logging-steps 2 --save-total-limit 3 --report-to none --run-name other"
    assert resumed(*words.split(), "--teacher", str(here / "teacher")).code == 0
    ours, whole = load_file(here / "out" / "model.safetensors"), load_file(finished / "model.safetensors")
    assert all(torch.equal(ours[name], weight) for name, weight in whole.items())
    assert "## History" not in (here / "out" / "README.md").read_text()


@pytest.mark.failure_case(24)
def test_a_meant_change_is_told_by_card_and_manifest(here, resumed):
    said = resumed("--max-steps", "6", "--eta", "0.7", "--resume-changed", "max_steps", "hyperparameters")
    assert said.code == 0, said.err
    told = "Steps 3 to 6 were run with hyperparameters.eta 0.7 (before: 0.3), max_steps 6 (before: 4)."
    assert told in (here / "out" / "README.md").read_text()
    for folder in ("out", "out/checkpoint-6"):
        facts = read_seal(here / folder).facts
        assert [(each["after"], each["identity"]["max_steps"]) for each in facts["history"]] == [(0, 4), (2, 6)]
    assert "resume_changed" not in (here / "out" / "train.yaml").read_text()
    assert "| train runtime_since_resume |" in (here / "out" / "README.md").read_text()
    assert "| train runtime |" not in (here / "out" / "README.md").read_text()


def test_a_change_without_effect_cannot_be_allowed(resumed):
    said = resumed("--learning-rate", "1e-3", "--resume-changed", "learning_rate")
    assert said.code == 2
    assert "`resume_changed` names learning_rate, which the states in a checkpoint decide" in said.err
    assert "`model: out/checkpoint-2` (or --model out/checkpoint-2)" in said.err


@pytest.mark.failure_case(24)
def test_a_checkpoint_of_plain_transformers_is_taken_with_a_flag_that_says_what_is_not_checked(here, resumed):
    (here / "out" / "checkpoint-2" / SEAL).unlink()
    said = resumed()
    assert said.code == 2
    assert (
        "it has no manifest.json, which says that it is whole; `resume_unsealed: true` takes it unchecked" in said.err
    )
    said = resumed("--resume-unsealed", "true")
    assert said.code == 0, said.err
    assert "cannot be checked" in said.err


def test_the_result_is_sealed(finished):
    facts = read_seal(finished).facts
    assert (facts["kind"], facts["step"], facts["ranks"]) == ("result", 4, 1)
    assert damage(finished, read_seal(finished)) == []
    assert {"model.safetensors", "README.md", "train.yaml"} <= set(read_seal(finished).files)
    flip(shutil.copytree(finished, finished.parent / "copy") / "model.safetensors")
    assert damage(finished.parent / "copy", read_seal(finished)) == [
        "model.safetensors has other content than when it was sealed"
    ]


@pytest.mark.failure_case(22)
def test_one_process_at_a_time_trains_into_a_folder(here, capsys):
    (here / "out").mkdir()
    with one_writer(here / "out"):
        said = command(capsys, "train", "config.yaml")
    assert said.code == 2
    assert "out is being written by process" in said.err


@pytest.mark.failure_case(2)
@pytest.mark.parametrize("subcommand", ["train", "validate"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--resume-from-checkpoint",
            "there is no checkpoint in out to resume from: not whole: out/checkpoint-99 (it is empty); leave "
            "`resume_from_checkpoint` out, and write `output_dir: out-2` (or --output-dir out-2).",
        ),
        (
            "--resume-from-checkpoint out/checkpoint-99",
            "`resume_from_checkpoint: out/checkpoint-99` is not whole (it is empty), so training cannot go on from it; "
            "out has no whole checkpoint, so leave the key out.",
        ),
        (
            "",
            "`output_dir: out` holds an earlier run, which left no whole checkpoint to go on from: not whole: "
            "out/checkpoint-99 (it is empty); write `output_dir: out-2` (or --output-dir out-2).",
        ),
    ],
)
def test_where_no_checkpoint_is_whole(here, capsys, subcommand, words, message):
    (here / "out" / "checkpoint-99").mkdir(parents=True)
    said = command(capsys, subcommand, "config.yaml", *words.split())
    assert (said.code, said.err) == (2, message + "\n")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("rows.jsonl", "`output_dir: rows.jsonl` is a file; write `output_dir: rows.jsonl-2`.\n"),
        (
            "rows.jsonl/out",
            "`output_dir: rows.jsonl/out` cannot be made, as {here}/rows.jsonl is a file; write `output_dir: out`.\n",
        ),
        ("/proc/out", "`output_dir: /proc/out` cannot be written to (/proc: "),
    ],
)
def test_an_output_folder_that_cannot_be_written_is_said_before_the_work(here, capsys, output, message):
    said = command(capsys, "train", "config.yaml", "--output-dir", output, "--model", "qwen2")
    assert said.code == 2
    assert said.err.startswith(message.format(here=here)), said.err
    assert said.out == ""


def test_a_sample_of_the_rows_is_not_taken_for_other_rows(finished, here, capsys, monkeypatch):
    monkeypatch.setattr("qtarget.job.validate.FIRST_ROWS", 4)
    shutil.copytree(finished / "checkpoint-2", here / "out" / "checkpoint-2")
    said = command(capsys, "validate", "config.yaml", "--quick", "--resume-from-checkpoint")
    assert said.code == 0, said.err
    assert "resumes" in said.out


@pytest.mark.failure_case(24)
def test_what_an_unsealed_checkpoint_was_run_as_is_not_stated(here, resumed):
    (here / "out" / "checkpoint-2" / SEAL).unlink()
    said = resumed(
        "--resume-unsealed", "true", "--method", "dft", "--teacher", "null", "--eta", "null", "--learning-rate", "1e-3"
    )
    assert said.code == 0, said.err
    card = " ".join((here / "out" / "README.md").read_text().split())
    assert "fine-tuned by **dft** for 4" not in card
    assert "Steps 1 to 2 are of a checkpoint without a manifest: what they were run as is not known." in card
    assert "learning rate" in card[card.index("## History") : card.index("## Data")]
    assert "repeats the run" not in card


@pytest.mark.failure_case(24)
def test_the_configuration_of_a_run_resumed_with_changes_is_not_said_to_repeat_it(here, resumed):
    assert resumed("--max-steps", "6", "--eta", "0.7", "--resume-changed", "max_steps", "eta").code == 0
    card = " ".join((here / "out" / "README.md").read_text().split())
    assert "repeats the run" not in card
    assert "for 6 optimizer steps, the last of them by **target-sft**" in card


@pytest.mark.failure_case(25)
def test_an_unknown_name_in_resume_changed_is_refused_with_the_nearest(here, resumed):
    said = resumed("--max-steps", "6", "--resume-changed", "max_steps", "max_step")
    assert said.code == 2
    assert "`resume_changed` names max_step, which is no key" in said.err
    assert "did you mean max_steps?" in said.err
    assert resumed("--max-steps", "6", "--save-steps", "3", "--resume-changed", "max_steps", "save_steps").code == 0


DFT = ("--method", "dft", "--eta", "null", "--teacher", "null")
BACK = (*DFT, "--resume-changed", "method", "hyperparameters", "teachers")


@pytest.mark.failure_case(24)
@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_checkpoints_of_a_branch_that_was_left_are_not_the_newest(finished, here, capsys):
    for name in ("checkpoint-2", "checkpoint-4"):
        shutil.copytree(finished / name, here / "out" / name)
    train, branch = ("train", "config.yaml", *BACK), ("--resume-from-checkpoint", "out/checkpoint-2")
    twice = Signalling(torch.optim.AdamW, "step", 0, times=2)
    said = ended([*train, *branch], twice, folder=here)
    assert "The last whole checkpoint is out/checkpoint-2; nothing is lost" in said.err
    assert "--resume-from-checkpoint out/checkpoint-2`" in said.err
    said = ended([*train, *branch], Signalling(torch.optim.AdamW, "step", 0), folder=here)
    assert "out/checkpoint-3 holds all of it" in said.err
    assert "--resume-from-checkpoint`" in said.err
    left = "out/checkpoint-4 (it is of a branch that was left: the run went back to step 2)"
    assert [str(each) for each in checkpoints_in(Path("out")).skipped] == [left]
    said = command(capsys, *train, "--resume-from-checkpoint")
    assert said.code == 0, said.err
    assert f"skipped   {left}" in said.out
    assert "of which 3 are done" in said.out
    told = "Steps 3 to 4 were run with hyperparameters.eta None (before: 0.3), hyperparameters.teacher_temperature None"
    assert told in (here / "out" / "README.md").read_text()


def test_a_line_of_branches_says_which_checkpoints_are_its_own():
    first, second, third = Branch(1, 0), Branch(2, 4), Branch(3, 2)
    assert step_left_behind((first,), 4, (first, second)) is None
    assert step_left_behind((first,), 6, (first, second)) == 4
    assert step_left_behind((first, second), 5, (first, third)) == 2
    assert step_left_behind((first, second), 5, (first,)) == 4
    assert step_left_behind((first, second), 5, (Branch(4, 0),)) == 0
    assert step_left_behind(None, 5, (first,)) is None
    assert latest([(first, third), None, (first, second)]) == (first, third)


@pytest.mark.failure_case(24)
def test_a_change_that_no_step_is_left_for_is_refused(finished, here, capsys):
    shutil.copytree(finished / "checkpoint-4", here / "out" / "checkpoint-4")
    for words in ((), ("--max-steps", "-1", "--num-train-epochs", "0.5")):
        changed = ("method", "hyperparameters", "teachers", "max_steps", "num_train_epochs")
        said = command(
            capsys, "train", "config.yaml", "--resume-from-checkpoint", *DFT, *words, "--resume-changed", *changed
        )
        assert said.code == 2, said.out
        assert "out/checkpoint-4 is of step 4, and the run ends at step 4: no step is left that would be" in said.err
        assert "method: target-sft then, dft now" in said.err
    assert not (here / "out" / "README.md").exists()


@pytest.mark.failure_case(24)
def test_nor_are_steps_of_an_unsealed_checkpoint_told_as_what_was_given_afterwards(finished, here, capsys):
    shutil.copytree(finished / "checkpoint-4", here / "out" / "checkpoint-4")
    (here / "out" / "checkpoint-4" / SEAL).unlink()
    said = command(capsys, "train", "config.yaml", "--resume-from-checkpoint", "--resume-unsealed", "true", *DFT)
    assert said.code == 0, said.err
    card = " ".join((here / "out" / "README.md").read_text().split())
    assert "fine-tuned for 4 optimizer steps with" in card
    assert "No step behind these weights was run with what stands above and below." in card


def test_a_history_tells_no_part_without_steps():
    parts = [RunPart(0, {"method": "sft"}), RunPart(4, {"method": "dft"})]
    assert history_sentences(parts, 4) == []
    assert history_sentences(parts, 5) == ["Steps 5 to 5 were run with method dft (before: sft)."]
    assert [each.name for each in changes_without_steps(parts)] == ["method"]
    by_best = [RunPart(0, {"eval_steps": 2}), RunPart(4, {"eval_steps": 3})]
    assert changes_without_steps(by_best) == []


@pytest.mark.failure_case(24)
def test_a_precision_of_the_environment_is_compared_and_told(here, resumed, monkeypatch, capfd):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    said = resumed()
    assert said.code == 2
    assert "mixed_precision: no then, bf16 now; start it as then, with ACCELERATE_MIXED_PRECISION=no" in said.err
    said = resumed("--resume-changed", "mixed_precision")
    assert said.code == 0, said.err
    assert "precision bf16 mixed precision, as ACCELERATE_MIXED_PRECISION in the environment says" in said.out
    card = (here / "out" / "README.md").read_text()
    assert "| precision | bf16 mixed precision, as ACCELERATE_MIXED_PRECISION in the environment says |" in card
    assert "Steps 3 to 4 were run with mixed_precision bf16 (before: no)." in card
    said = command(capfd, "train", "config.yaml", "--bf16", "true", "--resume-from-checkpoint", "out/checkpoint-2")
    assert "bf16: False then, True now" in said.err
    assert "mixed_precision" not in said.err


@pytest.mark.failure_case(22)
def test_a_run_whose_folder_was_taken_by_another_writes_nothing_into_it(here, capsys, monkeypatch):
    step, taken = torch.optim.AdamW.step, []

    def taking(self, *args, **kwargs):
        if not taken:
            shutil.rmtree("out")
            taken.append(one_writer(Path("out")))
            taken[0].__enter__()
            Path("out", "model.safetensors").write_text("of another run")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", taking)
    said = command(capsys, "train", "config.yaml", *DFT)
    taken[0].__exit__(None, None, None)
    assert said.code == 2, said.out
    assert "out was removed or replaced while this process was writing into it" in said.err
    assert {each.name for each in Path("out").iterdir()} - {".lock"} == {"model.safetensors"}
    assert Path("out", "model.safetensors").read_text() == "of another run"


def test_a_schedule_that_changed_is_told_in_words():
    before, now = ({"hyperparameters": {"eta": eta}} for eta in (0.3, {"from": 0.2, "to": 0.8}))
    told = history_sentences([RunPart(0, before), RunPart(2, now)], 4)
    assert "hyperparameters.eta 0.2 → 0.8 along progress (before: 0.3)" in " ".join(told)
