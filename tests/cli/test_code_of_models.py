"""Code that lies in a model's folder runs once `trust_remote_code` says so, and never because somebody said yes."""

import json
import shutil

import pytest
import yaml
from job.command import run
from job.directories import model_directory, write_rows

ROWS = [{"prompt": f"a b{index}", "completion": " c"} for index in range(4)]
COMMANDS = {
    "train": ("train", "run.yaml"),
    "validate": ("validate", "run.yaml"),
    "estimate": ("estimate", "run.yaml"),
    "cache": ("teacher", "cache", "run.yaml"),
    "eval": ("eval", "MODEL", "--questions", "questions.jsonl", "--grade", "exact", "--out", "e"),
    "eval --adapter": (
        "eval",
        "plain",
        "--adapter",
        "MODEL",
        "--questions",
        "questions.jsonl",
        "--grade",
        "exact",
        "--out",
        "e",
    ),
    "init": ("init", "--model", "MODEL", "--train-dataset", "rows.jsonl", "--method", "sft"),
    "serve": ("teacher", "serve", "MODEL", "--port", "0"),
    "chat": ("chat", "MODEL"),
    "merge": ("merge", "MODEL", "merged"),
}
READ_FROM = ("config.json", "tokenizer_config.json")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Folders of the same model: without code, and with code behind its configuration, its tokenizer, or both."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    model_directory(tmp_path / "plain", "qwen2")
    for name, files in {"coded": READ_FROM[:1], "coded-tokens": READ_FROM[1:], "coded-both": READ_FROM}.items():
        shutil.copytree(tmp_path / "plain", tmp_path / name)
        for file in files:
            _point_at_code(tmp_path / name / file)
        (tmp_path / name / "theirs.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
            "from transformers import Qwen2Config as TheirConfig, Qwen2ForCausalLM as TheirModel\n"
            "from transformers import Qwen2Tokenizer as TheirTokenizer\n"
        )
    write_rows(tmp_path / "rows.jsonl", ROWS)
    write_rows(tmp_path / "questions.jsonl", [{"question": "a b", "answer": "c"}])
    return tmp_path


def _point_at_code(file):
    content = json.loads(file.read_text())
    if file.name == "config.json":
        content |= {"model_type": "theirs"}
        content["auto_map"] = {"AutoConfig": "theirs.TheirConfig", "AutoModelForCausalLM": "theirs.TheirModel"}
    else:
        content |= {"tokenizer_class": "TheirTokenizer"}
        content["auto_map"] = {"AutoTokenizer": ["theirs.TheirTokenizer", "theirs.TheirTokenizer"]}
    file.write_text(json.dumps(content))


CASES = [
    (command, role, folder)
    for command, words in COMMANDS.items()
    for role in ("model", "teacher")
    for folder in ("coded", "coded-tokens", "coded-both")
    if (role == "model" or "run.yaml" in words) and (command, folder) != ("serve", "coded-tokens")  # it would serve
]


@pytest.mark.parametrize(("command", "role", "folder"), CASES)
def test_nobody_is_asked_and_nothing_runs(home, capsys, monkeypatch, command, role, folder):
    asked = []

    def answer(text=""):
        asked.append(text)
        if "custom code" in text:
            return "y"
        raise EOFError

    monkeypatch.setattr("builtins.input", answer)
    config = {"model": "plain", "train_dataset": "rows.jsonl", "method": "target-sft", "teacher": "plain"}
    config |= {"output_dir": "out", "max_steps": 1, "report_to": "none", "use_cpu": True, role: folder}
    if command == "cache":
        config["teacher_cache"] = "cache"
    (home / "run.yaml").write_text(yaml.safe_dump(config))
    said = run(capsys, *(folder if word == "MODEL" else word for word in COMMANDS[command]))
    assert not (home / "ran").exists(), said
    assert not any("custom code" in text for text in asked), asked
