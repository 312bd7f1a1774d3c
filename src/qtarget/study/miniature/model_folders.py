"""Folders of a setting's students and teachers: shipped with the package, or pre-trained once."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import Progress

from qtarget import lab
from qtarget.disk.files import read_json_object
from qtarget.lab import World
from qtarget.lab.checkpoints import ASSETS
from qtarget.lab.pretrain import RECORD, is_built_as
from qtarget.lab.worlds import Model

PRETRAINING_SEEDS = {"student": 0, "teacher": 1}
"""Those of the shipped models."""


def model_path(model: Model, role: str, folder: Path) -> Path:
    """The folder of the shipped model of this description, or where in `folder` it belongs.

    Args:
        role: "student" or "teacher".
    """
    record = _record(model, role)
    shipped = (path.parent for path in sorted(ASSETS.glob(f"*/{role}/{RECORD}")) if _holds(path, record))
    name = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]
    return next(shipped, folder / f"{role}-{name}")


def _record(model: Model, role: str) -> dict[str, Any]:
    return json.loads(json.dumps({"model": asdict(model), "seed": PRETRAINING_SEEDS[role]}))


def _holds(path: Path, record: dict) -> bool:
    return read_json_object(path, "delete its folder") == record


def missing_models(worlds: Iterable[World], folder: Path) -> dict[Path, tuple[Model, str]]:
    """Models still to be pre-trained, with their roles, by the folder they belong in.

    Raises:
        ValueError: the manifest of a model that is there is damaged.
    """
    wanted = {}
    for world in worlds:
        for model, role in ((world.student, "student"), (world.teacher, "teacher")):
            path = model_path(model, role, folder)
            if not (path / RECORD).is_file() or not is_built_as(path, _record(model, role)):
                wanted[path] = (model, role)
    return wanted


def build_models(missing: dict[Path, tuple[Model, str]], progress: Progress) -> None:
    """Pre-train the missing models, a minute each; those that are finished stay if it is stopped."""
    for path, (model, role) in missing.items():
        lab.build_model(model, f"{role}, width {model.width}", PRETRAINING_SEEDS[role], path, progress)
