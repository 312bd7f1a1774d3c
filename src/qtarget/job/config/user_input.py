"""What the user wrote, in a file and in flags that override it, with the place of every key for error messages."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import qtarget as qt
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.keys import TRL_NAMES, all_keys
from qtarget.job.config.yaml_file import YamlFile, parse_scalar
from qtarget.target.hyperparameters import hyperparameters, suggestion

DEFAULT_METHOD = "target-sft"


@dataclass(frozen=True)
class UserInput:
    """Keys and values, and where each was written, as "config.yaml, line 3" or "--learning-rate"."""

    values: dict[str, Any]
    places: dict[str, str]

    def place(self, key: str) -> str:
        """Where the key was written; "the configuration" for one that was not."""
        return self.places.get(key, "the configuration")


def user_input(file: YamlFile, arguments: RunArguments) -> UserInput:
    """File and flags together, under our names for keys; a flag overrides the file.

    Raises:
        ValueError: an unknown key or method, a hyperparameter of another method, or the same thing given twice.
    """
    places = {key: f"{arguments.config}, line {line}" for key, line in file.lines.items()}
    values, places = _with_our_names(file.values, places)
    flags = {key: _flag_value(key, texts) for key, texts in arguments.flags.items()}
    flags, flag_places = _with_our_names(flags, {key: f"--{key}" for key in flags})
    return _with_hyperparameters(UserInput({**values, **flags}, {**places, **flag_places}), from_flags=set(flags))


def _with_our_names(values: Mapping[str, Any], places: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    for theirs, ours in TRL_NAMES.items():
        if theirs in values and ours in values:
            raise ValueError(f"{places[theirs]}: `{theirs}` and `{ours}` mean the same; keep one.")
    names = {key: TRL_NAMES.get(key, key) for key in values}
    return {names[key]: value for key, value in values.items()}, {names[key]: place for key, place in places.items()}


def _flag_value(key: str, texts: list[str]) -> Any:
    """The value of a flag: text for a key that takes only text, else read as YAML; True for a switch."""
    if not texts:
        return True
    is_text = all_keys().get(TRL_NAMES.get(key, key)) in (str, str | None)
    values = [text if is_text and text != "null" else parse_scalar(text) for text in texts]
    return values[0] if len(values) == 1 else values


def _with_hyperparameters(given: UserInput, from_flags: set[str]) -> UserInput:
    """The input with the method's hyperparameters moved into `method_kwargs`; an unknown key is refused."""
    name = str(given.values.get("method", DEFAULT_METHOD))
    if name not in qt.METHODS:
        raise ValueError(f"{given.place('method')}: no method {name!r}; {suggestion(name, qt.METHODS)}")
    parameters = {each.name for each in hyperparameters(qt.METHODS[name])}
    top_level = {key: given.values[key] for key in given.values if key in parameters}
    kwargs = given.values.get("method_kwargs") or {}
    both = [key for key in top_level if key in kwargs and key not in from_flags] if isinstance(kwargs, dict) else []
    if both:
        raise ValueError(f"{given.place(both[0])}: `{both[0]}` is in `method_kwargs` too; keep one.")
    _check_names(given, name, parameters)
    values = {key: value for key, value in given.values.items() if key in all_keys()}
    if top_level and isinstance(kwargs, dict):
        values["method_kwargs"] = {**kwargs, **top_level}
    return UserInput(values, given.places)


def _check_names(given: UserInput, method: str, parameters: set[str]) -> None:
    """Refuse a key that is neither a configuration's nor one of the method's hyperparameters."""
    for key in given.values:
        if key in parameters or key in all_keys():
            continue
        owners = [
            name for name, factory in qt.METHODS.items() if key in {each.name for each in hyperparameters(factory)}
        ]
        if owners and given.values[key] is None:  # `--method dft --eta null` unsets the file's `eta`
            continue
        if owners:
            raise ValueError(
                f'{given.place(key)}: method "{method}" has no hyperparameter `{key}` (it belongs to '
                f"{', '.join(owners)}); remove that line, or write `--{key} null`."
            )
        near = difflib.get_close_matches(key, [*parameters, *all_keys(), *TRL_NAMES], n=1)
        hint = (
            f"did you mean `{near[0]}`?" if near else "keys are those of trl.SFTConfig and of `qtarget train --help`."
        )
        raise ValueError(f"{given.place(key)}: unknown key `{key}`; {hint}")
