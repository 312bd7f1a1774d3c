"""A user's folder for a search: tiny models, rows, questions, a configuration and a space."""

import json
import random
from pathlib import Path

import yaml
from job.directories import write_rows
from tiny_models import tiny_model, tiny_tokenizer

WORDS = ["What", "is", "+", "?", *map(str, range(40))]
CONFIG = {
    "model": "student", "train_dataset": "rows.jsonl", "method": "target-sft", "eta": 0.5, "teacher": "teacher",
    "output_dir": "out", "max_steps": 16, "learning_rate": 1e-3, "per_device_train_batch_size": 4,
    "max_length": 32, "gradient_checkpointing": False, "prompt_format": "chat", "disable_tqdm": True,
}  # fmt: skip
SPACE = {
    "arms": [
        {"method": "sft", "learning_rate": [1e-3, 1e-2]},
        {"method": "target-sft", "eta": 0.2, "learning_rate": 1e-2},
    ],
    "steps": 2,
    "rungs": 2,
    "rows": 16,
    "confirm_seeds": 2,
}
ASKED = ("--questions", "dev.jsonl", "--grade", "number", "--k", "2", "--max-new-tokens", "3", "--temperature", "0.7")


def sums(count: int, seed: int, low: int, high: int) -> list[dict]:
    """Questions and answers, all different."""
    pairs = [(a, b) for a in range(low, high) for b in range(low, high)]
    return [
        {"question": f"What is {a} + {b} ?", "answer": str(a + b)} for a, b in random.Random(seed).sample(pairs, count)
    ]


def make_home(folder: Path) -> None:
    """Write everything into a folder."""
    tokenizer = tiny_tokenizer(WORDS)
    for name, seed in (("student", 1), ("teacher", 2)):
        tiny_model(vocab=len(tokenizer), seed=seed).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    write_rows(folder / "rows.jsonl", sums(24, 1, 0, 8))
    write_rows(folder / "held_out.jsonl", sums(12, 2, 8, 14))
    write_rows(folder / "dev.jsonl", sums(12, 3, 14, 20))
    write_file(folder / "config.yaml", CONFIG)
    write_file(folder / "space.yaml", SPACE)


def write_file(path: Path, values: dict) -> str:
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return str(path)


def results_of(out: Path) -> dict:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))
