"""The package as text: its modules as syntax trees and what each name stands for. Nothing of it is imported but
`qtarget/__init__.py`, so the tests of this room take a few seconds.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import qtarget

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "qtarget"

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name."""
    return {dotted(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SRC.rglob("*.py"))}


def dotted(path: Path) -> str:
    """`src/qtarget/train/trainer.py` is `qtarget.train.trainer`, `src/qtarget/train/__init__.py` is `qtarget.train`."""
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, and those within its `if`, `try` and `with`."""
    for statement in body:
        yield statement
        for inner in ("body", "orelse", "finalbody", "handlers"):
            if isinstance(statement, (ast.If, ast.Try, ast.With)):
                yield from statements(getattr(statement, inner, []))
        if isinstance(statement, ast.ExceptHandler):
            yield from statements(statement.body)


def definitions(node: ast.Module | ast.ClassDef) -> dict[str, Definition]:
    """What a module or class defines: functions, classes, constants and fields, by name."""
    return {name: statement for statement in statements(node.body) for name in names_of(statement)}


def names_of(statement: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
    targets = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def imports(module: ast.Module) -> dict[str, str]:
    """What a module imports with `from … import …`: the name here, and its dotted name there."""
    froms = [s for s in statements(module.body) if isinstance(s, ast.ImportFrom)]
    return {alias.asname or alias.name: f"{s.module}.{alias.name}" for s in froms for alias in s.names}


def home(name: str) -> str:
    """Where a dotted name is defined: names that are public under `qtarget`, or imported by a room, are followed."""
    package, _, last = name.rpartition(".")
    if package == "qtarget" and last in qtarget._HOME:
        return f"qtarget.{qtarget._HOME[last]}.{last}"
    if package == "qtarget" and last in qtarget._MODULES:
        return f"qtarget.target.{last}"
    package = home(package) if package else ""
    there = imports(modules()[package]).get(last) if package in modules() else None
    known = f"{package}.{last}" in modules()
    return home(there) if there and not known else f"{package}.{last}".lstrip(".")


def definition(name: str) -> Definition | ast.Module | None:
    """What a dotted name stands for: a module, or what a module or class defines. None where it stands for nothing."""
    name = home(name)
    if name in modules():
        return modules()[name]
    package, _, last = name.rpartition(".")
    inside = definition(package) if package else None
    return definitions(inside).get(last) if isinstance(inside, (ast.Module, ast.ClassDef)) else None
