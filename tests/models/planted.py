"""A pickle that creates a file when it is run as code, in every form that a loader may meet it."""

import pickle
from pathlib import Path

import torch


class CreatesFile:
    """Unpickled without limits, it creates `marker`."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def torch_file(marker: Path, path: Path) -> Path:
    """As `torch.save` writes it."""
    torch.save({"weight": torch.ones(2), "evil": CreatesFile(marker)}, path)
    return path


def plain_file(marker: Path, path: Path) -> Path:
    """A bare pickle."""
    path.write_bytes(pickle.dumps(CreatesFile(marker)))
    return path


def runs(path: Path, marker: Path) -> bool:
    """Whether the planted file does what it is for where nothing keeps it from it; the marker is removed again."""
    if path.name.endswith("metadata"):
        pickle.loads(path.read_bytes()).close()
    else:
        torch.load(path, weights_only=False)["evil"].close()
    is_run = marker.exists()
    marker.unlink(missing_ok=True)
    return is_run
