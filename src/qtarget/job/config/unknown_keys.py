"""Keys that are none of ours: whose words they are, and what to write instead."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import qtarget as qt
from qtarget.console import shortened
from qtarget.data import Asker
from qtarget.job.config.keys import TRL_NAMES, all_keys
from qtarget.job.config.other_words import other_words_line, ours_for
from qtarget.target.hyperparameters import hyperparameters

FORMER_COLUMNS = {"prompt_column": "prompt", "completion_column": "completion"}
"""Keys of earlier versions, and the parts of `columns` that say the same."""


def unknown_keys(values: Mapping[str, Any], method: str, parameters: set[str]) -> Iterator[tuple[str, str]]:
    """Each key that is neither a configuration's nor one of the method's hyperparameters, and a sentence on it.

    Args:
        parameters: names of the method's hyperparameters.
    """
    for key, value in values.items():
        if key in parameters or key in all_keys():
            continue
        owners = [
            name for name, factory in qt.METHODS.items() if key in {each.name for each in hyperparameters(factory)}
        ]
        if owners and value is None:  # `--method dft --eta null` unsets the file's `eta`
            continue
        yield key, _of_another_method(key, method, owners) if owners else _unknown(key, values, parameters)


def _of_another_method(key: str, method: str, owners: list[str]) -> str:
    return (
        f'method "{method}" has no hyperparameter `{key}` (it belongs to {", ".join(owners)}); remove that line, or '
        f"write `--{key} null`."
    )


def _unknown(key: str, values: Mapping[str, Any], parameters: set[str]) -> str:
    if key in FORMER_COLUMNS:
        named = {part: values[former] for former, part in FORMER_COLUMNS.items() if former in values}
        return f"`{key}` is a part of `columns` now; write {Asker.COMMAND_LINE.line('columns', named)}."
    ours = ours_for(key)
    if ours is not None and ours in values:
        return f"unknown key `{key}`; it means the same as `{ours}`, which is given too, so remove it."
    line = other_words_line(key, values[key])
    if line is not None:
        return f"unknown key `{key}`; {line}."
    near = difflib.get_close_matches(key.lower().replace("-", "_"), [*parameters, *all_keys(), *TRL_NAMES], n=1)
    hint = f"did you mean `{near[0]}`?" if near else "keys are those of trl.SFTConfig and of `qtarget train --help`."
    return f"unknown key `{shortened(key)}`; {hint}"
