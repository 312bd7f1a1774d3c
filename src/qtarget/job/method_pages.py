"""The methods as their docstrings state them: entries for a table, one page each, and JSON.

A method's docstring is a summary, then formulas `γ = …, π̃ = …` (or `Q = …`), `Limits: …` and remarks.
"""

import inspect
import re
from dataclasses import dataclass
from typing import Any

import qtarget as qt
from qtarget.target.hyperparameters import hyperparameters, suggestion

USER_NEEDS = ("teacher", "reference", "token_weight")
"""What a user brings; ids of sequences are the trainer's work."""


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter. domain: the values it may take."""

    name: str
    default: Any
    domain: str
    meaning: str


@dataclass(frozen=True)
class Entry:
    """A method in words.

    Attributes:
        trust, residual: γ and π̃; for a method stated as a whole target, its constant γ and `Q = …`.
        formula: the sentence they come from, with the loss.  limits: other methods it turns into; "" for none.
    """

    name: str
    summary: str
    trust: str
    residual: str
    formula: str
    limits: str
    remarks: str
    source: str
    needs: tuple[str, ...]
    scope: str
    parameters: tuple[Parameter, ...]


def entries() -> tuple[Entry, ...]:
    """The whole catalogue."""
    return tuple(entry(name) for name in qt.METHODS)


def entry(name: str) -> Entry:
    """One method. Raises ValueError, with the near miss, for a name the catalogue does not have."""
    if name not in qt.METHODS:
        raise ValueError(f'no method "{name}"; {suggestion(name, qt.METHODS)}')
    factory, method = qt.METHODS[name], qt.method(name)
    summary, _, body = (inspect.getdoc(factory) or "").partition("\n\n")
    text = " ".join(body.split())
    formula = re.match(r"(.+?)\.(?= [A-Zγ`]|$)", text)
    limits = re.search(r"Limits: (.+?)\.(?= |$)", text)
    return Entry(
        name=name,
        summary=summary,
        trust=stated("γ =", text) or f"{method.trust:g}",
        residual=_residual(text),
        formula=formula[1] if formula else text,
        limits=limits[1] if limits else "",
        remarks=_remarks(text, formula, limits),
        source=method.source,
        needs=tuple(need for need in USER_NEEDS if need in method.needs),
        scope=method.scope,
        parameters=tuple(
            Parameter(h.name, h.default, h.domain.interval, h.domain.about) for h in hyperparameters(factory)
        ),
    )


def stated(sign: str, text: str) -> str:
    """What stands behind a sign such as `γ =`, up to the comma, semicolon or full stop outside of brackets."""
    _, found, rest = text.partition(f"{sign} ")
    depth = 0
    for index, letter in enumerate(rest):
        depth += (letter in "([{") - (letter in ")]}")
        ends = letter in ",;:" or (letter == "." and rest[index + 1 : index + 2] in ("", " "))
        if depth < 0 or (ends and depth == 0):
            return rest[:index]
    return rest if found else ""


def _residual(text: str) -> str:
    proportional = stated("π̃ ∝", text)
    whole = stated("Q =", text).partition(" (γ")[0]
    return stated("π̃ =", text) or (f"∝ {proportional}" if proportional else f"Q = {whole}")


def _remarks(text: str, *found: re.Match[str] | None) -> str:
    """The sentences that are neither formula nor limits."""
    for match in found:
        text = text.replace(f"{match[0].rstrip('.')}.", "") if match else text
    return " ".join(text.split())
