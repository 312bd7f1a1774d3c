"""Asking a server that may be away for a while, again and again until it answers or patience ends."""

import time
from collections.abc import Callable
from typing import TypeVar

from urllib3 import BaseHTTPResponse, Retry
from urllib3.exceptions import InvalidHeader

T = TypeVar("T")


class Away(Exception):
    """No answer this time.

    Attributes:
        pause: seconds after which the server wants to be asked again.
    """

    def __init__(self, trouble: str, pause: float = 0.0) -> None:
        super().__init__(trouble)
        self.pause = pause


def until_answered(
    once: Callable[[], T],
    patience: float,
    backoff: Retry,
    wait: Callable[[float, int, Away], None],
    given_up: Callable[[int, Away], Exception],
) -> T:
    """What `once` returns, when it no longer raises `Away`.

    Args:
        patience: seconds that the server may be away.
        backoff: how pauses grow.
        wait: lets the pause pass; gets its seconds, the number of tries and the trouble.
        given_up: the error to raise when patience ends, from the number of tries and the last trouble.
    """
    retry, since = backoff, 0.0
    while True:
        try:
            return once()
        except Away as away:
            now = time.monotonic()
            since, retry = since or now, retry.increment()
            pause = max(retry.get_backoff_time(), away.pause)
            if now - since + pause > patience:
                raise given_up(len(retry.history), away) from away.__cause__
            wait(pause, len(retry.history), away)


def retry_after(response: BaseHTTPResponse, longest: float) -> float:
    """Seconds that a response asks to be left alone, up to the longest that is granted."""
    try:
        return min(Retry().get_retry_after(response) or 0.0, longest)
    except InvalidHeader:
        return 0.0
