"""Progress of long work: the protocol that an evaluation reports to, and one that shows nothing."""

from typing import Protocol


class ProgressWatch(Protocol):
    """Progress callbacks: `begin`, then `advance` after every item, then `end`, however the work ends."""

    def begin(self, what: str, total: int, done: int, at_once: int = 1) -> None:
        """Work called `what` begins: `total` items, of which `done` were there before; `at_once` go on together."""
        ...

    def advance(self, tokens: int = 0) -> None:
        """One more item is done; `tokens` of it, where tokens are counted."""
        ...

    def end(self) -> None: ...


class SilentWatch:
    """Progress callbacks that do nothing."""

    def begin(self, what: str, total: int, done: int, at_once: int = 1) -> None: ...
    def advance(self, tokens: int = 0) -> None: ...
    def end(self) -> None: ...
