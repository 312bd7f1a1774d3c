"""The methods of the catalogue that a run's sources allow, and why the others are not shown."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import qtarget as qt
from qtarget.job.inspection.pull import is_label_trust
from qtarget.target.evidence import CallInputs, LabelOnly, SupervisedTokens
from qtarget.target.kept_tokens import check_kept_tokens

SHARED_BY_TEACHERS = {"kd": ("teacher_weights", 1.0), "kd-hybrid": ("teacher_weight", 0.5), "target-sft": ("eta", 0.5)}
"""Hyperparameters of one number a teacher, and the sum that they have by default."""

WHY_NOT_MOVED = {
    "extrapolated": "tokens that the page does not keep may hold much of r^(1−λ)·t^λ, where the reference gives them "
    "even less than the teacher",
}
"""Why the page cannot compute some targets from what it keeps."""


@cache
def not_moved() -> Mapping[str, str]:
    """Methods that the page's code does not compute, and why: it shows them as they were measured."""
    code = files("qtarget.job.inspection.html_page").joinpath("live/methods.js").read_text(encoding="utf-8")
    moved = re.findall(r'^    "?([a-z0-9-]+)"?: \{', code, re.MULTILINE)
    why = "its formula is not written into the page"
    return {name: WHY_NOT_MOVED.get(name, why) for name in qt.METHODS if name not in moved}


class OpenMethods(NamedTuple):
    """Methods by name, with the run's own hyperparameters or the defaults; and why others are closed."""

    methods: Mapping[str, qt.Method]
    closed: Mapping[str, str]


def open_methods(configured: qt.Method, tokens: SupervisedTokens, vocabulary: int) -> OpenMethods:
    """Try every method on what a row brought.

    Args:
        configured: the run's own method, which stands first.
        tokens: of any row.
        vocabulary: rows of the student's output layer.
    """
    names = [configured.name, *(name for name in qt.METHODS if name != configured.name)]
    methods, closed = {}, {}
    for name in names:
        method = configured if name == configured.name else _by_default(name, len(tokens.teachers))
        reason = _closed(method, tokens, vocabulary)
        if reason is None:
            methods[name] = method
        else:
            closed[name] = reason
    return OpenMethods(methods, closed)


def _by_default(name: str, teachers: int) -> qt.Method:
    if teachers < 2 or name not in SHARED_BY_TEACHERS:
        return qt.method(name)
    key, total = SHARED_BY_TEACHERS[name]
    shares: dict[str, Any] = {key: [total / teachers] * teachers}
    return qt.method(name, **shares)


def _closed(method: qt.Method, tokens: SupervisedTokens, vocabulary: int) -> str | None:
    """Why a method cannot be shown, with the line to write; None where it can."""
    if "teacher" in method.needs and not tokens.teachers:
        return "needs a teacher: write `method: target-sft` and `teacher: path/or/hub-name`"
    if "teacher" in method.needs and not method.num_teachers_read <= len(tokens.teachers) <= method.num_teachers:
        return f"is set up for {method.num_teachers} teacher(s), and the run has {len(tokens.teachers)}"
    if "token_weight" in method.needs and tokens.token_weight_T is None:
        return "needs rows that weigh their tokens: `weight_spans` or `token_weight`"
    whole = method.needs - method.label_only
    labels_alone = [name for name, each in _evidence(tokens) if isinstance(each, LabelOnly) and name in whole]
    if labels_alone:
        return f"reads the whole {labels_alone[0]}, of which only the label's probability is kept for this run's method"
    if method.scope != "token" and not is_label_trust(method):
        return f"looks at a whole {method.scope} and at whole distributions, which is not shown"
    try:
        check_kept_tokens(method, CallInputs(tokens.teachers, tokens.reference, None, None), vocabulary)
    except ValueError as error:
        return str(error)
    return None


def _evidence(tokens: SupervisedTokens) -> list[tuple[str, Any]]:
    return [("reference", tokens.reference), *(("teacher", teacher) for teacher in tokens.teachers)]
