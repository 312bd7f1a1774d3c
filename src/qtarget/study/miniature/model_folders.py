"""Where a setting's models are: those that ship with the package, and others, pre-trained once into a folder."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rich.progress import Progress

from qtarget import lab
from qtarget.disk.files import read_json_object
from qtarget.lab import World
from qtarget.lab.checkpoints import ASSETS
from qtarget.lab.pretrain import RECORD
from qtarget.lab.worlds import Model

SEED = {"student": 0, "teacher": 1}
"""Of the pre-training, as the shipped models have it."""


def model_path(model: Model, role: str, folder: Path) -> Path:
    """The shipped model of that description, or its place in `folder`."""
    record = json.loads(json.dumps({"model": asdict(model), "seed": SEED[role]}))
    shipped = (path.parent for path in sorted(ASSETS.glob(f"*/{role}/{RECORD}")) if _says(path, record))
    name = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]
    return next(shipped, folder / f"{role}-{name}")


def _says(path: Path, record: dict) -> bool:
    return read_json_object(path, "delete its folder") == record


def missing_models(worlds: Iterable[World], folder: Path) -> dict[Path, tuple[Model, str]]:
    """Models still to be pre-trained, by their place."""
    wanted = {}
    for world in worlds:
        for model, role in ((world.student, "student"), (world.teacher, "teacher")):
            path = model_path(model, role, folder)
            if not (path / RECORD).is_file():
                wanted[path] = (model, role)
    return wanted


def build_models(missing: dict[Path, tuple[Model, str]], progress: Progress) -> None:
    """Pre-train what is missing; each takes about a minute, and what is finished stays."""
    for path, (model, role) in missing.items():
        lab.build_model(model, f"{role}, width {model.width}", SEED[role], path, progress)
