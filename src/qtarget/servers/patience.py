"""Asking a server that may be away for a while, again and again until it answers or patience ends."""

import time
from collections.abc import Callable
from typing import TypeVar

from urllib3 import BaseHTTPResponse, Retry
from urllib3.exceptions import InvalidHeader

T = TypeVar("T")
BACKOFF = Retry(total=None, backoff_factor=0.2, backoff_max=10, backoff_jitter=0.2)
"""How pauses grow: 0, 0.4, 0.8, … up to 10 seconds, each with up to 0.2 more by chance."""
RETRY_AFTER_S = 60.0
"""The longest pause, in seconds, that a server is granted when it asks for one."""


class Away(Exception):
    """The server gave no answer this time, and may give one later.

    Attributes:
        pause: seconds after which the server wants to be asked again.
    """

    def __init__(self, trouble: str, pause: float = 0.0) -> None:
        super().__init__(trouble)
        self.pause = pause


class Slow(Away):
    """The server took longer to answer than it was given."""


def until_answered(
    request: Callable[[], T],
    patience: float,
    wait: Callable[[float, int, Away], None],
    given_up: Callable[[int, Away], Exception],
) -> T:
    """What `request` returns, once it no longer raises `Away`.

    Args:
        patience: seconds that the server may be away.
        wait: lets a pause pass; gets the pause in seconds, the number of tries so far and the last trouble.
        given_up: makes the error to raise when patience ends, from the number of tries and the last trouble.
    """
    retry, since = BACKOFF, 0.0
    while True:
        try:
            return request()
        except Away as away:
            now = time.monotonic()
            since, retry = since or now, retry.increment()
            pause = max(retry.get_backoff_time(), away.pause)
            if now - since + pause > patience:
                raise given_up(len(retry.history), away) from away.__cause__
            wait(pause, len(retry.history), away)


def retry_after(response: BaseHTTPResponse) -> float:
    """Seconds for which a response asks to be left alone, up to the longest pause that is granted."""
    try:
        return min(Retry().get_retry_after(response) or 0.0, RETRY_AFTER_S)
    except InvalidHeader:
        return 0.0
