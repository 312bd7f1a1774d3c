"""Refusing expressions that are not safe to parse: models write them, and sympy's parser evaluates Python."""

import re

LONGEST, DEEPEST, DIGITS = 4096, 64, 256
CODE = re.compile(
    r"__\w"
    r"|(?<![\\\w])(?:import|exec|eval|open|compile|getattr|setattr|globals|locals|breakpoint)\s*[(\s]"
    r"|(?<![\\\w])lambda\b[^{}]*:"
)


def is_unreadable(expression: str) -> bool:
    """Whether an expression is too long, too deep, has a number of too many digits, or looks like code."""
    return (
        len(expression) > LONGEST
        or _depth(expression) > DEEPEST
        or re.search(rf"\d{{{DIGITS + 1}}}", expression) is not None
        or CODE.search(expression) is not None
    )


def _depth(expression: str) -> int:
    depth = deepest = 0
    for sign in expression:
        depth += (sign in "([{") - (sign in ")]}")
        deepest = max(deepest, depth)
    return deepest
