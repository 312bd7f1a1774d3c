"""The reference of a configuration's keys, read off the classes that take them."""

import re
from dataclasses import fields
from enum import Enum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from transformers import TrainingArguments
from trl import SFTConfig
from trl.trainer.model_config import ModelConfig

from qtarget.disk.pages import markdown
from qtarget.job.config.key_descriptions import key_descriptions
from qtarget.job.config.keys import RUN_KEYS, model_keys, trainer_keys

HEAD = """# Every configuration key

Written from the code when the site is built, from the classes of the installed versions. A key stands at the top
level of the YAML file of `qtarget train`, or behind the command as a flag with dashes (`--learning-rate 1e-5`).
[The command line](../command-line.md#keys) says how a file is read, what is refused, and which words of other trainers
are known; the hyperparameters of methods stand with [every method](methods.md).

The sections "TRL's" and "transformers'" quote those libraries' own help texts (both Apache-2.0), where they say
something.
"""
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "mapping", Any: "anything"}


def key_pages() -> dict[str, str]:
    """One page: every key with its type, default and meaning, by who reads it."""
    return {
        "keys.md": "\n\n".join([HEAD, *(f"## {title}\n\n{_table(keys)}" for title, keys in key_sections().items())])
    }


def key_sections() -> dict[str, dict[str, Any]]:
    """Keys and types, under the heading of the class that has them."""
    trl, theirs = _names(SFTConfig), _names(TrainingArguments)
    trainers = {key: hint for key, hint in trainer_keys().items() if key not in RUN_KEYS}
    return {
        "The run's own": {key: hint for key, (hint, _) in RUN_KEYS.items()},
        "The objective, its models, and rows": {k: h for k, h in trainers.items() if k not in trl},
        "TRL's: rows and loss": {k: h for k, h in trainers.items() if k in trl and k not in theirs},
        "TRL's: model and adapter": {k: h for k, h in model_keys().items() if k in _names(ModelConfig)},
        "transformers': training": {k: h for k, h in trainers.items() if k in theirs},
    }


def _names(config: type) -> set[str]:
    return {field.name for field in fields(config)}


def _table(keys: dict[str, Any]) -> str:
    described = key_descriptions()
    rows = [
        (f"`{key}`", _type(hint), _default(described[key].default), _cell(described[key].text))
        for key, hint in keys.items()
    ]
    return markdown(("key", "type", "default", "meaning"), rows)


def _type(hint: Any) -> str:
    """A type in words: what one writes behind the key."""
    if getattr(hint, "__metadata__", None) is not None:
        return _type(hint.__origin__)
    inner = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) is Literal:
        return " or ".join(f"`{part}`" for part in inner)
    if get_origin(hint) in (Union, UnionType):
        words = list(dict.fromkeys(map(_type, inner)))
        return " or ".join([*words, *(["null"] if len(inner) < len(get_args(hint)) else [])])
    if get_origin(hint) in (list, tuple):
        return f"list of {_type(inner[0])}" if inner else "list"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " or ".join(f"`{member.value}`" for member in hint)
    return WORDS.get(get_origin(hint) or hint, "mapping")


def _default(value: Any) -> str:
    if value is None:
        return ""
    shown = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else str(value)
    return f"`{shown}`" if shown else "`''`"


def _cell(text: str) -> str:
    """Text within a table's cell. Between backticks it is code; elsewhere signs of Markdown are spelled out."""
    parts = text.replace("|", "\\|").split("`")
    plain = [re.sub(r"([*_<\[])", r"\\\1", part) for part in parts[::2]]
    return "`".join(
        part for pair in zip(plain, [*parts[1::2], None], strict=False) for part in pair if part is not None
    )
