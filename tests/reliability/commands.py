"""The four commands that run for long, at the quickest settings there are, and what of their results is compared."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from job.conftest import CONFIG, spaced
from job.directories import model_directory, write_rows
from job.stopped import ended
from tiny_models import prompt_completion

from qtarget import lab
from qtarget.lab import World
from qtarget.study.tuned.design import TunedStudy
from qtarget.study.tuned.settings import Setting
from qtarget.study.tuned.tuned_arms import study_arms

BASE = lab.world("strong-prior")
SMALL = replace(BASE.student, width=8, layers=1, heads=2, feed_forward=8, school_steps=1, steps=1)
WORLD = replace(
    BASE,
    student=SMALL,
    teacher=replace(SMALL, width=16),
    demonstrations=8,
    batch_size=2,
    min_steps=1,
    max_steps=1,
    max_new_tokens=2,
)
"""A world whose models are pre-trained in no time."""


class TinySetting(Setting):
    """A setting of that world."""

    @property
    def world(self) -> World:
        return WORLD


TINY_STUDY = TunedStudy(
    (TinySetting(0.3, "demo", "blunt"),),
    arms=tuple(
        replace(arm, configurations=arm.configurations[:1])
        for arm in study_arms(2, 2)
        if arm.name in ("base", "sft", "target-sft")
    ),
    seeds=1, pretraining_seeds=1, demonstrations=8, development=2, test=2, samples=1,
)  # fmt: skip
"""A study of two optimizer steps a run."""
FOLDERS = ("out", "cache", "eval", "study", ".cache")
TIMED = ("seconds", "content_sha256")
"""Fields of a result that hold a time."""


class Command(NamedTuple):
    """A command of `qtarget`, in a folder with models, rows and a configuration.

    Attributes:
        words: as typed.
        files: patterns of the files that hold its result.
        go_on: what is added to the words after it was stopped.
    """

    words: tuple[str, ...]
    files: tuple[str, ...]
    go_on: tuple[str, ...] = ()

    def content(self, folder: Path) -> dict[str, str]:
        """The result: sha256 of its files by name, times left out."""
        paths = sorted(path for pattern in self.files for path in folder.glob(pattern))
        assert paths, f"{self.words[0]} left no result"
        return {path.relative_to(folder).as_posix(): hashlib.sha256(_untimed(path)).hexdigest() for path in paths}


def _untimed(path: Path) -> bytes:
    content = path.read_bytes()
    if path.match("study/results/*/*.json"):
        values = json.loads(content)
        return json.dumps({name: value for name, value in values.items() if name not in TIMED}).encode()
    return content


CONFIGURED = ("config.yaml", "--eval-dataset", "null")
TASK = ("--task", "lab-weak-operator", "--limit", "2", "--k", "2", "--max-new-tokens", "6", "--batch-size", "2")
COMMANDS = {
    "train": Command(
        ("train", *CONFIGURED, "--teacher", "null", "--method", "dft", "--eta", "null"),
        ("out/*.safetensors",),
        ("--resume-from-checkpoint",),
    ),
    "teacher cache": Command(
        ("teacher", "cache", *CONFIGURED, "--teacher-cache", "cache", "--cache-shard-tokens", "60"), ("cache/*",)
    ),
    "eval": Command(
        ("eval", str(lab.student_path(lab.world("weak-operator"))), "--out", "eval", *TASK),
        ("eval/*.json", "eval/*/*"),
    ),
    "study": Command(
        ("study", "--quick", "--results", "study/results", "--models", "study/models"),
        ("study/results/*/*.json", "study/results/*.png", "study/models/*/*.safetensors"),
    ),
}


def make_workplace(folder: Path) -> None:
    """Models, rows and a configuration, as a user has them."""
    model_directory(folder / "qwen2", "qwen2", seed=1)
    model_directory(folder / "teacher", "qwen2", seed=2)
    write_rows(folder / "rows.jsonl", [spaced(row) for row in prompt_completion(16, seed=1)])
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")


def remove_results(folder: Path) -> None:
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


def go_on_with(command: Command, folder: Path) -> None:
    """Go on with a command that was stopped; a training that has no checkpoint says so, and begins anew."""
    again = ended((*command.words, *command.go_on), folder=folder)
    if again.code == 2 and command.go_on:
        assert "there is no checkpoint in out to resume from; leave `resume_from_checkpoint` out" in again.err
        again = ended(command.words, folder=folder)
    assert again.code == 0, again.err
