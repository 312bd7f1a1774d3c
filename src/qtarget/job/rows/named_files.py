"""Files that a folder of rows names: those of `save_to_disk`, and of a card as on the hub. They stay in the folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCard

from qtarget.console import printable
from qtarget.disk.inside import leads_outside

_CARD, _OWN_CARD = "README.md", ".huggingface.yaml"
_OF_CARD = ("data_files", "data_dir")


def refuse_rows_outside(folder: Path, key: str) -> None:
    """Refuse a folder of rows of which a file names rows that are not in it.

    Args:
        key: the key of the configuration that names the folder.

    Raises:
        ValueError: names the file, and what it names.
    """
    for file, name in _named(folder):
        if leads_outside(name):
            raise ValueError(
                f"`{key}`: {file} names {printable(name, 200)!r}, which is no file of {folder}; take the folder as it "
                "was published, or name the file of rows itself."
            )


def _named(folder: Path) -> Iterator[tuple[Path, str]]:
    splits = folder / "dataset_dict.json"
    names = [str(name) for name in _listed(splits, "splits")]
    yield from ((splits, name) for name in names)
    for state in (folder / "state.json", *(folder / name / "state.json" for name in names)):
        for each in _listed(state, "_data_files"):
            yield state, str(each.get("filename")) if isinstance(each, dict) else str(each)
    for card in (folder / _CARD, folder / _OWN_CARD):
        yield from ((card, name) for name in _of_card(_said(card)))


def _listed(file: Path, field: str) -> list[Any]:
    """A list in a JSON file; none where it is not there or damaged, which reading it says."""
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get(field)
    except (OSError, ValueError, AttributeError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _said(card: Path) -> Any:
    """What a card's head says, as `datasets` reads it; None where it cannot be read, which `datasets` says too."""
    if not card.is_file():
        return None
    try:
        return DatasetCard.load(card).data.to_dict() if card.name == _CARD else yaml.safe_load(card.read_bytes())
    except Exception:
        return None


def _of_card(said: Any, is_named: bool = False) -> Iterator[str]:
    """The texts below the fields that name files."""
    if isinstance(said, str) and is_named:
        yield said
    for each in said if isinstance(said, list) else ():
        yield from _of_card(each, is_named)
    for name, each in said.items() if isinstance(said, dict) else ():
        yield from _of_card(each, is_named or name in _OF_CARD)
