"""What names a model's files: indexes of weights in several files, and its configuration. They stay in its folder."""

from pathlib import Path

from qtarget.disk.inside import leads_outside
from qtarget.models.pickled_weights import NAMED_IN_CONFIG, indexes_of, named_shards, weights_in_config


def refuse_shards_outside(folder: Path) -> None:
    """Refuse a model's folder of which an index, or the configuration, names a file that is not in it.

    Raises:
        ValueError: names the index or configuration, and the file.
    """
    named = [(f"{folder / 'config.json'} ({NAMED_IN_CONFIG})", name) for name in weights_in_config(folder)]
    for where, name in named:
        _refuse_outside(where, name)
    for index in indexes_of(folder):
        for name in named_shards(index):
            _refuse_outside(str(index), name)


def _refuse_outside(where: str, name: str) -> None:
    if leads_outside(name):
        raise ValueError(
            f"{where} names {name!r}, which is no file of that folder: it was tampered with, so do not use it."
        )
