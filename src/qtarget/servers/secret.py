"""A server's secret: read from an environment variable alone, sent as a bearer token, struck out of errors."""

import os

SECRET_ARGUMENTS = ("token", "use_auth_token", "api_key", "password", "secret")
"""Names of arguments, of `from_pretrained` and its like, that hold a secret."""


def secret_in(variable: str) -> str | None:
    """The secret in an environment variable, or None where it is empty or not set.

    Raises:
        ValueError: it holds what a header cannot carry; the secret itself is not repeated.
    """
    given = os.environ.get(variable, "").strip()
    if not given.isascii() or not given.isprintable() or " " in given:
        raise ValueError(f"{variable} holds characters that a header cannot carry; use letters and digits.")
    return given or None


def bearer(secret: str) -> str:
    """The value of the `Authorization` header."""
    return f"Bearer {secret}"


def redacted(text: str, secret: str | None) -> str:
    """The text without the secret, should a server repeat it."""
    return text.replace(secret, "[secret]") if secret else text
