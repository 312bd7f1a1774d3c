"""The public names of qtarget and how they are called, as the text that docs/public-api.txt holds.

`python tests/house/public.py` (`make public-api`) writes that page anew.
"""

import ast
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

from house.package import FUNCTIONS, ROOT, Definition, definition, definitions, home, modules

import qtarget
from qtarget.target.hyperparameters import hyperparameters

PAGE = ROOT / "docs" / "public-api.txt"
ROOMS = ("train", "teacher", "evaluate", "data", "lab")
"""Rooms whose `__all__` is public."""
HEAD = """The public names of qtarget and how they are called; whoever changes this page changes what users rely on.
Written by `make public-api`, compared by tests/house/test_public.py. A class lists its fields, then its methods.
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(f"\n{package}\n{_section(package, names)}" for package, names in public_names())


def public_names() -> list[tuple[str, list[str]]]:
    """Every public module, and its public names."""
    parts = [("qtarget", sorted({*qtarget._HOME, *qtarget._MODULES}))]
    parts += [(f"qtarget.{name}", _public(modules()[f"qtarget.target.{name}"])) for name in qtarget._MODULES]
    return parts + [(f"qtarget.{room}", sorted(_all(modules()[f"qtarget.{room}"]))) for room in ROOMS]


def _section(package: str, names: list[str]) -> str:
    lines = [line for name in names for line in described(name, f"{package}.{name}")]
    return "".join(textwrap.indent(line, "    ") + "\n" for line in lines)


def _public(module: ast.Module) -> list[str]:
    listed = _all(module) if "__all__" in definitions(module) else definitions(module)
    return sorted(name for name in listed if not name.startswith("_"))


def _all(module: ast.Module) -> list[str]:
    declared = definitions(module)["__all__"]
    assert isinstance(declared, ast.Assign)
    return ast.literal_eval(declared.value)


def described(name: str, dotted: str) -> Iterator[str]:
    """The lines of one public name."""
    node = definition(dotted)
    assert node is not None, f"{dotted} is public and stands nowhere"
    package = dotted.removesuffix(f".{name}")
    if isinstance(node, ast.Module):
        yield f"module {name}: {home(dotted)}"
    elif package != "qtarget" and home(f"qtarget.{name}") == home(dotted):
        yield f"{name}: see qtarget"
    elif isinstance(node, ast.ClassDef):
        yield from _class(name, node)
    elif isinstance(node, FUNCTIONS):
        yield _signature(name, node)
    elif name == "METHODS":
        yield from _methods()
    else:
        yield f"{name}{_typed(node)}"


def _methods() -> Iterator[str]:
    yield "METHODS"
    for name, factory in qtarget.METHODS.items():
        given = [f"{h.name} in {h.domain.interval} = {h.default!r}" for h in hyperparameters(factory)]
        yield textwrap.indent(_call(name, given), "    ")


def _class(name: str, node: ast.ClassDef) -> Iterator[str]:
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
    yield f"class {name}{bases}"
    inside = {key: item for key, item in definitions(node).items() if not key.startswith("_") or key == "__init__"}
    for key, item in sorted(inside.items(), key=lambda pair: isinstance(pair[1], FUNCTIONS)):
        yield textwrap.indent(_signature(key, item) if isinstance(item, FUNCTIONS) else key + _typed(item), "    ")


def _signature(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    decorators = [ast.unparse(one) for one in node.decorator_list]
    if any(one.split(".")[-1] in ("property", "cached_property") for one in decorators):
        return name + returns.replace(" ->", ":")
    marks = "".join(f"@{one} " for one in decorators if one in ("classmethod", "staticmethod"))
    return _call(marks + name, _parameters(node.args), returns)


def _call(name: str, parameters: list[str], returns: str = "") -> str:
    """`name(parameters) -> returns`, over several lines where one is too long."""
    line = f"{name}({', '.join(parameters)}){returns}"
    return line if len(line) <= 100 else f"{name}(\n" + "".join(f"    {one},\n" for one in parameters) + f"){returns}"


def _parameters(args: ast.arguments) -> list[str]:
    """Each parameter as it is written, without `self` and `cls`."""
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    parts = [_parameter(*pair) for pair in zip(positional, defaults, strict=True)]
    parts = parts[1:] if positional and positional[0].arg in ("self", "cls") else parts
    rest = [f"*{_parameter(args.vararg)}"] if args.vararg else ["*"] if args.kwonlyargs else []
    named = [_parameter(*pair) for pair in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return parts + rest + named + ([f"**{_parameter(args.kwarg)}"] if args.kwarg else [])


def _parameter(arg: ast.arg, default: ast.expr | None = None) -> str:
    kind = f": {ast.unparse(arg.annotation)}" if arg.annotation else ""
    return f"{arg.arg}{kind}" + (f" = {ast.unparse(default)}" if default else "")


def _typed(node: Definition) -> str:
    assert isinstance(node, (ast.Assign, ast.AnnAssign))
    kind = f": {ast.unparse(node.annotation)}" if isinstance(node, ast.AnnAssign) else ""
    default = _default(node.value) if node.value else None
    return kind + (f" = {default}" if default is not None and len(default) <= 80 else "")


def _default(value: ast.expr) -> str | None:
    """A field's default as it reads; of `dataclasses.field(...)` the default alone."""
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "dataclasses.field")):
        return ast.unparse(value)
    given = {one.arg: ast.unparse(one.value) for one in value.keywords}
    made = f"{given['default_factory']}()" if "default_factory" in given else None
    return "(not given)" if given.get("init") == "False" else given.get("default", made)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
