"""A user's folder for samples: the lab's student and teacher, rows with right answers, and a configuration."""

import json
from pathlib import Path
from typing import Any

import yaml
from job.directories import write_rows

from qtarget import lab

WORLD = lab.world("weak-operator")
GRADE = r"regex:answer\s+(\S+)"
CONFIG: dict[str, Any] = {
    "model": "student", "train_dataset": "rows.jsonl", "method": "target-sft", "eta": 0.5, "teacher": "teacher",
    "output_dir": "out", "max_steps": 4, "save_steps": 2, "learning_rate": 1e-3, "per_device_train_batch_size": 4,
    "gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True, "seed": 3,
    "sample": {"k": 3, "max_new_tokens": 40, "batch_size": 4, "grade": GRADE, "keep": "right"},
}  # fmt: skip
ROWS = 20


def lab_rows(count: int = ROWS) -> list[dict[str, str]]:
    """Demonstrations of the lab with the true answers to their chains."""
    return [{**row, "answer": lab.true_answer(row["prompt"])} for row in lab.demonstrations(WORLD, 0)[:count]]


def make_home(folder: Path) -> None:
    """Write everything into a folder."""
    (folder / "student").symlink_to(lab.student_path(WORLD))
    (folder / "teacher").symlink_to(lab.teacher_path(WORLD))
    write_rows(folder / "rows.jsonl", lab_rows())
    write_config(folder)


def write_config(folder: Path, name: str = "config.yaml", sample: dict[str, Any] | None = None, **keys: Any) -> str:
    """The configuration with other keys, and other keys of `sample`; None takes one out."""
    values = {**CONFIG, **keys, "sample": {**CONFIG["sample"], **(sample or {})}}
    values["sample"] = {key: value for key, value in values["sample"].items() if value is not None}
    values = {key: value for key, value in values.items() if value is not None}
    (folder / name).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return name


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """The rows that a sampling wrote."""
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
