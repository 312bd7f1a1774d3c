"""A run's command line: a configuration file, and flags over it: `--key value`, `--key=value`, `--switch`."""

from pathlib import Path
from typing import NamedTuple

from qtarget.console import shortened


class RunArguments(NamedTuple):
    """Arguments of `qtarget train` and its like.

    Attributes:
        config: the configuration file; None where every key is a flag.
        flags: the texts behind each key, none behind a switch.
    """

    config: Path | None
    flags: dict[str, list[str]]


def parse_arguments(arguments: list[str]) -> RunArguments:
    """Split `config.yaml --learning-rate 1e-5 --packing` into the file and its flags.

    Dashes and underscores are the same in keys. A key without a value is a switch; several values are a list. The file
    may also be given as `--config FILE`, as in TRL's scripts.

    Raises:
        ValueError: a value without a key, or a key given twice.
    """
    rest = list(arguments)
    config = Path(rest.pop(0)) if rest and not rest[0].startswith("--") else None
    flags: dict[str, list[str]] = {}
    while rest:
        key, values = _next_flag(rest)
        if key in flags:
            raise ValueError(f"--{key} is given twice; keep one.")
        flags[key] = values
    if config is None and flags.get("config"):
        config = Path(flags.pop("config")[0])
    return RunArguments(config, flags)


def _next_flag(rest: list[str]) -> tuple[str, list[str]]:
    """Take a flag and its values off the front of `rest`."""
    flag = rest.pop(0)
    if not flag.startswith("--"):
        shown = shortened(flag)
        raise ValueError(f"{shown!r} belongs to no key; write `--key {shown}`, with the configuration file first.")
    key, equals, value = flag[2:].partition("=")
    if not key.strip("-_"):
        raise ValueError(f"{shortened(flag)!r} stands without a key; write `--key value`.")
    values = [value] if equals else []
    while not equals and rest and not rest[0].startswith("--"):
        values.append(rest.pop(0))
    return key.replace("-", "_"), values
