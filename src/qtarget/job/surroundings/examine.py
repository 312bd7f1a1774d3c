"""Everything that `qtarget doctor` looks at, in order."""

import os
from collections.abc import Iterator
from pathlib import Path

from qtarget.job.surroundings.devices import devices_found, precisions_found
from qtarget.job.surroundings.disks import disks_found
from qtarget.job.surroundings.libraries import extras_found, versions_found
from qtarget.job.surroundings.observation import Observation
from qtarget.job.surroundings.trial import trainer_found

VARIABLES = {
    "HF_HUB_OFFLINE": "the hub is not asked for models and rows",
    "HF_ENDPOINT": "another hub is asked",
    "CUDA_VISIBLE_DEVICES": "which GPUs are used",
    "WORLD_SIZE": "this is one of several ranks",
}
"""Variables of the environment that change what a run does."""


def examine(runs: Path) -> list[Observation]:
    """Look at this machine. A temporary file is written where runs and caches go; nothing stays.

    Args:
        runs: the folder that runs will be written to.
    """
    return [
        *versions_found(),
        *devices_found(),
        *precisions_found(),
        *disks_found(runs),
        *extras_found(),
        *_environment(),
        *trainer_found(),
    ]


def _environment() -> Iterator[Observation]:
    for name, meaning in VARIABLES.items():
        if name in os.environ:
            yield Observation("environment", name, f"{os.environ[name]}: {meaning}")
