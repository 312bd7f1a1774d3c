"""What a text names as a teacher or a reference: a model to load, a server to ask, a cache to read.

Every place that reads such a text asks `SourceName.parse`, so a new scheme of addresses is a new line here.
"""

from enum import Enum
from pathlib import Path
from typing import NamedTuple

from qtarget.teacher.cache.format import is_cache


class SourceKind(Enum):
    """How evidence is got from a source."""

    MODEL = "a folder or a hub name, from which a model is loaded"
    SERVER = "the address of a server that holds the model"
    CACHE = "a folder in which its answers were kept"
    INITIAL = "the student as it was before training (a reference only)"
    SELF = "the student itself (a teacher only)"


INITIAL, SELF = "initial", "self"
ENGINES = ("vllm", "sglang")
"""Inference engines whose servers can be asked; an address of one is written `vllm+http://host:port`."""
SCHEMES = {
    f"{engine}{scheme}": SourceKind.SERVER
    for engine in ("", *(f"{name}+" for name in ENGINES))
    for scheme in ("http", "https")
}
"""Kinds by what stands before `://`."""


class SourceName(NamedTuple):
    """A source as a configuration names it. Whether a model or a server is really there, is not asked."""

    text: str
    kind: SourceKind

    @staticmethod
    def parse(text: str) -> "SourceName":
        """The source that a text names.

        Raises:
            ValueError: an address of a scheme that nothing here can ask.
        """
        if text in (INITIAL, SELF):
            return SourceName(text, SourceKind.INITIAL if text == INITIAL else SourceKind.SELF)
        scheme, separator, _ = text.partition("://")
        if separator:
            return SourceName(text, _kind_of(scheme, text))
        is_kept = is_cache(Path(text).expanduser())
        return SourceName(text, SourceKind.CACHE if is_kept else SourceKind.MODEL)


def engine_of(address: str) -> str | None:
    """The inference engine that an address names, as in `vllm+http://host:port`; None for a server of qtarget's."""
    name, plus, _ = address.partition("://")[0].lower().partition("+")
    return name if plus else None


def _kind_of(scheme: str, text: str) -> SourceKind:
    kind = SCHEMES.get(scheme.lower())
    if kind is None:
        raise ValueError(
            f"{text} begins with {scheme}://, which is no address of a teacher; write http://host:port or "
            "https://host:port for a server of qtarget's, vllm+http://host:port or sglang+http://host:port for one of "
            "an inference engine, and path/or/hub-name for a model."
        )
    return kind
