"""Requests from the training's side to a teacher's server, repeated while it is away."""

import logging
import time
from urllib.parse import urlsplit

from qtarget.servers.http import HttpServer, Reply
from qtarget.servers.patience import Away, until_answered
from qtarget.teacher.served.wire import BINARY, TOKEN_VARIABLE

_CONNECT_S, _READ_S = 5.0, 120.0
"""Seconds for a connection, and for an answer to begin or go on."""
AWAY = (502, 503, 504)
"""Statuses of a server, or of a proxy before it, that may answer later."""
_LOG = logging.getLogger(__name__)
_waited_for: set[str] = set()


class TeacherUnavailableError(ValueError):
    """A served teacher was away for longer than the training may wait."""


def ask(url: str, path: str, *, limit: int, patience: float, body: bytes | None = None) -> Reply:
    """Ask until there is an answer: POST with a body, GET without.

    Args:
        limit: bytes that the answer may have.
        patience: seconds that the server may be away.

    Raises:
        TeacherUnavailableError: the server was away for longer.
        ValueError: the server refuses, or its answer is too long.
    """
    times = min(_CONNECT_S, patience), min(_READ_S, patience)
    server = HttpServer(url, f"The teacher at {url}", TOKEN_VARIABLE, AWAY, *times)

    def wait(pause: float, tries: int, away: Away) -> None:
        _say_waiting(url, tries, away, patience)
        time.sleep(pause)

    def given_up(tries: int, away: Away) -> Exception:
        return TeacherUnavailableError(_unavailable(url, patience, tries, away))

    def request() -> Reply:
        return server.request(path, body, content_type=BINARY, limit=limit)

    reply = until_answered(request, patience, wait, given_up)
    _say_back(url)
    if reply.status != 200:
        raise ValueError(f"{server.name} refuses ({reply.status}): {reply.text}.")
    return reply


def _unavailable(url: str, patience: float, tries: int, away: Away) -> str:
    return (
        f"The teacher at {url} was away for {patience:g} s and {tries} tries; the last one said: {away}. Start it "
        f"with `qtarget teacher serve MODEL{_port_option(url)}`, or write the address of another: "
        "`teacher: http://host:port`."
    )


def _port_option(url: str) -> str:
    port = urlsplit(url).port
    return f" --port {port}" if port else ""


def _say_waiting(url: str, tries: int, away: Away, patience: float) -> None:
    """Log an absence, once. A single failure is no absence, but a connection that had grown too old."""
    if tries > 1 and url not in _waited_for:
        _waited_for.add(url)
        _LOG.warning("The teacher at %s is away (%s); waiting for it, up to %g s.", url, away, patience)


def _say_back(url: str) -> None:
    """Log the end of an absence that was logged."""
    if url in _waited_for:
        _waited_for.discard(url)
        _LOG.warning("The teacher at %s is back.", url)
