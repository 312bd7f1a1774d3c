"""Whatever has a public name says in words what it is."""

import ast

import pytest
from house.package import FUNCTIONS, definitions, modules


@pytest.mark.parametrize("module", modules())
def test_public_functions_and_classes_have_a_docstring(module: str):
    public = {name: node for name, node in definitions(modules()[module]).items() if not name.startswith("_")}
    silent = {name for name, node in public.items() if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not _says(node)}
    assert not silent


def test_modules_have_a_docstring():
    assert {module for module, tree in modules().items() if tree.body and not ast.get_docstring(tree)} == set()


def _says(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """By a docstring, or as a command by its help."""
    decorators = [one for one in node.decorator_list if isinstance(one, ast.Call)]
    return bool(ast.get_docstring(node) or any(k.arg == "help" for one in decorators for k in one.keywords))
