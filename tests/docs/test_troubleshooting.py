"""docs/troubleshooting.md explains errors by their words: every one that it quotes is one that the code says."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from house.package import modules

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
QUOTED = re.compile(r"^### `(.+)`$", re.MULTILINE)


@cache
def said() -> list[str]:
    """Every text in the package and every class of an error; … stands for what is filled in."""
    texts = []
    for tree in modules().values():
        joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        texts += ["".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values) for node in joined]
        texts += [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        texts += [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return texts


def is_said(quoted: str) -> bool:
    """Whether some text has the quoted parts in this order."""
    parts = [re.escape(part.strip()) for part in quoted.replace("`", "").split("…") if part.strip()]
    pattern = re.compile(".*?".join(parts), re.DOTALL)
    return any(pattern.search(text.replace("`", "")) for text in said())


@pytest.mark.parametrize("quoted", QUOTED.findall(PAGE.read_text(encoding="utf-8")))
def test_a_quoted_error_is_one_that_the_code_says(quoted: str):
    assert is_said(quoted)


def test_the_page_quotes_errors():
    assert len(QUOTED.findall(PAGE.read_text(encoding="utf-8"))) > 30


def test_an_error_that_nothing_says_is_seen():
    assert not is_said("is a fish, and … was expected")
