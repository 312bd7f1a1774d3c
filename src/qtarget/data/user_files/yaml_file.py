"""YAML 1.2 (`1e-5` is a number, `no` is text), with the line of every key for error messages."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from qtarget.console import shortened
from qtarget.data.user_files.paths import existing_file

FLOAT, BOOL, TIMESTAMP = (f"tag:yaml.org,2002:{name}" for name in ("float", "bool", "timestamp"))


MOST_VALUES = 100_000
"""Values in a configuration, references written out: beyond it, it is no configuration."""
DEEP = re.compile(r"(?:[\[{]\s*){300}")
"""Brackets within brackets that no configuration has; PyYAML would take seconds to find that out."""
ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"PAR1", b"GGUF", b"\x93NUMPY", b"\x89PNG")
"""How files begin that are no text."""


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


def read_yaml(path: Path, what: str = "the configuration", least: str = "`model:` and `train_dataset:`") -> YamlFile:
    """The mapping in a YAML file.

    Args:
        what: names the file in an error, at its beginning.
        least: the keys that such a file has at least, as an error names them.

    Raises:
        ValueError: no such file (naming the closest), no text, no YAML, no `key: value` lines, or a key written twice.
    """
    text = _text(path, what)
    try:
        _check_depth(text)
        loader = CoreLoader(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ValueError(_no_mapping(path, root, least))
        lines = _lines(root, path)
        _check_size(root, str(path))
        values = _values(loader, root, str(path))
        return YamlFile({str(key): value for key, value in values.items()}, lines)
    except yaml.MarkedYAMLError as error:
        raise ValueError(_syntax(error, path)) from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path} nests brackets too deeply; write one `key: value` a line.") from error


def parse_scalar(text: str) -> Any:
    """The value of a text as YAML reads it; the text itself where it is not YAML.

    Raises:
        ValueError: the text is YAML that nests too deeply, or grows too large when it is written out.
    """
    try:
        _check_depth(text)
        loader = CoreLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _check_size(root, shortened(text))
        return _values(loader, root, shortened(text))
    except yaml.YAMLError:
        return text
    except RecursionError as error:
        raise ValueError(f"{shortened(text)} nests brackets too deeply; write the value itself.") from error


def _check_depth(text: str) -> None:
    if DEEP.search(text):
        raise RecursionError("brackets within brackets")


def _values(loader: CoreLoader, root: yaml.Node, name: str) -> Any:
    """What the nodes stand for; ValueError for a value that is not what it says it is, as `!!int x`."""
    _check_written_once(root, name)
    try:
        return loader.construct_document(root)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{name} holds a value that cannot be read ({error}); write it without `!!`.") from error


def _check_written_once(node: yaml.Node, name: str) -> None:
    """Refuse a key that stands twice in a mapping within a value: YAML would take the last without a word."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"{name}, line {node.start_mark.line + 1}: `{key}` is written twice; keep one.")
    children = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else []
    for child in node.value if isinstance(node, yaml.SequenceNode) else children:
        _check_written_once(child, name)


def _text(path: Path, what: str) -> str:
    raw = existing_file(path, what).read_bytes()
    if b"\0" in raw or raw.startswith(ARCHIVES):
        kind = f"a {path.suffix} file" if path.suffix in (".gguf", ".safetensors", ".parquet", ".zip") else "no text"
        raise ValueError(f"{what} {path} is {kind}; name a YAML file of `key: value` lines first.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8.") from error


def _no_mapping(path: Path, root: yaml.Node | None, least: str) -> str:
    found = {yaml.SequenceNode: "holds a list", yaml.ScalarNode: "holds a single value"}.get(type(root), "is empty")
    if path.suffix in (".json", ".jsonl"):
        found += ", and seems to be rows (`train_dataset: FILE` names those)"
    return f"{path} {found}: it holds no `key: value` lines; write at least {least}."


def _check_size(root: yaml.Node, name: str) -> None:
    """Refuse a few lines that stand for millions of values, by references (`*a`) to references."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = MOST_VALUES + 1  # while its parts are counted: a part that refers to the whole has no end
            children = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else []
            children = node.value if isinstance(node, yaml.SequenceNode) else children
            sizes[id(node)] = 1 + sum(map(size, children))
        return sizes[id(node)]

    if size(root) > MOST_VALUES:
        raise ValueError(
            f"{name} holds more than {MOST_VALUES:,} values when its references (`*name`) are written out."
        )


def _lines(root: yaml.MappingNode, path: Path) -> dict[str, int]:
    lines: dict[Hashable, int] = {}
    for key, _ in root.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ValueError(
                f"{path}, line {line}: a key is a word, and this is a list or a mapping; write `key: value`."
            )
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
    if "'\\t'" in reason:
        return f"{where}: a tab indents or separates here, which YAML does not take; write spaces in its place."
    return f"{where}: this is not YAML ({reason}). Write one `key: value` a line, and quote text with `:` or `#` in it."
