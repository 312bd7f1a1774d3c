"""Flags over the configuration file: `--key value`, `--key=value`, `--switch`."""

from pathlib import Path
from typing import NamedTuple


class Words(NamedTuple):
    """What stood on the command line: the file, and the words behind each key."""

    config: Path | None
    flags: dict[str, list[str]]


def parse_words(words: list[str]) -> Words:
    """`config.yaml --learning-rate 1e-5 --packing` taken apart.

    Dashes and underscores are the same in keys. A key without a word is a switch; several words are a list. The file
    may stand behind `--config` too, as in TRL's scripts.

    Raises:
        ValueError: a word that belongs to no key, or a key given twice.
    """
    rest = list(words)
    config = Path(rest.pop(0)) if rest and not rest[0].startswith("--") else None
    flags: dict[str, list[str]] = {}
    while rest:
        key, values = _next_flag(rest)
        if key in flags:
            raise ValueError(f"--{key} is given twice; keep one.")
        flags[key] = values
    if config is None and flags.get("config"):
        config = Path(flags.pop("config")[0])
    return Words(config, flags)


def _next_flag(rest: list[str]) -> tuple[str, list[str]]:
    word = rest.pop(0)
    if not word.startswith("--"):
        raise ValueError(f"{word!r} belongs to no key; write `--key {word}`, with the configuration file first.")
    key, equals, value = word[2:].partition("=")
    values = [value] if equals else []
    while not equals and rest and not rest[0].startswith("--"):
        values.append(rest.pop(0))
    return key.replace("-", "_"), values
