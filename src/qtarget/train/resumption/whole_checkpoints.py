"""Checkpoints of a run: which are whole, so that training can go on from them, and what is wrong with the others."""

import json
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from qtarget.disk.seal import SEAL, damage, read_seal
from qtarget.train.resumption.branches import Line, branches_to, latest, step_left_behind

STATE, INDEX = "trainer_state.json", "model.safetensors.index.json"
SAFE_WEIGHTS = ("model.safetensors", "adapter_model.safetensors")
PICKLED_WEIGHTS = ("pytorch_model.bin", "adapter_model.bin")
GATHERED_WEIGHTS, GATHERED_OPTIMIZER = "pytorch_model_fsdp.bin", "optimizer.bin"
"""FSDP's own under FULL_STATE_DICT, beside the safetensors."""
SHARDED_STATES = ("pytorch_model_fsdp_*", "global_step*")
"""Folders of FSDP's and DeepSpeed's own checkpoints, which hold optimizer and weights; their contents are not read."""
UNSEALED = f"it has no {SEAL}, which says that it is whole; `resume_unsealed: true` takes it unchecked"
_RESULT_FILES = frozenset(
    {
        *SAFE_WEIGHTS,
        INDEX,
        STATE,
        SEAL,
        "README.md",
        "config.json",
        "generation_config.json",
        "adapter_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "metrics.json",
        "train.yaml",
        "training.png",
    }
)
NAME = re.compile(r"checkpoint-(\d+)", re.ASCII)


class BrokenCheckpoint(NamedTuple):
    """A checkpoint that cannot be resumed from, and why."""

    folder: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.folder} ({self.reason})"


class Checkpoints(NamedTuple):
    """What a run's output directory holds.

    Attributes:
        newest: the whole checkpoint of the highest step, of the branch that was written last, or None.
        skipped: those of higher steps, the highest first: not whole, or of a branch that was left.
    """

    newest: Path | None
    skipped: tuple[BrokenCheckpoint, ...] = ()


def numbered_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The folders in an output directory that are named as checkpoints are, with their steps, the highest first."""
    named = [(NAME.fullmatch(each.name), each) for each in folder.iterdir()] if folder.is_dir() else []
    return sorted(((int(match[1]), each) for match, each in named if match and each.is_dir()), reverse=True)


def refuse_taken_names(folder: Path) -> None:
    """Refuse an output directory in which something that is no folder has the name of a checkpoint, or a folder that of
    a file of the result.

    Raises:
        ValueError: names it.
    """
    for each in sorted(folder.iterdir()) if folder.is_dir() else ():
        if NAME.fullmatch(each.name) and not each.is_dir():
            what = "a link to nothing" if each.is_symlink() else "a file"
            raise ValueError(
                f"{each} is {what}, and a checkpoint of that name would take its place; move it away, as in "
                f"`mv {each} {each}.kept`."
            )
        if each.name in _RESULT_FILES and each.is_dir():
            raise ValueError(
                f"{each} is a folder, and a file of that name is a part of the result; move it away, as in "
                f"`mv {each} {each}.kept`."
            )


def checkpoints_in(
    folder: Path, accepts_unsealed: bool = False, hashed: bool = True, line: Line | None = None
) -> Checkpoints:
    """The newest whole checkpoint of an output directory, and those above it that are not whole, or of a branch that
    was left.

    Args: as of `checkpoint_fault`, and
        line: of the run that is asked for; None for the one that was written last.
    """
    skipped: list[BrokenCheckpoint] = []
    found = [(step, each, branches_to(each)) for step, each in numbered_checkpoints(folder)]
    line = line or latest(own for *_, own in found)
    for step, each, own in found:
        back = step_left_behind(own, step, line)
        left = None if back is None else f"it is of a branch that was left: the run went back to step {back}"
        reason = left or checkpoint_fault(each, accepts_unsealed, hashed)
        if reason is None:
            return Checkpoints(each, tuple(skipped))
        skipped.append(BrokenCheckpoint(each, reason))
    return Checkpoints(None, tuple(skipped))


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint is of."""
    return int(json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["global_step"])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in a run's output directory, if there is one; its files are not hashed again."""
    return checkpoints_in(folder, hashed=False).newest


def checkpoint_fault(folder: Path, accepts_unsealed: bool = False, hashed: bool = True) -> str | None:
    """Why training cannot go on from a folder, or None.

    Args:
        accepts_unsealed: whether a folder without a manifest will do, as plain transformers and TRL write them. Of
            such a one only this is looked at: whether the files are there, and end where they should.
        hashed: whether the files of a sealed folder are read and hashed, and not only measured.
    """
    if not any(folder.iterdir()):
        return "it is empty"
    if (folder / SEAL).is_file():
        return _seal_fault(folder, hashed) or _contents_fault(folder)
    if accepts_unsealed:
        return _contents_fault(folder)
    return _contents_fault(folder) or UNSEALED


def _seal_fault(folder: Path, hashed: bool) -> str | None:
    try:
        sealed = read_seal(folder)
        wrong = damage(folder, sealed, hashed)
    except ValueError as error:
        return str(error)
    step, match = sealed.facts.get("step"), NAME.fullmatch(folder.name)
    if match and step is not None and step != int(match[1]):
        return f"{SEAL} is of step {step}"
    return None if not wrong else "; ".join(wrong)


def _contents_fault(folder: Path) -> str | None:
    try:
        step = json.loads((folder / STATE).read_text(encoding="utf-8"))["global_step"]
    except FileNotFoundError:
        return f"it has no {STATE}"
    except (ValueError, KeyError, TypeError, OSError):
        return f"{STATE} is damaged"
    if (match := NAME.fullmatch(folder.name)) and step != int(match[1]):
        return f"{STATE} is of step {step}"
    if any(True for pattern in SHARDED_STATES for _ in folder.glob(pattern)):
        return None
    return _weights_fault(folder) or _state_fault(folder)


def _weights_fault(folder: Path) -> str | None:
    for name in PICKLED_WEIGHTS:
        if (folder / name).is_file():
            return _zip_fault(folder / name)
    found = _shards(folder) or [name for name in SAFE_WEIGHTS if (folder / name).is_file()]
    if not found:
        return "it has no weights"
    return next((fault for name in found if (fault := _tensors_fault(folder / name))), None)


def _shards(folder: Path) -> list[str]:
    """The files that an index of weights in several files names; one that cannot be read stands for itself."""
    if not (folder / INDEX).is_file():
        return []
    try:
        return sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError):
        return [INDEX]


def _tensors_fault(path: Path) -> str | None:
    if not path.is_file():
        return f"it has no {path.name}"
    try:
        with safe_open(path, "pt"):
            return None
    except (SafetensorError, OSError):
        return f"{path.name} is damaged"


def _state_fault(folder: Path) -> str | None:
    """What is wrong with the states of optimizer, schedule and random numbers."""
    random = sorted(folder.glob("rng_state*.pth"))
    if not random:
        return "it has no rng_state.pth"
    is_gathered = (folder / GATHERED_WEIGHTS).is_file()
    optimizer = (GATHERED_WEIGHTS, GATHERED_OPTIMIZER) if is_gathered else ("optimizer.pt",)
    paths = [*(folder / name for name in optimizer), folder / "scheduler.pt", *random]
    return next((fault for path in paths if (fault := _zip_fault(path))), None)


def _zip_fault(path: Path) -> str | None:
    """What is wrong with a file of `torch.save`, which ends with the table of a zip archive."""
    if not path.is_file():
        return f"it has no {path.name}"
    return None if zipfile.is_zipfile(path) else f"{path.name} is damaged"
