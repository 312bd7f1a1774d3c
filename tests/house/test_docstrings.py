"""Whatever has a public name says in words what it is."""

import ast

from house.package import FUNCTIONS, definitions, modules

SAID_ELSEWHERE: dict[str, str] = {}
"""Public names without a docstring, and where they are explained."""


def test_public_functions_and_classes_have_a_docstring():
    silent = {
        f"{module}.{name}"
        for module, tree in modules().items()
        for name, node in definitions(tree).items()
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not name.startswith("_") and not ast.get_docstring(node)
    }
    assert silent == set(SAID_ELSEWHERE)


def test_modules_have_a_docstring():
    assert {module for module, tree in modules().items() if tree.body and not ast.get_docstring(tree)} == set()
