"""The generator for an OpenAI-compatible server: token ids to ``/v1/completions``, a request and seed a completion."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import Any

from transformers import PreTrainedTokenizerBase

from qtarget.evaluate.generators.huggingface import tokenizer_for
from qtarget.evaluate.nouns import Completion, Finish, OnTokens, Request, SamplingProtocol, ignore_tokens
from qtarget.models.identity import template_identity, tokenizer_identity
from qtarget.outcomes import OutsideFault
from qtarget.servers.http import HttpServer, Reply, checked_url, in_one_line, without_engine, without_version
from qtarget.servers.patience import Away, until_answered

KEY_VARIABLE = "QTARGET_API_KEY"
_CONNECT_S, _READ_S = 10.0, 3600.0
"""Seconds for a connection, and for an answer: a long completion says nothing until it is finished."""
NOTHING_ELSE = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "stream": False}
"""vLLM and SGLang take what a request leaves open from the model's generation_config.json; so nothing is left open."""
LATER = (408, 409, 425, 429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed."""
ANSWER_BYTES = 1 << 26


@dataclass(frozen=True)
class Endpoint:
    """A server that serves a model under a name.

    The API key is read from the environment and is in no file, error or fingerprint.

    Attributes:
        model: folder or hub name whose tokenizer makes the prompts, and the served name unless the address says one or
            only one is served.
        url: up to, and without, ``/v1``; as a teacher's is written, `vllm+http://…#name`, it is the same server's.
        wanted: the name behind the address's #; empty for none.
        batch_size: requests at once.
        patience: seconds that a server may be away.
        key_variable: the environment variable with the key.
        option: how a command-line user writes the address, for errors.
    """

    model: str
    url: str
    revision: str | None = None
    batch_size: int = 32
    patience: float = 600.0
    trust_remote_code: bool = False
    key_variable: str = KEY_VARIABLE
    option: str = "--url"
    wanted: str = field(default="", init=False)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} was given; write --batch-size 1 or more.")
        plain, _, wanted = without_engine(self.url).partition("#")
        url = checked_url(plain, f"{self.option} {{}}", self.key_variable)
        object.__setattr__(self, "wanted", wanted)
        object.__setattr__(self, "url", without_version(url))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return tokenizer_for(self.model, self.revision, self.trust_remote_code)

    @cached_property
    def served(self) -> str:
        """The name under which the model is served."""
        listed = self._get("/v1/models", optional=True)
        if listed is None:
            return self.wanted or self.model
        names, model = _names(listed, self.url), self.wanted or self.model
        if model in names:
            return model
        if self.wanted or len(names) != 1:
            line = (
                f"--judge-model {names[0]}" if self.option == "--judge-url" else f"{self.option} {self.url}#{names[0]}"
            )
            raise ValueError(
                f"{self.url} does not serve {model!r}; it serves: {', '.join(map(repr, names))}. Name one of these: "
                f"{line}."
            )
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

    def generate(
        self, requests: Sequence[Request], ask: SamplingProtocol, on_tokens: OnTokens = ignore_tokens
    ) -> Iterator[Completion]:
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
            "stop_token_ids": [] if (end := self.tokenizer.eos_token_id) is None else [end],
            **NOTHING_ELSE,
        }
        return self._completion(request, self.ask("/v1/completions", body, stopped))

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
                f"{in_one_line(json.dumps(answer))}."
            ) from error
        reason: Finish = "stop" if finish == "stop" else "length"
        return Completion(request, text, reason, tokens)

    def _get(self, path: str, *, optional: bool) -> Any:
        try:
            return self.ask(path)
        except NotThere:
            if optional:
                return None
            raise

    def ask(self, path: str, body: Any = None, stopped: threading.Event | None = None) -> Any:
        """The JSON value that the server answers to one request, asked again while the server is away.

        Args:
            body: of a POST, as JSON; None for a GET.
            stopped: ends the waiting.

        Raises:
            ValueError: the server was away for too long, refuses, or answers with something else.
        """
        ended = stopped or threading.Event()

        def wait(pause: float, tries: int, away: Away) -> None:
            if ended.wait(pause):
                raise away

        def given_up(tries: int, away: Away) -> Exception:
            return ServerAwayError(
                f"{self.url} was away for {self.patience:g} s and {tries} tries; the last one said: {away}. Start the "
                f"server, or correct {self.option}; the same command goes on where this one stopped."
            )

        content = None if body is None else json.dumps(body).encode()

        def request() -> Reply:
            return self._server.request(path, content, content_type="application/json", limit=ANSWER_BYTES)

        return self._value(path, until_answered(request, self.patience, wait, given_up))

    @cached_property
    def _server(self) -> HttpServer:
        connect_s = min(_CONNECT_S, self.patience)
        return HttpServer(self.url, self.url, self.key_variable, LATER, connect_s, _READ_S, self.batch_size)

    def _value(self, path: str, reply: Reply) -> Any:
        """The JSON value in a reply; an error for a refusal."""
        shown = f"({reply.status}): {reply.text}"
        if reply.status in (404, 405):
            raise NotThere(f"{self.url}{path} is not there {shown}. {_hint(self.url)}")
        if reply.status in (401, 403):
            raise ValueError(f"{self.url} refuses {shown}. Put its key into the variable {self.key_variable}.")
        if reply.status != 200:
            raise ValueError(f"{self.url}{path} refuses {shown}.")
        try:
            return json.loads(reply.body)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{self.url}{path} answers with something that is not JSON: {reply.text}. {_hint(self.url)}"
            ) from error


class ServerAwayError(OutsideFault, ValueError):
    """A server was away for longer than it may be waited for."""


class NotThere(ValueError):
    """The server has no such path, or no such model."""


def _hint(url: str) -> str:
    return f"Is {url} the address of the server, without /v1?"


def _names(listed: Any, url: str) -> list[str]:
    try:
        return [str(one["id"]) for one in listed["data"]]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{url}/v1/models does not list models: {in_one_line(json.dumps(listed))}. {_hint(url)}"
        ) from error
