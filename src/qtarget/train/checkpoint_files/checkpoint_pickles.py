"""The pickles of a checkpoint are looked at before they are read.

Those of FSDP's sharded checkpoints torch reads without limits. The others (optimizer, schedule, random numbers)
transformers reads with `weights_only`, which runs nothing and does not name the file that it refuses.
"""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from qtarget.disk.seal import path_inside
from qtarget.models.pickle_contents import check_pickles

METADATA_MODULES = ("torch.distributed.checkpoint.metadata",)
"""Modules of which every class may be named."""
HARMLESS_NAMES = {
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib", "WindowsPath"),
    ("collections", "OrderedDict"),
}
TENSOR_FORMATS = (torch.dtype, torch.layout, torch.memory_format)


STATE_PICKLES = (
    "optimizer.pt",
    "optimizer.bin",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "pytorch_model_fsdp*.bin",
)
OTHER_CHECKPOINT = "resume from another checkpoint"


def check_checkpoint_pickles(folder: Path) -> None:
    """Refuse a checkpoint that holds more than numbers, texts and torch's own records.

    Raises:
        ValueError: names the file, and what it would have called.
    """
    check_pickles((path for pattern in STATE_PICKLES for path in sorted(folder.glob(pattern))), OTHER_CHECKPOINT)
    for path in sorted(folder.rglob("*.metadata")):
        try:
            found = MetadataUnpickler(path.read_bytes()).load()
            for entry in _entries(path.parent, found):
                torch.load(io.BytesIO(entry), map_location="cpu", weights_only=True)
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"{path}, or a file beside it, holds more than a checkpoint's numbers ({reason}), and could run code "
                f"or read other files when it is read; {OTHER_CHECKPOINT}."
            ) from error


class MetadataUnpickler(pickle.Unpickler):
    """Reads the metadata of a distributed checkpoint, and makes nothing but what belongs into one."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))

    def find_class(self, module: str, name: str) -> Any:
        if "." not in name and (module in METADATA_MODULES or module == "torch" or (module, name) in HARMLESS_NAMES):
            found = super().find_class(module, name)
            is_own = isinstance(found, type) and found.__module__ == module and module in METADATA_MODULES
            if is_own or isinstance(found, TENSOR_FORMATS) or (module, name) in HARMLESS_NAMES:
                return found
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _entries(folder: Path, metadata: Any) -> Iterator[bytes]:
    """The pickles among a distributed checkpoint's entries: whatever is no tensor. No entry may lie elsewhere."""
    for index, stored in (metadata.storage_data or {}).items():
        path_inside(stored.relative_path)
        if type(metadata.state_dict_metadata[index.fqn]).__name__ == "BytesStorageMetadata":
            with (folder / stored.relative_path).open("rb") as file:
                file.seek(stored.offset)
                yield file.read(stored.length)
