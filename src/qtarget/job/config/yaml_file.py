"""YAML 1.2 (`1e-5` is a number, `no` is text), with the line of every key for error messages."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from qtarget.job.config.paths import existing_file

FLOAT, BOOL, TIMESTAMP = (f"tag:yaml.org,2002:{name}" for name in ("float", "bool", "timestamp"))


class CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's scalars: `1e-5` is a number, `no` and dates are text."""


CoreLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (BOOL, TIMESTAMP)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
CoreLoader.add_implicit_resolver(BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
CoreLoader.add_implicit_resolver(
    FLOAT, re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")
)


class YamlFile(NamedTuple):
    """The keys and values of a file, and the line of each key."""

    values: dict[str, Any]
    lines: dict[str, int]


def read_yaml(path: Path) -> YamlFile:
    """The mapping in a YAML file.

    Raises:
        ValueError: no such file (naming the closest), no YAML, no `key: value` lines, or a key written twice.
    """
    text = existing_file(path, "the configuration").read_text(encoding="utf-8-sig")
    try:
        loader = CoreLoader(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ValueError(f"{path} holds no `key: value` lines; write at least `model:` and `train_dataset:`.")
        lines = _lines(root, path)
        values = loader.construct_document(root)
        return YamlFile({str(key): value for key, value in values.items()}, lines)
    except yaml.MarkedYAMLError as error:
        raise ValueError(_syntax(error, path)) from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error


def parse_scalar(text: str) -> Any:
    """The value of a text as YAML reads it; the text itself where it is not YAML."""
    try:
        return yaml.load(text, CoreLoader)
    except yaml.YAMLError:
        return text


def _lines(root: yaml.MappingNode, path: Path) -> dict[str, int]:
    lines: dict[Hashable, int] = {}
    for key, _ in root.value:
        line = key.start_mark.line + 1
        if key.value in lines:
            raise ValueError(
                f"{path}, line {line}: `{key.value}` is already written on line {lines[key.value]}; keep one."
            )
        lines[key.value] = line
    return {str(key): line for key, line in lines.items()}


def _syntax(error: yaml.MarkedYAMLError, path: Path) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
    reason = ", ".join(part for part in (error.context, error.problem) if part)
    return f"{where}: this is not YAML ({reason}). Write one `key: value` a line, and quote text with `:` or `#` in it."
