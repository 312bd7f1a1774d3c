"""What lies in the folder of a result and is no part of it: a user's notes, an evaluation, rows, another model."""

from fnmatch import fnmatch
from glob import escape
from pathlib import Path

from qtarget.models.model_seal import LOADED, STATES, TEMPLATES

WRITTEN_BESIDE = ("*.py", "global_step*", "latest", "pytorch_model_fsdp*")
"""A model's own code, and what FSDP and DeepSpeed write beside a model."""
RECORDS = ("README.md", "training.png", "metrics.json", "train.yaml", "trainer_state.json", "log_window_*")
WRITTEN = (*LOADED, *STATES, *WRITTEN_BESIDE, *RECORDS, TEMPLATES)


def beside_result(folder: Path) -> list[str]:
    """The files and folders at the top of a result's folder that no run writes, as patterns for `seal`."""
    names = sorted(each.name for each in folder.iterdir())
    return [escape(name) for name in names if not any(fnmatch(name, pattern) for pattern in WRITTEN)]
