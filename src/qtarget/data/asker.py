"""Who asked for a run, a command-line user or a Python program: errors write the line that mends them accordingly."""

import json
import shlex
from enum import Enum
from typing import Any


class Asker(Enum):
    """Who set up the trainer, and so how a line that sets one of `TargetSFTConfig`'s keys is written.

    >>> Asker.COMMAND_LINE.line("packing_strategy", "wrapped")
    '`packing_strategy: wrapped` (or --packing-strategy wrapped)'
    >>> Asker.COMMAND_LINE.line("eos_token", "<|end|>")
    "`eos_token: <|end|>` (or --eos-token '<|end|>')"
    >>> Asker.PYTHON.line("packing_strategy", "wrapped")
    "`TargetSFTConfig(packing_strategy='wrapped')`"
    """

    COMMAND_LINE = "command line"
    PYTHON = "python"

    def setting(self, key: str, value: Any) -> str:
        """A key and its value, as a file or a call has them.

        >>> Asker.COMMAND_LINE.setting("eta", {"from": 0.2, "to": 0.8})
        '`eta: {from: 0.2, to: 0.8}`'
        """
        return f"`{key}={value!r}`" if self is Asker.PYTHON else f"`{key}: {_yaml(value)}`"

    def line(self, key: str, value: Any) -> str:
        """The line to write: a key of the YAML file, with its flag where a flag can say it; in Python an argument."""
        if self is Asker.PYTHON:
            return f"`TargetSFTConfig({key}={value!r})`"
        flag = "" if isinstance(value, dict | list) else f" (or --{key.replace('_', '-')} {shlex.quote(_yaml(value))})"
        return f"{self.setting(key, value)}{flag}"


def _yaml(value: Any) -> str:
    """A value as YAML writes it on one line: `{prompt: question}`, `[a, b]`, `true`, `null`, text without quotes."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_yaml(each)}" for key, each in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_yaml, value)) + "]"
        case bool() | None:
            return json.dumps(value)
    return str(value)
