"""The reference of public names: a page a module, filled by Sphinx's autodoc with signatures and docstrings."""

import inspect
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from house.package import home
from house.public import public_names

INTRODUCTION = {
    "qtarget": "Objectives by name, the two losses, and what a target is composed of: `import qtarget as qt`.",
    "qtarget.trust": "Rules for γ: how much of the target the label gets.",
    "qtarget.residual": "Distributions that the rest may go to, and terms that mix them.",
    "qtarget.changing": "Numbers that change: along a run, along a completion, or from token to token.",
    "qtarget.slopes": "How divergences between the student and another distribution change with the student.",
    "qtarget.value": "Losses as papers report them; they are logged and move no gradient.",
    "qtarget.statistics": "Numbers a token that rules may read.",
    "qtarget.frame": "Whole distributions of some tokens: what a statistic's definition is given.",
    "qtarget.types": "The types of targets.",
    "qtarget.train": "The trainer and its configuration.",
    "qtarget.teacher": "Where teachers and references are read.",
    "qtarget.evaluate": "Asking models, grading, and statistics.",
    "qtarget.data": "Rows.",
    "qtarget.lab": "The embedded lab: small worlds with student, teacher, demonstrations and questions.",
}
MAPPINGS = {
    "ALONG": "What a number may change along, by the name that a schedule gives it: each a rule from 0 to 1.",
    "METHODS": "Every method of the catalogue by its name: the function that makes it from its hyperparameters.",
    "MOMENTS": "How each number that the fused loss measures of a distribution is computed from its log-probabilities.",
    "SHAPES": "How a schedule goes from one end to the other, by name: functions of a share from 0 to 1.",
    "WORLDS": "Every world of the lab by its name.",
}
"""Dictionaries, of which autodoc would show what a dictionary is."""
HEAD = """# Every public name

Signatures and docstrings, read off the code when the site is built. `docs/public-api.txt` has the signatures alone, and
a test holds it to the code: a change of one is a change of that page.

```{toctree}
:maxdepth: 1

PAGES
```
"""


def name_pages() -> dict[str, str]:
    """An index, and a page for each public module."""
    pages = {f"names/{module}.md": _page(module, names) for module, names in public_names()}
    listed = "\n".join(name.removesuffix(".md") for name in pages)
    return {"names.md": HEAD.replace("PAGES", listed), **pages}


def _page(module: str, names: list[str]) -> str:
    own = [name for name in names if module == "qtarget" or home(f"qtarget.{name}") != home(f"{module}.{name}")]
    elsewhere = [name for name in names if name not in own]
    words = (
        f"\nAlso here: {', '.join(f'`{name}`' for name in elsewhere)}, of [qtarget](qtarget.md).\n" if elsewhere else ""
    )
    body = "\n".join(_directive(module, name) for name in own)
    listed = f"```{{eval-rst}}\n.. currentmodule:: {module}\n\n{body}\n```"
    return f"# {module}\n\n{INTRODUCTION[module]}\n{words}\n{listed}\n"


def _signature(value: type) -> str:
    """A signature where autodoc's would be no help: too long, or with a default that is no expression; else ""."""
    if len(getattr(value, "__dataclass_fields__", ())) > 40:
        return "(**fields)"
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError:
        return ""
    if not any(callable(each.default) and each.default is not each.empty for each in parameters):
        return ""
    return f"({', '.join(each.name if each.default is each.empty else f'{each.name}=...' for each in parameters)})"


def _directive(module: str, name: str) -> str:
    value = getattr(import_module(module), name)
    if inspect.ismodule(value):
        return f":doc:`{value.__name__.replace('.target.', '.')}`\n"
    if inspect.isclass(value):
        bases = [base for base in value.__bases__ if base.__name__ not in ("object", "tuple", "Protocol", "Generic")]
        options = "   :members:\n" + ("   :show-inheritance:\n" if bases else "")
        return f".. autoclass:: {name}{_signature(value)}\n{options}"
    if inspect.isroutine(value) or hasattr(value, "__wrapped__"):
        return f".. autofunction:: {name}\n"
    if isinstance(value, dict):
        return f".. py:data:: {name}\n\n   {MAPPINGS[name]}\n"
    return f".. autodata:: {name}\n   :no-value:\n"
