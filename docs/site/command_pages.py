"""The reference of the command line, read off its own commands."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import typer.main

from qtarget.cli.main import app
from qtarget.disk.pages import markdown

HEAD = """# Every command

Written from the code when the site is built. [The command line](../command-line.md) explains what a run is, and
[evaluation](../evaluation.md) what `eval`, `compare` and `answers` do.

Every command takes `--debug` (show the traceback of an error) and `--help`.
"""


def command_pages() -> dict[str, str]:
    """One page: every command with its words, options, defaults and help."""
    root = typer.main.get_command(app)
    sections = [_section(name, command) for name, command in commands(root, "qtarget")]
    return {"commands.md": "\n".join([HEAD, *sections])}


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by the words that call it; groups are gone into."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, each in inner.items():
        if not each.hidden:
            yield from commands(each, f"{name} {word}")


def _section(name: str, command: Any) -> str:
    shown = [each for each in command.params if not each.hidden and each.name != "help"]
    table = markdown(("argument or option", "default", "what it is"), [_row(each) for each in shown]) if shown else ""
    return f"## {name}\n\n{_usage(name, command)}\n\n{_help(command)}\n\n{table}\n"


def _usage(name: str, command: Any) -> str:
    words = [name, *(_word(each) for each in command.params if _is_argument(each))]
    words += [] if all(map(_is_argument, command.params)) else ["[OPTIONS]"]
    return f"```text\n{' '.join(words)}\n```"


def _is_argument(parameter: Any) -> bool:
    return parameter.param_type_name == "argument"


def _word(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper().strip("[]. ")
    name += " …" if argument.nargs == -1 else ""
    return name if argument.required else f"[{name}]"


def _help(command: Any) -> str:
    """The help text. Indented lines, which the terminal shows as they stand, become a code block."""
    text = inspect.cleandoc(command.help or "").replace("\b\n", "").replace("\b", "").replace("\f", "")
    paragraphs = text.split("\n\n")
    return "\n\n".join(f"```text\n{dedent(part)}\n```" if _is_code(part) else part for part in paragraphs)


def _is_code(paragraph: str) -> bool:
    return "\n " in paragraph or paragraph.startswith(" ")


def _row(parameter: Any) -> tuple[str, str, str]:
    text = " ".join((parameter.help or "").split())
    if _is_argument(parameter):
        return f"`{_word(parameter)}`", _default(parameter), _cell(text)
    spelled = ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))
    kind = "" if parameter.is_flag else f" {_kind(parameter.type_descriptor.annotation)}"
    return f"{spelled}{kind}", _default(parameter), _cell(text)


def _kind(annotation: Any) -> str:
    """What is written behind an option, in brackets: a type's name, or the words that it may be."""
    inner = [part for part in get_args(annotation) if part is not type(None)]
    if inner and all(isinstance(part, str) for part in inner):
        return f"({' or '.join(inner)})"
    if inner:
        return _kind(inner[0])
    members = getattr(annotation, "__members__", None)
    if members:
        return f"({' or '.join(str(each.value) for each in members.values())})"
    return {int: "(whole number)", float: "(number)", Path: "(path)"}.get(annotation, "(text)")


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return _cell(parameter.show_default)
    default = parameter.default
    if getattr(parameter, "is_flag", False) or default is None or callable(default) or default in ((), []):
        return "must be given" if parameter.required else ""
    return f"`{getattr(default, 'value', default)}`"


def _cell(text: str) -> str:
    """Text within a table's cell: what Markdown would read as a mark is spelled out."""
    return text.replace("|", "\\|").replace("<", "&lt;")
