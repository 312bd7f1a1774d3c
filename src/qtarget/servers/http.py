"""One request to an HTTP server: its address checked, its answer limited in size, its secret in no error."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import HTTPError, LocationValueError, ProtocolError, ReadTimeoutError, SSLError

from qtarget.servers.address_secrets import without_secrets
from qtarget.servers.patience import Away, Slow, retry_after
from qtarget.servers.secret import bearer, redacted, secret_in

REFUSAL_CHARACTERS = 500
"""How much of a refusal, or of an answer that was not expected, an error repeats."""


class AddressError(ValueError):
    """An address that cannot be asked, whatever answers there."""


class Reply(NamedTuple):
    """An answer, or a refusal that will not change.

    Attributes:
        body: all of a reply of status 200, and the beginning of any other.
        text: the beginning of the body, in one line and without the secret, for errors.
    """

    status: int
    body: bytes
    text: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class HttpServer:
    """A server as its client sees it.

    Attributes:
        url: from `checked_url`.
        name: what errors call it, at the beginning of a sentence: "The teacher at http://127.0.0.1:8321".
        variable: the environment variable that holds its secret.
        later: statuses after which the same request may succeed.
        connect_s, read_s: seconds for a connection, and for an answer to begin or to go on.
        connections: how many stay open.
    """

    url: str
    name: str
    variable: str
    later: tuple[int, ...]
    connect_s: float
    read_s: float
    connections: int = 8

    def request(self, path: str, body: bytes | None = None, *, content_type: str, limit: int) -> Reply:
        """Send one request: POST with a body, GET without. Redirects are not followed.

        Args:
            limit: bytes that the answer may have.

        Raises:
            Away: there was no answer, or one of the statuses in `later`; `Slow` where it took longer than `read_s`.
            AddressError: the address cannot be asked.
            ValueError: the answer is too long, or the secret cannot be sent.
        """
        secret = secret_in(self.variable)
        headers = {"Accept-Encoding": "identity", "Content-Type": content_type}
        headers |= {"Authorization": bearer(secret)} if secret else {}
        try:
            response = _connections(os.getpid(), self.connections).request(
                "GET" if body is None else "POST",
                self.url + path,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=Timeout(connect=self.connect_s, read=self.read_s),
            )
            content = self._read(response, limit)
        except (LocationValueError, SSLError) as error:
            reason = redacted(str(error), secret)
            raise AddressError(f"{self.name} cannot be asked: {reason}. Correct the address.") from error
        except ReadTimeoutError as error:
            raise Slow(f"no answer within {self.read_s:g} s") from error
        except HTTPError as error:
            raise Away(redacted(str(error), secret)) from error
        text = in_one_line(redacted(content[: 4 * REFUSAL_CHARACTERS].decode("utf-8", "replace"), secret))
        if response.status in self.later:
            raise Away(f"{response.status}: {text}", retry_after(response))
        return Reply(response.status, content, text, response.headers)

    def _read(self, response: BaseHTTPResponse, limit: int) -> bytes:
        """The body of a response, of a refusal only its beginning."""
        most = limit if response.status == 200 else 4 * REFUSAL_CHARACTERS  # UTF-8 has up to 4 bytes a character
        try:
            content = response.read(most + 1, decode_content=False)
            if response.status == 200 and len(content) > limit:
                raise ValueError(f"{self.name} answers more than the {limit} bytes that an answer can have.")
            if response.status == 200 and response.length_remaining:
                raise ProtocolError(f"the answer broke off {response.length_remaining} bytes before its end")
        except BaseException:
            response.close()
            raise
        if response.status == 200:
            response.release_conn()
        else:  # what was not read would stand before the next answer
            response.close()
        return content


@functools.cache
def _connections(process: int, number: int) -> PoolManager:
    """The connections of a process: a fork makes its own, and leaves its parent's alone."""
    return PoolManager(num_pools=8, maxsize=number)


def without_engine(url: str) -> str:
    """An address without the name of the inference engine before it.

    >>> without_engine("vllm+http://127.0.0.1:8000")
    'http://127.0.0.1:8000'
    """
    scheme, separator, rest = url.partition("://")
    return f"{scheme.rpartition('+')[2]}{separator}{rest}"


def without_version(url: str) -> str:
    """An address without the `/v1` behind which the paths of OpenAI's clients stand.

    >>> without_version("http://127.0.0.1:8000/v1")
    'http://127.0.0.1:8000'
    """
    return url.removesuffix("/v1").rstrip("/")


def checked_url(url: str, option: str, variable: str) -> str:
    """An address without a slash at its end.

    Args:
        option: how the user writes it, with {} in the place of the address: "--url {}".
        variable: the environment variable for the server's secret.

    Raises:
        ValueError: it cannot be asked, or holds a secret that would be saved with the run.
    """
    parts = _parts(url)
    if "@" in (parts.netloc or url):
        clean = option.format(f"{parts.scheme if parts.netloc else 'http'}://{url.rpartition('@')[2].split('/')[0]}")
        raise ValueError(
            "The address holds a user or a password, which would be saved with the run; write "
            f"{clean} and put the secret into {variable}."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or not _port(parts):
        shown = without_secrets(url)
        raise ValueError(f"{shown} is no address of a server; write it as in {option.format('http://127.0.0.1:8000')}.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _parts(url: str) -> SplitResult:
    """The parts of an address; none of one that cannot be taken apart."""
    try:
        return urlsplit(url)
    except ValueError:  # an IPv6 host without its bracket
        return urlsplit("")


def _port(parts: SplitResult) -> int | None:
    """The port of an address; None for one that cannot be."""
    try:
        return 80 if parts.port is None else parts.port
    except ValueError:
        return None


def in_one_line(text: str) -> str:
    """The beginning of a text, as an error repeats it."""
    line = without_secrets(" ".join(text.split())) or "nothing"
    return line if len(line) <= REFUSAL_CHARACTERS else f"{line[:REFUSAL_CHARACTERS]}…"
