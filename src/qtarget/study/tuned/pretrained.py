"""Students and teachers of the study: shipped with the package, or pre-trained once for each seed."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress

from qtarget import lab
from qtarget.disk.files import read_json_object
from qtarget.lab.checkpoints import ASSETS
from qtarget.lab.pretrain import RECORD, is_built_as
from qtarget.lab.worlds import Model


class Pretraining(NamedTuple):
    """A student or teacher, and the seed that it is pre-trained from."""

    role: str
    model: Model
    seed: int

    @property
    def record(self) -> dict[str, Any]:
        """How the lab describes it; a teacher's own seed is one more, as that of the teachers that ship."""
        return json.loads(json.dumps({"model": asdict(self.model), "seed": self.seed + (self.role == "teacher")}))

    def path(self, folder: Path) -> Path:
        """The folder of the shipped model of this description, or where in `folder` it belongs."""
        records = sorted(ASSETS.glob(f"*/{self.role}/{RECORD}"))
        shipped = (path.parent for path in records if read_json_object(path, "install anew") == self.record)
        name = hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()[:12]
        return next(shipped, folder / f"{self.role}-{name}")

    def is_missing(self, folder: Path) -> bool:
        """Whether it is still to be pre-trained.

        Raises:
            ValueError: the manifest of the model that is there is damaged.
        """
        path = self.path(folder)
        return not (path / RECORD).is_file() or not is_built_as(path, self.record)

    def make(self, folder: Path) -> None:
        """Pre-train it, about a minute; what an earlier call finished is kept."""
        with Progress(disable=True) as progress:
            lab.build_model(self.model, self.role, self.record["seed"], self.path(folder), progress)
