"""Whatever has a public name says in words what it is."""

import ast

from house.package import FUNCTIONS, definitions, modules


def test_public_functions_and_classes_have_a_docstring():
    found = [(module, name, node) for module, tree in modules().items() for name, node in definitions(tree).items()]
    public = [one for one in found if not one[1].startswith("_") and isinstance(one[2], (*FUNCTIONS, ast.ClassDef))]
    assert {f"{module}.{name}" for module, name, node in public if not _says(node)} == set()


def test_modules_have_a_docstring():
    assert {module for module, tree in modules().items() if tree.body and not ast.get_docstring(tree)} == set()


def _says(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """By a docstring, or as a command by its help."""
    decorators = [one for one in node.decorator_list if isinstance(one, ast.Call)]
    return bool(ast.get_docstring(node) or any(k.arg == "help" for one in decorators for k in one.keywords))
