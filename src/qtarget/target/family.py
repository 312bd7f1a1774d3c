"""The family that most methods belong to: γ on the label, the rest to the student. Only the step per token changes."""

from __future__ import annotations

from typing import Any

from qtarget.target import residual, value
from qtarget.target.residual import rest
from qtarget.target.types import Method, Rule


def label_trust(name: str, gamma: Rule, source: str, **others: Any) -> Method:
    """Q = γ·d + (1−γ)·p, with the loss −γ log p_y unless `value` says otherwise; the scope is that of γ."""
    stated = {"value": value.trusted_nll(), "scope": gamma.scope, **others}
    return Method(name, gamma, rest(gamma, residual.student()), source=source, **stated)
