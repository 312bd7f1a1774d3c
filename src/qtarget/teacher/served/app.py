"""The server's endpoints: who may ask, how much at once, and what a refusal says."""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from qtarget.servers.secret import bearer
from qtarget.teacher.distributions import Keep
from qtarget.teacher.documents import Document
from qtarget.teacher.served.model import ServedModel
from qtarget.teacher.served.wire import BINARY, IDENTITY_HEADER, TOKEN_VARIABLE, question_bytes, unpack_question

TRANSFER_S = 60.0
"""Seconds that a question may take to come in, or an answer to go out."""
BUSY_S = 1
"""Seconds after which a client that was sent away may ask again."""
_LOG = logging.getLogger(__name__)


def serving_app(served: ServedModel, secret: str | None = None) -> Starlette:
    """The server's endpoints. With a secret, all but /health need it as a bearer token."""
    answers = AnswersEndpoint(served)

    async def health(_: Request) -> Response:
        return Response(served.health.to_json(), media_type="application/json")

    async def tokens(_: Request) -> Response:
        return Response(served.tokens, media_type="application/json")

    @asynccontextmanager
    async def lifespan(_: Starlette):
        yield
        answers.worker.shutdown(wait=False, cancel_futures=True)

    routes = [Route("/health", health), Route("/tokens", tokens), Route("/answers", answers, methods=["POST"])]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TokenGuard, secret=secret)] if secret else [],
        exception_handlers={HTTPException: _refusal},
        lifespan=lifespan,
    )


def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(error.detail, error.status_code, headers=error.headers)


@dataclass(frozen=True)
class TokenGuard:
    """Middleware that lets requests with the secret through, and all that ask for /health."""

    app: ASGIApp
    secret: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health" and not self._knows(scope):
            words = f"this teacher needs a token; set {TOKEN_VARIABLE} to the server's"
            refusal = PlainTextResponse(words, 401, headers={"WWW-Authenticate": "Bearer"})
            return await refusal(scope, receive, send)
        await self.app(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, bearer(self.secret).encode())


@dataclass(eq=False)
class AnswersEndpoint:
    """`POST /answers`: questions wait in line for the one thread that runs the model.

    A place in line is taken before a question is read and given up when its answer has gone out. The number of places
    is limited, so memory is bounded.
    """

    served: ServedModel
    places_taken: int = 0
    worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "model"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        waiting = self.served.health.limits.waiting
        if self.places_taken > waiting:
            words, headers = f"busy, and {waiting} wait already", {"Retry-After": str(BUSY_S)}
            raise HTTPException(503, words, headers)
        self.places_taken += 1
        try:
            response = await self._response(Request(scope, receive))
            async with asyncio.timeout(TRANSFER_S):
                await response(scope, receive, send)
        except (ClientDisconnect, TimeoutError):
            _LOG.info("a client went away")
        finally:
            self.places_taken -= 1

    async def _response(self, request: Request) -> Response:
        health = self.served.health
        body = await _body(request, health.limits.batch_tokens)
        documents, keep = self._checked(body)
        answer = await _unless_gone(request, lambda: self._ask(documents, keep))
        return Response(answer, media_type=BINARY, headers={IDENTITY_HEADER: health.identity})

    def _checked(self, body: bytes) -> tuple[list[Document], Keep]:
        limits = self.served.health.limits
        try:
            documents, keep = unpack_question(body, self.served.health.vocab)
        except ValueError as error:
            raise HTTPException(400, f"this is no question: {error}") from error
        tokens = sum(len(document.ids) for document in documents)
        if tokens > limits.batch_tokens:
            raise HTTPException(413, _too_large(f"{tokens} tokens", limits.batch_tokens))
        if keep.k > limits.top_k:
            words = f"{keep.k} tokens are to be kept, and this server keeps {limits.top_k}; start it with --top-k-limit"
            raise HTTPException(400, words)
        return documents, keep

    def _ask(self, documents: list[Document], keep: Keep) -> Awaitable[bytes]:
        return asyncio.get_running_loop().run_in_executor(self.worker, self._answer, documents, keep)

    def _answer(self, documents: list[Document], keep: Keep) -> bytes:
        try:
            return self.served.answer(documents, keep)
        except Exception as error:  # whatever a model may raise; its words stay on this side
            _LOG.exception("the model failed")
            name = type(error).__name__
            raise HTTPException(500, f"the model failed ({name}); what it said is in the server's log") from error


async def _body(request: Request, tokens: int) -> bytes:
    """The request's body. Refused with 413 as soon as it is known to be too large, with 408 when it does not come."""
    limit, body = question_bytes(tokens), bytearray()
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise HTTPException(413, _too_large(f"{declared} bytes", tokens))
    try:
        async with asyncio.timeout(TRANSFER_S):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise HTTPException(413, _too_large(f"more than {limit} bytes", tokens))
    except TimeoutError as error:
        raise HTTPException(408, f"the question did not come within {TRANSFER_S:g} s") from error
    return bytes(body)


def _too_large(given: str, tokens: int) -> str:
    return f"{given} in one request; this server takes {tokens} tokens at once; start it with more --batch-tokens"


async def _unless_gone(request: Request, ask: Callable[[], Awaitable[bytes]]) -> bytes:
    """The answer; ClientDisconnect, and the question leaves the line, when the client has gone."""
    asking = asyncio.ensure_future(ask())
    gone = asyncio.ensure_future(request.receive())  # the body is read, so the next message is a disconnect
    try:
        await asyncio.wait({asking, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise ClientDisconnect
        return asking.result()
    finally:
        asking.cancel()
        gone.cancel()
