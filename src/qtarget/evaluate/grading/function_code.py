"""What a user's grader is made of: its file, and the modules beside it that it imports."""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

IMPORTING_CALLS = ("import_module", "__import__")


def code_sha256(file: Path) -> str:
    """One sha256 of a Python file and of those in its folder that it imports, directly or through others.

    A package counts with all its Python files. What stands in other folders, and what is read and not imported, does
    not count.
    """
    whole = hashlib.sha256()
    for path in (file, *modules_beside(file)):
        name = "" if path == file else path.relative_to(file.parent).as_posix()
        whole.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def modules_beside(file: Path) -> list[Path]:
    """The Python files of the file's folder that it imports, directly or through others, in alphabetic order."""
    found, waiting = {file}, [file]
    while waiting:
        for name in _imported(waiting.pop()):
            fresh = set(_files_of(file.parent, name)) - found
            found |= fresh
            waiting += fresh
    return sorted(found - {file})


def _files_of(folder: Path, name: str) -> list[Path]:
    module, package = folder / f"{name}.py", folder / name
    return ([module] if module.is_file() else []) + (list(package.rglob("*.py")) if package.is_dir() else [])


def _imported(file: Path) -> Iterator[str]:
    """The first names of the modules that a file imports anywhere, in functions too."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):  # said where it is loaded
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and node.args and _called(node.func) in IMPORTING_CALLS:
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value.partition(".")[0]


def _called(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))
