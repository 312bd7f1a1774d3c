"""What the user wrote, in a file and in flags that override it, with the place of every key for error messages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import qtarget as qt
from qtarget.data.user_files.yaml_file import YamlFile, parse_scalar
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.keys import TRL_NAMES, all_keys
from qtarget.job.config.secrets_given import refuse_secrets
from qtarget.job.config.unknown_keys import unknown_keys
from qtarget.target.hyperparameters import hyperparameters, suggestion

DEFAULT_METHOD = "target-sft"


@dataclass(frozen=True)
class UserInput:
    """Keys and values, and where each was written, as "config.yaml, line 3" or "--learning-rate".

    Attributes:
        complaints: what is wrong with names of keys, a sentence each; `check_job` raises them with all others.
    """

    values: dict[str, Any]
    places: dict[str, str]
    complaints: tuple[str, ...] = ()

    def place(self, key: str) -> str:
        """Where the key was written; "the configuration" for one that was not."""
        return self.places.get(key, "the configuration")


def user_input(file: YamlFile, arguments: RunArguments) -> UserInput:
    """File and flags together, under our names for keys; a flag overrides the file.

    Raises:
        ValueError: the same thing given under two names, or a secret that would be saved with the run.
    """
    places = {key: f"{arguments.config}, line {line}" for key, line in file.lines.items()}
    values, places = _with_our_names(file.values, places)
    flags = {key: _flag_value(key, texts) for key, texts in arguments.flags.items()}
    flags, flag_places = _with_our_names(flags, {key: f"--{key}" for key in flags})
    refuse_secrets({**values, **flags}, {**places, **flag_places})
    return _with_hyperparameters(UserInput({**values, **flags}, {**places, **flag_places}), from_flags=set(flags))


def _with_our_names(values: Mapping[str, Any], places: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    for theirs, ours in TRL_NAMES.items():
        if theirs in values and ours in values:
            raise ValueError(f"{places[theirs]}: `{theirs}` and `{ours}` mean the same; keep one.")
    names = {key: TRL_NAMES.get(key, key) for key in values}
    return {names[key]: value for key, value in values.items()}, {names[key]: place for key, place in places.items()}


def _flag_value(key: str, texts: list[str]) -> Any:
    """The value of a flag: text for a key that takes only text, else read as YAML, of which an empty text stays one;
    True for a switch."""
    if not texts:
        return True
    is_text = all_keys().get(TRL_NAMES.get(key, key)) in (str, str | None)
    values = [text if (is_text and text != "null") or not text else parse_scalar(text) for text in texts]
    return values[0] if len(values) == 1 else values


def _with_hyperparameters(given: UserInput, from_flags: set[str]) -> UserInput:
    """The input with the method's hyperparameters moved into `method_kwargs`, and what is wrong with its names."""
    name = str(given.values.get("method", DEFAULT_METHOD))
    if name not in qt.METHODS:
        wrong = f"{given.place('method')}: no method {name!r}; {suggestion(name, qt.METHODS)}"
        every = {each.name for factory in qt.METHODS.values() for each in hyperparameters(factory)}
        return replace(_known(given), complaints=(wrong, *_strange(given, name, every)))
    parameters = {each.name for each in hyperparameters(qt.METHODS[name])}
    top_level = {key: given.values[key] for key in given.values if key in parameters}
    kwargs = given.values.get("method_kwargs") or {}
    both = [key for key in top_level if key in kwargs and key not in from_flags] if isinstance(kwargs, dict) else []
    twice = [f"{given.place(key)}: `{key}` is in `method_kwargs` too; keep one." for key in both]
    known = _known(given)
    if top_level and isinstance(kwargs, dict):
        known.values["method_kwargs"] = {**kwargs, **top_level}
    return replace(known, complaints=(*twice, *_strange(given, name, parameters)))


def _known(given: UserInput) -> UserInput:
    return UserInput({key: value for key, value in given.values.items() if key in all_keys()}, given.places)


def _strange(given: UserInput, method: str, parameters: set[str]) -> Iterator[str]:
    for key, sentence in unknown_keys(given.values, method, parameters):
        yield f"{given.place(key)}: {sentence}"
