"""Progress of long work: the protocol that an evaluation reports to, and one that shows nothing."""

from typing import Protocol


class ProgressWatch(Protocol):
    """Progress callbacks: `begin`, then `add_tokens` and `advance` as the work goes, then `end`, however it ends."""

    def begin(self, what: str, total: int, done: int, at_once: int = 1, most_tokens: int = 0) -> None:
        """Work called `what` begins.

        Args:
            total: items, of which `done` were there before.
            at_once: items that go on together.
            most_tokens: of an item; 0 where tokens are not counted.
        """
        ...

    def add_tokens(self, tokens: int) -> None:
        """So many tokens were drawn, of items that go on or end. Some generators tell of an item's only at its end."""
        ...

    def advance(self, tokens: int = 0) -> None:
        """One more item is done; `tokens` of it in all, where tokens are counted."""
        ...

    def end(self) -> None: ...


class SilentWatch:
    """Progress callbacks that do nothing."""

    def begin(self, what: str, total: int, done: int, at_once: int = 1, most_tokens: int = 0) -> None: ...
    def add_tokens(self, tokens: int) -> None: ...
    def advance(self, tokens: int = 0) -> None: ...
    def end(self) -> None: ...
