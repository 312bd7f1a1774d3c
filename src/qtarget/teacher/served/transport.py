"""Requests from the training's side to a teacher's server, repeated while it is away."""

import logging
import time
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit

from qtarget.outcomes import OutsideFault
from qtarget.servers.http import HttpServer, Reply
from qtarget.servers.patience import Away, Slow, until_answered
from qtarget.teacher.served.wire import BINARY, TOKEN_VARIABLE

_CONNECT_S, _READ_S = 5.0, 120.0
"""Seconds for a connection, and for an answer to begin or go on."""
AWAY = (502, 503, 504)
"""Statuses of a server, or of a proxy before it, that may answer later."""
_LOG = logging.getLogger(__name__)
_waited_for: set[str] = set()


class TeacherUnavailableError(OutsideFault, ValueError):
    """A served teacher was away for longer than the training may wait."""


class RefusalOfTeacher(ValueError):
    """A served teacher will not answer, however often it is asked.

    Attributes:
        status: of its reply.  text: the beginning of what it said.
    """

    def __init__(self, name: str, reply: Reply) -> None:
        super().__init__(f"{name} refuses ({reply.status}): {reply.text}.")
        self.status, self.text = reply.status, reply.text


class Speech(NamedTuple):
    """How a kind of server is spoken to.

    Attributes:
        content_type: of a question.
        command: what starts such a server, for errors; None for `qtarget teacher serve`.
        teacher: how its address is written, for errors.
        connections: how many are open at once.
    """

    content_type: str = BINARY
    command: str | None = None
    teacher: str = "http://host:port"
    connections: int = 8


OUR_SPEECH = Speech()
"""How `qtarget teacher serve` is spoken to."""


def ask(
    url: str, path: str, *, limit: int, patience: float, body: bytes | None = None, speech: Speech = OUR_SPEECH
) -> Reply:
    """Ask until there is an answer: POST with a body, GET without. A server that is slow is given twice as long each
    time: it may be busy with what was asked before.

    Args:
        limit: bytes that the answer may have.
        patience: seconds that the server may be away.

    Raises:
        TeacherUnavailableError: the server was away for longer.
        RefusalOfTeacher: the server refuses.
        ValueError: its answer is too long.
    """
    times = min(_CONNECT_S, patience), min(_READ_S, patience)
    server = HttpServer(url, f"The teacher at {url}", TOKEN_VARIABLE, AWAY, *times, speech.connections)

    def wait(pause: float, tries: int, away: Away) -> None:
        _say_waiting(url, tries, away, patience)
        time.sleep(pause)

    def given_up(tries: int, away: Away) -> Exception:
        _waited_for.discard(url)
        return TeacherUnavailableError(_unavailable(url, patience, tries, away, speech))

    def request() -> Reply:
        nonlocal server
        try:
            reply = server.request(path, body, content_type=speech.content_type, limit=limit)
        except Slow:
            server = replace(server, read_s=2 * server.read_s)
            raise
        if reply.status == 500 and path != "/health" and not _is_well(server):
            raise Away(f"500: {reply.text}")
        return reply

    reply = until_answered(request, patience, wait, given_up)
    _say_back(url)
    if reply.status != 200:
        raise RefusalOfTeacher(server.name, reply)
    return reply


def _is_well(server: HttpServer) -> bool:
    """Whether a server that answered 500 says that it is well, so that the same question fails again."""
    try:
        return server.request("/health", content_type=BINARY, limit=1 << 16).status == 200
    except (Away, ValueError):
        return False


def _unavailable(url: str, patience: float, tries: int, away: Away, speech: Speech) -> str:
    if isinstance(away, Slow):
        return (
            f"The teacher at {url} is there and gives {away}, asked {tries} times: it is slow, or it hangs. Wait "
            f"longer, by `teacher_timeout: {2 * patience:g}`, or ask about shorter rows (`max_length`)."
        )
    command = speech.command or f"qtarget teacher serve MODEL{_port_option(url)}"
    return (
        f"The teacher at {url} was away for {patience:g} s and {tries} tries; the last one said: {away}. Start it "
        f"with `{command}`, or write the address of another: `teacher: {speech.teacher}`."
    )


def _port_option(url: str) -> str:
    port = urlsplit(url).port
    return f" --port {port}" if port else ""


def _say_waiting(url: str, tries: int, away: Away, patience: float) -> None:
    """Log an absence, once. A single failure is no absence, but a connection that had grown too old."""
    if tries > 1 and url not in _waited_for:
        _waited_for.add(url)
        is_what = "slow" if isinstance(away, Slow) else "away"
        _LOG.warning("The teacher at %s is %s (%s); waiting for it, up to %g s.", url, is_what, away, patience)


def _say_back(url: str) -> None:
    """Log the end of an absence that was logged."""
    if url in _waited_for:
        _waited_for.discard(url)
        _LOG.warning("The teacher at %s is back.", url)
