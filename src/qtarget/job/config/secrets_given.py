"""Secrets in a configuration: refused where they would be written into a run's record, with the place they belong."""

from collections.abc import Iterator, Mapping
from typing import Any

from qtarget.servers.address_secrets import HUB_OR_NETRC, refuse_secret, without_secrets
from qtarget.servers.secret import SECRET_ARGUMENTS
from qtarget.teacher.served.wire import TOKEN_VARIABLE

HELD_BACK = ("hub_token",)
"""Keys that hold a secret and are taken: no record and no message repeats them."""
VARIABLES_OF_KEYS = {"teacher": TOKEN_VARIABLE, "reference": TOKEN_VARIABLE}
"""Variables of the environment for the secrets of servers, by the key that names the server."""


def refuse_secrets(values: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Refuse addresses with a secret, as values or as names, and tokens among arguments: they would be saved with the
    run.

    Args:
        places: where each key was written.

    Raises:
        ValueError: names the key, and where the secret belongs. The secret is not repeated.
    """
    for key, value in values.items():
        refuse_secret(key, f"{places.get(key, 'the configuration')}: a key")
        for path, text in _texts(key, value):
            where = places.get(key, "the configuration")
            refuse_secret(text, f"{where}: `{without_secrets(path)}`", VARIABLES_OF_KEYS.get(key, HUB_OR_NETRC))
            if key.endswith("kwargs") and path.rpartition(".")[2] in SECRET_ARGUMENTS:
                raise ValueError(
                    f"{where}: `{path}` holds a secret, which would be saved with the run; remove it, and put the "
                    "secret into HF_TOKEN, or log in with `hf auth login`."
                )


def _texts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text in a value, with its place, as `teacher_init_kwargs.token`; a mapping's names are texts at its own."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield path, str(name)
            yield from _texts(f"{path}.{name}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(path, inner)
