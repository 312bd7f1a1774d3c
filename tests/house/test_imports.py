"""What the package imports from outside is what it says it needs."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from house.package import ROOT, modules

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BROUGHT = {
    "deepspeed": "imported only where transformers runs under it, so it is there",
    "pyarrow": "datasets is made of it",
    "psutil": "accelerate is made of it",
    "sympy": "math-verify is made of it",
    "tokenizers": "transformers is made of it",
}
"""What is imported and not declared, and who brings it."""

FREE = {"qtarget", *sys.stdlib_module_names}


def outside(tree: ast.Module) -> set[str]:
    """Top-level names of what a module imports beside qtarget and the standard library, wherever it imports it."""
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    froms = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in [*plain, *froms]} - FREE


def allowed(module: str) -> set[str]:
    """What a module of `target` or `fused` may import beside the standard library."""
    return {"torch", "triton"} if module.startswith("qtarget.fused.triton") else {"torch"}


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith(("qtarget.target", "qtarget.fused"))])
def test_targets_and_the_fused_loss_need_torch_alone(module: str):
    assert outside(modules()[module]) <= allowed(module)


def test_everything_imported_is_declared():
    """In pyproject.toml, so an installation with the extras has it."""
    extras = [name for group in PROJECT["optional-dependencies"].values() for name in group]
    declared = {re.split(r"[\[<>=;~! ]", line)[0].lower() for line in [*PROJECT["dependencies"], *extras]}
    imported = {name for tree in modules().values() for name in outside(tree)} - set(BROUGHT)
    distributions = packages_distributions()
    homes = {name: {d.lower().replace("_", "-") for d in distributions.get(name, [name])} for name in imported}
    assert {name: home for name, home in homes.items() if not home & declared} == {}
