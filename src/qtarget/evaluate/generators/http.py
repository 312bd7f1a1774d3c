"""The generator for an OpenAI-compatible server: token ids to ``/v1/completions``, a request and seed a completion."""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from transformers import PreTrainedTokenizerBase
from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from qtarget.evaluate.generators.huggingface import tokenizer_for
from qtarget.evaluate.nouns import Completion, Finish, Request, SamplingProtocol
from qtarget.models.identity import template_identity, tokenizer_identity
from qtarget.servers.patience import Away, retry_after, until_answered

KEY_VARIABLE = "QTARGET_API_KEY"
CONNECT_S, READ_S = 10.0, 3600.0
"""Seconds for a connection, and for an answer: a long completion says nothing until it is finished."""
NOTHING_ELSE = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "stream": False}
"""vLLM and SGLang take what a request leaves open from the model's generation_config.json; so nothing is left open."""
LATER = (408, 409, 425, 429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed."""
BACKOFF = Retry(total=None, backoff_factor=0.25, backoff_max=15, backoff_jitter=0.25)
RETRY_AFTER_S = 60.0
WORDS = 300
ANSWER_BYTES = 1 << 26


@dataclass(frozen=True)
class Endpoint:
    """A server that serves a model under a name.

    The API key is read from the environment (QTARGET_API_KEY) and is in no file, error or fingerprint.

    Attributes:
        model: folder or hub name whose tokenizer makes the prompts, and the served name unless only one is served.
        url: up to, and without, ``/v1``.
        batch_size: requests at once.
        patience: seconds that a server may be away.
    """

    model: str
    url: str
    revision: str | None = None
    batch_size: int = 32
    patience: float = 600.0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} was given; write --batch-size 1 or more.")
        object.__setattr__(self, "url", checked_url(self.url))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return tokenizer_for(self.model, self.revision, self.trust_remote_code)

    @cached_property
    def served(self) -> str:
        """The name under which the model is served."""
        listed = self._get("/v1/models", optional=True)
        if listed is None:
            return self.model
        names = _names(listed, self.url)
        if self.model in names:
            return self.model
        if len(names) != 1:
            raise ValueError(f"{self.url} does not serve {self.model!r}; it serves: {', '.join(map(repr, names))}.")
        return names[0]

    @cached_property
    def version(self) -> str | None:
        """What the server says its version is, where it says it as vLLM does."""
        found = self._get("/version", optional=True)
        return str(found["version"]) if isinstance(found, dict) and "version" in found else None

    def fingerprint(self) -> dict[str, Any]:
        return {
            "model": {
                "name": self.model,
                "served": self.served,
                "tokenizer": tokenizer_identity(self.tokenizer),
                "template": template_identity(self.tokenizer.chat_template),
            },
            "generation": {
                "engine": "http",
                "version": self.version,
                "batch_size": self.batch_size,
            },
        }

    def generate(self, requests: Sequence[Request], ask: SamplingProtocol) -> Iterator[Completion]:
        waiting: SimpleQueue[Request] = SimpleQueue()
        done: SimpleQueue[Completion | Exception] = SimpleQueue()
        stopped = threading.Event()
        for request in requests:
            waiting.put(request)

        def work() -> None:
            with suppress(Empty):
                while not stopped.is_set():
                    done.put(self._tried(waiting.get_nowait(), ask, stopped))

        for _ in range(min(self.batch_size, len(requests))):
            threading.Thread(target=work, daemon=True).start()  # an answer on its way does not hold up the end
        try:
            for _ in requests:
                answer = done.get()
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        finally:
            stopped.set()

    def _tried(self, request: Request, ask: SamplingProtocol, stopped: threading.Event) -> Completion | Exception:
        try:
            return self._complete(request, ask, stopped)
        except Exception as error:
            return error

    def _complete(self, request: Request, ask: SamplingProtocol, stopped: threading.Event) -> Completion:
        body = {
            "model": self.served,
            "prompt": list(request.prompt_ids),
            "max_tokens": ask.max_new_tokens,
            "temperature": ask.temperature,
            "top_p": ask.top_p,
            "seed": request.seed,
            "n": 1,
            **NOTHING_ELSE,
        }
        return self._completion(request, self._ask("POST", "/v1/completions", body, stopped))

    def _completion(self, request: Request, answer: Any) -> Completion:
        try:
            (choice,) = answer["choices"]
            text, finish, tokens = choice["text"], choice["finish_reason"], answer["usage"]["completion_tokens"]
            if not (isinstance(text, str) and finish in ("stop", "length") and type(tokens) is int and tokens >= 0):
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.url}/v1/completions does not answer as an OpenAI-compatible server does: expected one choice "
                'with `text`, a `finish_reason` of "stop" or "length", and `usage.completion_tokens`, and got '
                f"{_shown(json.dumps(answer))}."
            ) from error
        reason: Finish = "stop" if finish == "stop" else "length"
        return Completion(request, text, reason, tokens)

    def _get(self, path: str, *, optional: bool) -> Any:
        try:
            return self._ask("GET", path)
        except NotThere:
            if optional:
                return None
            raise

    def _ask(self, method: str, path: str, body: Any = None, stopped: threading.Event | None = None) -> Any:
        """Ask until there is an answer, or the server was away for too long."""
        ended = stopped or threading.Event()

        def wait(pause: float, tries: int, away: Away) -> None:
            if ended.wait(pause):
                raise away

        def given_up(tries: int, away: Away) -> Exception:
            return ValueError(
                f"{self.url} was away for {self.patience:g} s and {tries} tries; the last one said: {away}. Start the "
                "server, or correct --url; the same command goes on where this one stopped."
            )

        return until_answered(lambda: self._once(method, path, body), self.patience, BACKOFF, wait, given_up)

    def _once(self, method: str, path: str, body: Any) -> Any:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        try:
            response = self._connections.request(
                method,
                self.url + path,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=Timeout(connect=min(CONNECT_S, self.patience), read=READ_S),
            )
            status, content = _read(response)
        except (LocationValueError, SSLError) as error:
            raise ValueError(f"{self.url} cannot be asked: {_redacted(str(error))}. Correct --url.") from error
        except HTTPError as error:
            raise Away(_redacted(str(error))) from error
        return self._understood(status, content, path, retry_after(response, RETRY_AFTER_S))

    def _understood(self, status: int, content: bytes, path: str, pause: float) -> Any:
        said = _shown(_redacted(content.decode("utf-8", "replace")))
        if status in LATER:
            raise Away(f"{status}: {said}", pause)
        if status in (404, 405):
            raise NotThere(f"{self.url}{path} is not there ({status}): {said}. {_hint(self.url)}")
        if status in (401, 403):
            raise ValueError(f"{self.url} refuses ({status}): {said}. Put its key into the variable {KEY_VARIABLE}.")
        if status != 200:
            raise ValueError(f"{self.url}{path} refuses ({status}): {said}.")
        try:
            return json.loads(content)
        except ValueError as error:
            raise ValueError(
                f"{self.url}{path} answers with something that is not JSON: {said}. {_hint(self.url)}"
            ) from error

    @cached_property
    def _connections(self) -> PoolManager:
        return PoolManager(num_pools=2, maxsize=self.batch_size)


class NotThere(ValueError):
    """The server has no such path, or no such model."""


def checked_url(url: str) -> str:
    """An address without ``/v1`` at its end; ValueError for one that cannot be asked or should not be saved."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError(
            "The address holds a user or a password, which would be saved with the results; write "
            f"--url {parts.scheme}://{parts.netloc.rpartition('@')[2]} and put the key into {KEY_VARIABLE}."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no address of a server; write it as in --url http://127.0.0.1:8000.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1').rstrip('/')}"


def _hint(url: str) -> str:
    return f"Is {url} the address of the server, without /v1?"


def _names(listed: Any, url: str) -> list[str]:
    try:
        return [str(one["id"]) for one in listed["data"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{url}/v1/models does not list models: {_shown(json.dumps(listed))}. {_hint(url)}") from error


def _read(response: BaseHTTPResponse) -> tuple[int, bytes]:
    try:
        content = response.read(ANSWER_BYTES, decode_content=True)
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return response.status, content


def _shown(text: str) -> str:
    words = " ".join(text.split()) or "nothing"
    return words if len(words) <= WORDS else f"{words[:WORDS]}…"


def _redacted(text: str) -> str:
    """The text without the API key, should a server say it back."""
    key = os.environ.get(KEY_VARIABLE)
    return text.replace(key, "[key]") if key else text
