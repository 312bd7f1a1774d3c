"""Secrets in a configuration: refused where they would be written into a run's record, with the place they belong."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from qtarget.servers.secret import SECRET_ARGUMENTS
from qtarget.teacher.served.wire import TOKEN_VARIABLE

ADDRESS_WITH_USER = re.compile(r"^[a-z][a-z0-9+.-]*://[^/?#]*@", re.IGNORECASE)
HELD_BACK = ("hub_token",)
"""Keys that hold a secret and are taken: no record and no message repeats them."""


def refuse_secrets(values: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Refuse addresses with a user or a password, and tokens among arguments: they would be saved with the run.

    Args:
        places: where each key was written.

    Raises:
        ValueError: names the key, and where the secret belongs. The secret is not repeated.
    """
    for key, value in values.items():
        for path, text in _texts(key, value):
            where = places.get(key, "the configuration")
            if ADDRESS_WITH_USER.match(text):
                host = text.rpartition("@")[2].split("/")[0]
                raise ValueError(
                    f"{where}: `{path}` holds an address with a user or a password ({text.partition('://')[0]}://…@"
                    f"{host}), which would be saved with the run; write it without, and put the secret into "
                    f"{_variable(key)}."
                )
            if key.endswith("kwargs") and path.rpartition(".")[2] in SECRET_ARGUMENTS:
                raise ValueError(
                    f"{where}: `{path}` holds a secret, which would be saved with the run; remove it, and put the "
                    "secret into HF_TOKEN, or log in with `hf auth login`."
                )


def _texts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text in a value, with its place, as `teacher_init_kwargs.token`."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(f"{path}.{name}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(path, inner)


def _variable(key: str) -> str:
    is_server = key in ("teacher", "reference")
    return TOKEN_VARIABLE if is_server else "the environment (HF_TOKEN for the hub, ~/.netrc for other servers)"
