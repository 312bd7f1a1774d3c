"""The secret that a server asks for at addresses other than loopback, from the environment alone."""

import os

VARIABLE = "QTARGET_TEACHER_TOKEN"


def token() -> str | None:
    """The token, or None where there is none."""
    given = os.environ.get(VARIABLE, "").strip()
    if not given.isascii() or not given.isprintable() or " " in given:
        raise ValueError(f"{VARIABLE} holds characters that a header cannot carry; use letters and digits.")
    return given or None


def bearer(secret: str) -> str:
    """The value of the `Authorization` header."""
    return f"Bearer {secret}"
