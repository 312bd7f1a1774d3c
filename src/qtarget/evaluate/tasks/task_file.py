"""A task in a YAML file: rows, fields, prompt, grader and protocol, with every mistake in it said at once."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from qtarget.console import printable
from qtarget.data.user_files.yaml_file import YamlFile, read_yaml
from qtarget.evaluate.grading.grader_settings import parse_grader
from qtarget.evaluate.nouns import SamplingProtocol, Task
from qtarget.evaluate.tasks.own_questions import OWN_PARTS
from qtarget.evaluate.tasks.own_task import name_of_file, own_ask, own_task

ENDINGS = (".yaml", ".yml")
KEYS: dict[str, Any] = {
    "name": str,
    "rows": str,
    "fields": dict[str, str | int],
    "prompt": str,
    "grader": str | dict[str, Any],
    "protocol": dict[str, Any],
}
"""Keys of a task file and their types; `rows` and `grader` must be there."""
PROTOCOL: dict[str, Any] = {"k": int, "temperature": float, "top_p": float, "max_new_tokens": int}
PATHS = ("file", "hand_grades")
"""Settings of graders that are paths, from the task file's folder."""


def read_task_file(path: Path) -> Task:
    """The task that a YAML file describes. Paths in it are from its own folder.

    Raises:
        ValueError: the file cannot be read, or what is wrong with its keys: all of it.
    """
    path = path.expanduser()
    file = read_yaml(path, "the task file", "`rows:` and `grader:`")
    if faults := list(_faults(file)):
        raise ValueError(f"{path} does not describe a task:\n" + "\n".join(f"  {fault}" for fault in faults))
    values = file.values
    name, settings = _grader(values["grader"], path.parent)
    ask = replace(own_ask(name), **{"prompt": values.get("prompt", own_ask(name).prompt), **values.get("protocol", {})})
    try:
        return own_task(
            path.parent / Path(values["rows"]).expanduser(),
            name,
            name=values.get("name", name_of_file(path.with_suffix(""))),
            fields={part: str(field) for part, field in values.get("fields", {}).items()},
            settings=settings,
            ask=ask,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _faults(file: YamlFile) -> Iterator[str]:
    yield from _unknown(file.values, KEYS, lambda key: f"line {file.lines[key]}: ")
    for key in ("rows", "grader"):
        if key not in file.values:
            example = "questions.jsonl" if key == "rows" else "exact"
            yield f"`{key}` is missing; write `{key}: {example}`"
    for key, value in file.values.items():
        if key in KEYS and (why := _not_of(KEYS[key], value)):
            yield f"line {file.lines[key]}: `{key}: {printable(str(value))}`: {why}"
        elif key in ("protocol", "fields"):
            parts: Any = PROTOCOL if key == "protocol" else dict.fromkeys(OWN_PARTS, Any)
            yield from _unknown(value, parts, lambda part, key=key: f"line {file.lines[key]}, in `{key}`: ")
            yield from _wrong_values(value, parts, f"line {file.lines[key]}, in `{key}`: ")
        elif key == "grader" and isinstance(value, dict) and not isinstance(value.get("name"), str):
            yield f"line {file.lines[key]}: `grader` has no `name`; write `grader: {{name: regex, pattern: …}}`"


def _unknown(values: Mapping[str, Any], known: Mapping[str, Any], place: Any) -> Iterator[str]:
    for key in values:
        if key in known:
            continue
        near = get_close_matches(str(key).lower().replace("-", "_"), [*known], n=1)
        inside = next((name for name, keys in (("protocol", PROTOCOL), ("fields", OWN_PARTS)) if key in keys), None)
        hint = f"did you mean `{near[0]}`?" if near else f"keys are {', '.join(map(_quoted, known))}."
        hint = f"it stands inside `{inside}:`." if inside and inside in known else hint
        yield f"{place(key)}unknown key `{printable(str(key))}`; {hint}"


def _wrong_values(values: Mapping[str, Any], known: Mapping[str, Any], place: str) -> Iterator[str]:
    for key, value in values.items():
        if key in known and (why := _not_of(known[key], value)):
            yield f"{place}`{key}: {printable(str(value))}`: {why}"
    if known is PROTOCOL and not any(_not_of(known[key], value) for key, value in values.items() if key in known):
        names = {field.name for field in fields(SamplingProtocol)}
        try:
            SamplingProtocol("plain", **{key: value for key, value in values.items() if key in names & known.keys()})
        except ValueError as error:
            yield f"{place}{error}"


def _not_of(kind: Any, value: Any) -> str:
    """Why a value is not of a type; "" where it is."""
    if isinstance(value, bool) and kind in (int, float):
        return "a number is expected"
    try:
        TypeAdapter(kind).validate_python(value, strict=kind is not float)
    except ValidationError as error:
        return error.errors()[0]["msg"]
    return ""


def _grader(given: str | Mapping[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    """The grader's name and its settings, the paths among them made whole."""
    word, settings = (given, {}) if isinstance(given, str) else (str(given["name"]), dict(given))
    settings.pop("name", None)
    name, more = parse_grader(word, folder)
    whole = {
        key: str((folder / Path(settings[key]).expanduser()).absolute())
        for key in PATHS
        if isinstance(settings.get(key), str)
    }
    return name, {**more, **settings, **whole}


def _quoted(key: str) -> str:
    return f"`{key}`"
