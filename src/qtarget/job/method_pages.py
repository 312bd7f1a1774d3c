"""The facts of each method in words: what `qtarget methods`, the README's table and the model card show.

They are read off the method's function in the catalogue: its signature, and its docstring, which has a fixed form. That
is a summary line, then a sentence of formulas `γ = …, π̃ = …` (or `Q = …`) with the loss, then `Limits: …` and remarks.
"""

import inspect
import re
from dataclasses import dataclass, replace
from typing import Any

import qtarget as qt
from qtarget.target.hyperparameter_words import setting_words
from qtarget.target.hyperparameters import hyperparameters, suggestion

USER_NEEDS = ("teacher", "reference", "token_weight")
"""What a user has to give, among the things that a method may need; the trainer makes sequence ids itself."""


@dataclass(frozen=True)
class MethodParameter:
    """A hyperparameter of a method. domain: the values it may take, in words, such as `[0, 1]`."""

    name: str
    default: Any
    domain: str
    meaning: str


@dataclass(frozen=True)
class MethodEntry:
    """One method of the catalogue in words.

    Attributes:
        summary: the docstring's first line.
        trust: γ as a formula.  residual: π̃ as one; of a docstring that gives the whole target, `Q = …`.
        formula: the sentence both come from, with the loss.
        limits: which other methods it turns into, and when; "" for none.
        remarks: the other sentences, such as where paper and code differ.
        source: the citation.
        use_when: when a practitioner would take it.
        needs: what a user has to give, among `USER_NEEDS`.
        scope: what one token's target may depend on: "token", "sequence" or "batch".
    """

    name: str
    summary: str
    trust: str
    residual: str
    formula: str
    limits: str
    remarks: str
    source: str
    use_when: str
    needs: tuple[str, ...]
    scope: str
    parameters: tuple[MethodParameter, ...]


def entries() -> tuple[MethodEntry, ...]:
    """The whole catalogue, in its order."""
    return tuple(entry(name) for name in qt.METHODS)


def entry(name: str) -> MethodEntry:
    """One method.

    Raises:
        ValueError: the catalogue has no method of that name; the nearest name is given.
    """
    if name not in qt.METHODS:
        raise ValueError(f'no method "{name}"; {suggestion(name, qt.METHODS)}')
    factory, method = qt.METHODS[name], qt.method(name)
    summary, _, body = (inspect.getdoc(factory) or "").partition("\n\n")
    text = " ".join(body.split())
    formula = re.match(r"(.+?)\.(?= [A-Zγ`]|$)", text)
    limits = re.search(r"Limits: (.+?)\.(?= |$)", text)
    return MethodEntry(
        name=name,
        summary=summary,
        trust=stated("γ =", text) or f"{method.trust:g}",
        residual=_residual(text),
        formula=formula[1] if formula else text,
        limits=limits[1] if limits else "",
        remarks=_remarks(text, formula, limits),
        source=method.source,
        use_when=method.use_when,
        needs=tuple(need for need in USER_NEEDS if need in method.needs),
        scope=method.scope,
        parameters=tuple(
            MethodParameter(h.name, h.default, h.domain.interval, h.domain.about) for h in hyperparameters(factory)
        ),
    )


def method_entry(method: qt.Method) -> MethodEntry:
    """A method as a run has it: where it trusts the label by another number than the catalogue's, γ is that number."""
    of_catalogue = entry(method.name)
    trust = next((each for each in of_catalogue.parameters if each.name == "trust"), None)
    if trust is None or method.hyperparameters["trust"] == trust.default:
        return of_catalogue
    words = setting_words(method.hyperparameters["trust"])
    formula = of_catalogue.formula.replace(f"γ = {of_catalogue.trust}", f"γ = {words}", 1)
    return replace(of_catalogue, trust=words, formula=formula)


def stated(sign: str, text: str) -> str:
    """The formula behind a sign such as `γ =`, up to a comma, semicolon, colon or full stop outside of brackets.

    "" where the text does not have the sign.
    """
    _, separator, rest = text.partition(f"{sign} ")
    depth = 0
    for index, letter in enumerate(rest):
        depth += (letter in "([{") - (letter in ")]}")
        ends = letter in ",;:" or (letter == "." and rest[index + 1 : index + 2] in ("", " "))
        if depth < 0 or (ends and depth == 0):
            return rest[:index]
    return rest if separator else ""


def _residual(text: str) -> str:
    """`π̃ = …`, `π̃ ∝ …` or, where neither stands there, the whole target `Q = …` without a remark on γ."""
    proportional = stated("π̃ ∝", text)
    whole = stated("Q =", text).partition(" (γ")[0]
    return stated("π̃ =", text) or (f"∝ {proportional}" if proportional else f"Q = {whole}")


def _remarks(text: str, *sentences: re.Match[str] | None) -> str:
    """The text without these sentences, which are shown by themselves: formula and limits."""
    for match in sentences:
        text = text.replace(f"{match[0].rstrip('.')}.", "") if match else text
    return " ".join(text.split())
