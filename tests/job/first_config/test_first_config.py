"""`qtarget init`: what it writes is taken by `validate` as it stands, and trains."""

import json
import re
import shutil
import sys

import pytest
import yaml
from job.command import run as command
from job.directories import model_directory, write_rows
from tiny_models import messages, plain_text, prompt_completion, tiny_model, tiny_tokenizer, token_rows

from qtarget.job.config.flags import RunArguments
from qtarget.job.config.key_descriptions import key_descriptions
from qtarget.job.config.read_job import read_job
from qtarget.job.training import prepare_training, run_training


@pytest.fixture(autouse=True)
def own_config(here):
    """The configuration of the other tests is out of the way."""
    (here / "config.yaml").unlink()


def written_config(path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_what_is_written_is_valid_for_every_form_of_rows(here, capsys):
    """Without a word beside model and rows; each form by one family or the other, a whole training for two of them."""
    write_rows(here / "text.jsonl", list(plain_text(40)))
    write_rows(here / "tokens.jsonl", [{**row, "labels": row["labels"]} for row in token_rows(40)])
    asked = [{"question": row["prompt"], "answer": row["completion"]} for row in prompt_completion(40)]
    write_rows(here / "asked.jsonl", asked)
    cases = {"rows": ("qwen2", True), "chat": ("llama", True), "text": ("qwen2", False), "asked": ("llama", False)}
    for rows, (model, is_trained) in cases.items():
        out = here / f"{rows}.yaml"
        said = command(capsys, "init", "--model", model, "--train-dataset", f"{rows}.jsonl", "--out", str(out))
        assert said.code == 0, said.err
        assert f"qtarget validate {out}" in said.out
        found = written_config(out)
        assert (found["model"], found["train_dataset"], found["method"]) == (model, f"{rows}.jsonl", "sft")
        assert command(capsys, "validate", str(out)).code == 0
        if is_trained:
            job = read_job(RunArguments(out, {"max_steps": ["2"], "disable_tqdm": [], "output_dir": [f"out-{rows}"]}))
            run_training(prepare_training(job))
            assert (here / f"out-{rows}" / "model.safetensors").is_file()


def test_rows_of_token_ids(here, capsys):
    write_rows(here / "tokens.jsonl", [{**row, "input_ids": [*row["input_ids"], 2]} | {"labels": [*row["labels"], 2]}
                                       for row in token_rows(40)])  # fmt: skip
    assert command(capsys, "init", "--model", "llama", "--train-dataset", "tokens.jsonl").code == 0
    assert "learn" not in written_config(here / "config.yaml")
    assert command(capsys, "validate", "config.yaml").code == 0


def test_every_key_has_a_reason_above_it(here, capsys):
    assert (
        command(capsys, "init", "--model", "qwen2", "--train-dataset", "rows.jsonl", "--teacher", "teacher").code == 0
    )
    lines = (here / "config.yaml").read_text(encoding="utf-8").splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"(# )?[a-z_]+: ", line) and number > 5]
    assert len(keys) >= 20
    assert all(lines[number - 1].startswith("# ") and not lines[number - 1].startswith("# yaml") for number in keys)
    assert max(map(len, lines)) <= 110


def test_a_teacher_makes_it_target_sft(here, capsys):
    command(capsys, "init", "--model", "qwen2", "--train-dataset", "rows.jsonl", "--teacher", "teacher")
    found = written_config(here / "config.yaml")
    assert (found["method"], found["eta"], found["teacher"]) == ("target-sft", 0.5, "teacher")
    assert command(capsys, "validate", "config.yaml").code == 0


def test_a_teacher_of_another_family_is_refused(here, capsys):
    said = command(capsys, "init", "--model", "qwen2", "--train-dataset", "rows.jsonl", "--teacher", "llama")
    assert (said.code, (here / "config.yaml").exists()) == (2, False)
    assert "teacher" in said.err


def test_the_end_token_is_named_where_generation_would_not_stop(here, capsys):
    """The template ends turns with a token of its own, and the model's end token is another."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("<eos>", "<user>")
    folder = here / "ends-otherwise"
    tiny_model("llama").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    words = ("--model", "ends-otherwise", "--train-dataset", "chat.jsonl")
    assert command(capsys, "init", *words).code == 0
    text = (here / "config.yaml").read_text(encoding="utf-8")
    assert written_config(here / "config.yaml")["eos_token"] == "<user>"
    assert "generation would stop at <eos> only" in text
    assert command(capsys, "validate", "config.yaml").code == 0
    without = re.sub(r"^eos_token: .*\n", "", text, flags=re.MULTILINE)
    (here / "without.yaml").write_text(without, encoding="utf-8")
    assert command(capsys, "validate", "without.yaml").code == 2  # so it was needed


def test_the_longest_row_decides_the_length(here, capsys):
    rows = [{"prompt": "w1 ", "completion": " ".join(["w2"] * length)} for length in (*[3] * 39, 60)]
    write_rows(here / "long.jsonl", rows)
    command(capsys, "init", "--model", "llama", "--train-dataset", "long.jsonl")
    assert written_config(here / "config.yaml")["max_length"] == 64
    text = (here / "config.yaml").read_text(encoding="utf-8")
    assert "half of the rows have at most 5 tokens, 95 % at most 5, the longest has 62: none is cut" in text
    write_rows(here / "longer.jsonl", [{"prompt": "w1 ", "completion": " ".join(["w2"] * 300)}, *rows])
    command(capsys, "init", "--model", "llama", "--train-dataset", "longer.jsonl", "--out", "longer.yaml")
    assert written_config(here / "longer.yaml")["max_length"] == 256  # the model's positions
    assert "longer ones are cut" in (here / "longer.yaml").read_text(encoding="utf-8")


def test_what_the_user_says_stands_as_it_was_said(here, capsys):
    words = [
        "--model",
        "llama",
        "--train-dataset",
        "rows.jsonl",
        "--learning-rate",
        "3e-4",
        "--use-peft",
        "--max-steps",
    ]
    words += ["4", "--method", "label-smoothing", "--smoothing", "0.2", "--run-name", "a: b # c", "--report-to", "none"]
    said = command(capsys, "init", *words, "--columns", "{prompt: prompt, completion: completion}")
    assert said.code == 0, said.err
    found = written_config(here / "config.yaml")
    assert found["learning_rate"] == 3e-4
    assert (found["use_peft"], found["lora_r"], found["max_steps"]) == (True, 16, 4)
    assert "num_train_epochs" not in found
    assert (found["method"], found["smoothing"], found["run_name"]) == ("label-smoothing", 0.2, "a: b # c")
    assert found["columns"] == {"prompt": "prompt", "completion": "completion"}
    assert command(capsys, "validate", "config.yaml").code == 0


def test_held_out_rows_are_measured_and_otherwise_advised(here, capsys):
    words = ("--model", "llama", "--train-dataset", "rows.jsonl")
    command(capsys, "init", *words, "--eval-dataset", "eval.parquet", "--out", "a.yaml")
    assert (written_config(here / "a.yaml")["eval_strategy"], command(capsys, "validate", "a.yaml").code) == (
        "steps",
        0,
    )
    command(capsys, "init", *words, "--out", "b.yaml")
    assert "# eval_dataset: held_out.jsonl" in (here / "b.yaml").read_text(encoding="utf-8")
    (here / "splits").mkdir()
    for name in ("train", "dev"):
        shutil.copy(here / "rows.jsonl", here / "splits" / f"{name}.jsonl")
    command(capsys, "init", "--model", "llama", "--train-dataset", "splits", "--out", "c.yaml")
    assert written_config(here / "c.yaml")["dataset_test_split"] == "validation"
    assert command(capsys, "validate", "c.yaml").code == 0


def test_nothing_is_overwritten_without_force(here, capsys):
    words = ("--model", "llama", "--train-dataset", "rows.jsonl")
    (here / "mine.yaml").write_text("mine\n")
    said = command(capsys, "init", *words, "--out", "mine.yaml")
    assert (said.code, (here / "mine.yaml").read_text()) == (2, "mine\n")
    assert "--out mine-2.yaml" in said.err
    assert command(capsys, "init", *words, "--out", "mine.yaml", "--force").code == 0
    assert written_config(here / "mine.yaml")["model"] == "llama"
    (here / "other").mkdir()
    (here / "other" / "qtarget-schema.json").write_text("{}")
    assert command(capsys, "init", *words, "--out", "other/config.yaml").code == 2
    assert (here / "other" / "qtarget-schema.json").read_text() == "{}"


def test_a_place_for_results_that_is_free(here, capsys):
    (here / "out").mkdir()
    command(capsys, "init", "--model", "llama", "--train-dataset", "rows.jsonl")
    assert written_config(here / "config.yaml")["output_dir"] == "out-2"
    assert not (here / "out-2").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--model llama", "--train-dataset rows.jsonl"),
        ("", "--model MODEL --train-dataset rows.jsonl"),
        ("config.yaml --model llama --train-dataset rows.jsonl", "reads no file"),
        ("llama", "write --model llama --train-dataset rows.jsonl"),
        ("nope", "write --model nope --train-dataset rows.jsonl"),
        ("rows.jsonl --model llama", "write --train-dataset rows.jsonl"),
        ("--model lama --train-dataset rows.jsonl", "did you mean llama?"),
        ("--model llama --train-dataset row.jsonl", "did you mean rows.jsonl"),
        ("--model llama --train-dataset rows.jsonl --lr 1e-5", "learning_rate: 1e-05"),
        ("--model llama --train-dataset rows.jsonl --out qwen2", "is a directory"),
        ("--model llama --train-dataset rows.jsonl --out rows.jsonl/c.yaml", "is a file"),
        ("--model llama --train-dataset rows.jsonl --learning-rate -1", "out of range"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(here, capsys, words, said):
    before = {path.name for path in here.iterdir()}
    found = command(capsys, "init", *words.split())
    assert found.code == 2
    assert said in found.err
    assert {path.name for path in here.iterdir()} == before


def test_conversations_without_a_template_name_the_key(here, capsys):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tiny_model("llama").save_pretrained(here / "base")
    tokenizer.save_pretrained(here / "base")
    said = command(capsys, "init", "--model", "base", "--train-dataset", "chat.jsonl")
    assert said.code == 2
    assert "--chat-template-path" in said.err
    words = ("--model", "base", "--train-dataset", "chat.jsonl", "--chat-template-path", "llama")
    assert command(capsys, "init", *words).code == 0
    assert command(capsys, "validate", "config.yaml").code == 0


def test_an_adapter_is_to_be_merged_first(here, capsys):
    (here / "adapter").mkdir()
    (here / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "llama"}))
    said = command(capsys, "init", "--model", "adapter", "--train-dataset", "rows.jsonl")
    assert said.code == 2
    assert "qtarget merge adapter --out merged" in said.err


def test_a_secret_is_not_written(here, capsys):
    words = ("--model", "llama", "--train-dataset", "rows.jsonl", "--hub-token", "hf_secret")
    assert command(capsys, "init", *words).code == 0
    assert "hf_secret" not in (here / "config.yaml").read_text(encoding="utf-8")


def test_in_a_terminal_it_asks(here, capsys, monkeypatch):
    answers = iter(["llama", "rows.jsonl", ""])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda *words, **options: next(answers))
    assert command(capsys, "init").code == 0
    assert written_config(here / "config.yaml")["model"] == "llama"


def test_a_large_model_gets_an_adapter(here, monkeypatch):
    """Where weights, gradients and moments of all parameters are more than the memory that is free."""
    from qtarget.job.first_config import run_facts, write_config

    def settings(free):
        monkeypatch.setattr(run_facts, "free_bytes", lambda device: free)
        flags = {"model": ["llama"], "train_dataset": ["rows.jsonl"]}
        config = write_config.prepare_config(here / "large.yaml", flags)
        return {each.key: each.value for part in config.settings.values() for each in part}

    parameters = tiny_model("llama").num_parameters()
    assert "use_peft" not in settings(16 * parameters * 2)
    small = settings(16 * parameters)
    assert (small["use_peft"], small["learning_rate"]) == (True, 2e-4)


def test_activations_are_recomputed_only_where_memory_needs_it(here, monkeypatch):
    from qtarget.job.first_config import run_facts, write_config

    def choice(free):
        monkeypatch.setattr(run_facts, "free_bytes", lambda device: free)
        flags = {"model": ["llama"], "train_dataset": ["rows.jsonl"], "use_peft": ["false"]}
        config = write_config.prepare_config(here / "small.yaml", flags)
        return next(each for part in config.settings.values() for each in part if "checkpointing" in each.key)

    assert choice(64 * 2**30).value is False
    assert "64.0 GiB are free" in choice(64 * 2**30).reason
    assert choice(2**20).value is True
    assert "more time" in choice(2**20).reason
    assert choice(None).value is True


def test_every_key_has_words():
    wordless = {key for key, each in key_descriptions().items() if not each.text}
    assert not {key for key in wordless if not key.startswith("_")} - {"distributed_state"}, wordless


def test_a_model_in_a_folder_of_another_name(here, capsys):
    """Names with spaces and signs of YAML are quoted."""
    model_directory(here / "my: model #1", "llama")
    write_rows(here / "rows - mine.jsonl", list(messages(40)))
    assert command(capsys, "init", "--model", "my: model #1", "--train-dataset", "rows - mine.jsonl").code == 0
    assert written_config(here / "config.yaml")["model"] == "my: model #1"
    assert command(capsys, "validate", "config.yaml").code == 0
