"""Text files are read and written as UTF-8, whatever the machine's own code page is: Greek letters are everywhere."""

import ast

import pytest
from house.package import modules

TEXT = {"read_text": 0, "write_text": 1}
"""Methods of `Path` that read or write text, and how many arguments stand before the encoding."""


@pytest.mark.parametrize("module", modules())
def test_text_files_say_their_encoding(module: str):
    calls = [node for node in ast.walk(modules()[module]) if isinstance(node, ast.Call)]
    assert [call.lineno for call in calls if opens_text(call) and not says_encoding(call)] == []


@pytest.mark.parametrize("wrong", ["path.read_text()", "path.write_text(x)", "open(path)", "path.open('a')"])
def test_a_call_without_one_is_seen(wrong: str):
    call = ast.parse(wrong, mode="eval").body
    assert isinstance(call, ast.Call)
    assert opens_text(call)
    assert not says_encoding(call)


def opens_text(call: ast.Call) -> bool:
    """Whether a call opens a file of text: `open` in a mode without b, of its own or of a path."""
    if name_of(call) != "open":
        return name_of(call) in TEXT
    of_os = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "os"
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return not of_os and not any("b" in mode and len(mode) < 4 for mode in modes)


def says_encoding(call: ast.Call) -> bool:
    named = any(keyword.arg == "encoding" for keyword in call.keywords)
    return named or len(call.args) > TEXT.get(name_of(call), len(call.args))


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
