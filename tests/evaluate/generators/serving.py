"""An OpenAI-shaped server of completions, over a model of the lab, as a process of its own."""

import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import uvicorn
from kept_ports import kept_port
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from transformers import AutoTokenizer

from qtarget import lab
from qtarget.evaluate.generators.drawing import draw, ends_of
from qtarget.evaluate.nouns import SamplingProtocol

KEY, NAME, VERSION = "sk-of-the-test", "lab-student", "0.0.1-test"
START_S = 600


def completions_app(folder: Path) -> Starlette:
    model, tokenizer = lab.load(folder), AutoTokenizer.from_pretrained(folder)

    async def models(_: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [{"id": NAME, "object": "model"}]})

    async def version(_: Request) -> JSONResponse:
        return JSONResponse({"version": VERSION})

    async def completions(request: Request) -> JSONResponse:
        asked = await request.json()
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": "no such key"}, status_code=401)
        if asked["model"] != NAME or asked["n"] != 1 or asked["top_k"] != -1:
            return JSONResponse({"error": f"not as expected: {asked}"}, status_code=400)
        protocol = SamplingProtocol("plain", 1, asked["temperature"], asked["top_p"], asked["max_tokens"])
        (ids,) = draw(model, tokenizer, [asked["prompt"]], [asked["seed"]], protocol)
        finish = "stop" if ids[-1] in ends_of(model, tokenizer) else "length"
        choice = {"index": 0, "text": tokenizer.decode(ids, skip_special_tokens=True), "finish_reason": finish}
        return JSONResponse({"choices": [choice], "usage": {"completion_tokens": len(ids)}})

    routes = [Route("/v1/models", models), Route("/version", version)]
    return Starlette(routes=[*routes, Route("/v1/completions", completions, methods=["POST"])])


def _serve(folder: Path, port: int) -> None:
    torch.set_num_threads(1)
    uvicorn.run(completions_app(folder), host="127.0.0.1", port=port, log_level="error")


@dataclass
class Server:
    """One that can be killed, and started again at the same address."""

    folder: Path
    port: int
    process: multiprocessing.context.ForkProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, wait: bool = True) -> None:
        self.process = multiprocessing.get_context("fork").Process(target=_serve, args=(self.folder, self.port))
        self.process.start()
        end = time.monotonic() + START_S
        while wait:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.is_alive()
            assert time.monotonic() < end
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.join()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    with kept_port() as port:
        server = Server(folder, port)
        server.start()
        try:
            yield server
        finally:
            server.kill()
