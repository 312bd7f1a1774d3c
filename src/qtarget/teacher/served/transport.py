"""One request from the training's side, repeated while the server is away."""

import functools
import logging
import os
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from qtarget.servers.patience import Away, retry_after, until_answered
from qtarget.teacher.served.secret import VARIABLE, bearer, token
from qtarget.teacher.served.wire import BINARY, IDENTITY_HEADER

CONNECT_S, READ_S = 5.0, 120.0
"""Seconds for a connection, and for an answer to begin or go on."""
AWAY = (502, 503, 504)
"""Statuses of a server, or of a proxy before it, that may answer later."""
BACKOFF = Retry(total=None, backoff_factor=0.2, backoff_max=10, backoff_jitter=0.2)
RETRY_AFTER_S = 30.0
"""The longest pause that a server is granted."""
WORDS = 500
"""Characters of a refusal that are passed on."""
LOG = logging.getLogger(__name__)
_waited_for: set[str] = set()


class TeacherUnavailableError(ValueError):
    """A served teacher that was away for longer than it was waited for."""


class Reply(NamedTuple):
    """What came back.

    Attributes:
        identity: of the server's model, which it says with every answer.
    """

    body: bytes
    identity: str | None


def checked_url(url: str) -> str:
    """An address without a slash at its end; ValueError for one that cannot be asked or should not be saved."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError(
            "The teacher's address holds a user or a password, which would be saved in configurations and cards; "
            f"write `teacher: {parts.scheme}://{parts.netloc.rpartition('@')[2]}` and put the secret into {VARIABLE}."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.port == 0:
        raise ValueError(f"{url} is no address of a teacher; write it as in `teacher: http://127.0.0.1:8321`.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def ask(url: str, path: str, *, limit: int, patience: float, body: bytes | None = None) -> Reply:
    """Ask until there is an answer: POST with a body, GET without.

    Args:
        limit: bytes of the answer at most.
        patience: seconds that a server may be away.

    Raises:
        TeacherUnavailableError: it was away for longer.
        ValueError: it refuses, or its answer is too long.
    """

    def wait(pause: float, tries: int, away: Away) -> None:
        _say_waiting(url, tries, away, patience)
        time.sleep(pause)

    def given_up(tries: int, away: Away) -> Exception:
        return TeacherUnavailableError(_unavailable(url, patience, tries, away))

    reply = until_answered(lambda: _once(url, path, body, limit, patience), patience, BACKOFF, wait, given_up)
    _say_back(url)
    return reply


def _once(url: str, path: str, body: bytes | None, limit: int, patience: float) -> Reply:
    secret = token()
    headers = {"Accept-Encoding": "identity"} | ({"Content-Type": BINARY} if body else {})
    headers |= {"Authorization": bearer(secret)} if secret else {}
    try:
        response = _connections(os.getpid()).request(
            "GET" if body is None else "POST",
            url + path,
            body=body,
            headers=headers,
            retries=False,
            redirect=False,
            preload_content=False,
            timeout=Timeout(connect=min(CONNECT_S, patience), read=min(READ_S, patience)),
        )
        return _read(response, url, limit)
    except (LocationValueError, SSLError) as error:
        raise ValueError(f"The teacher at {url} cannot be asked: {error}.") from error
    except HTTPError as error:
        raise Away(str(error)) from error


@functools.cache
def _connections(process: int) -> PoolManager:
    """The connections of a process: a fork makes its own, and leaves its parent's alone."""
    return PoolManager(num_pools=8, maxsize=8)


def _read(response: BaseHTTPResponse, url: str, limit: int) -> Reply:
    """The answer in a response; a refusal as ValueError, and what may go better later as Away."""
    try:
        good = response.status == 200
        body = response.read((limit if good else WORDS) + 1, decode_content=False)
        if not good:
            words = " ".join(body[:WORDS].decode("utf-8", "replace").split()) or "no words"
            if response.status in AWAY:
                raise Away(f"{response.status}: {words}", retry_after(response, RETRY_AFTER_S))
            raise ValueError(f"The teacher at {url} refuses ({response.status}): {words}.")
        if len(body) > limit:
            raise ValueError(f"The teacher at {url} answers more than the {limit} bytes that an answer can have.")
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return Reply(body, response.headers.get(IDENTITY_HEADER))


def _unavailable(url: str, patience: float, tries: int, away: Away) -> str:
    return (
        f"The teacher at {url} was away for {patience:g} s and {tries} tries; the last one said: {away}. Start it "
        f"with `qtarget teacher serve MODEL{_port(url)}`, or write the address of another: `teacher: http://host:port`."
    )


def _port(url: str) -> str:
    port = urlsplit(url).port
    return f" --port {port}" if port else ""


def _say_waiting(url: str, tries: int, away: Away, patience: float) -> None:
    """Once for each absence. A single failure is a connection that had grown too old."""
    if tries > 1 and url not in _waited_for:
        _waited_for.add(url)
        LOG.warning("The teacher at %s is away (%s); waiting for it, up to %g s.", url, away, patience)


def _say_back(url: str) -> None:
    if url in _waited_for:
        _waited_for.discard(url)
        LOG.warning("The teacher at %s is back.", url)
