"""A teacher's server as a process of its own, over loopback; and small servers that answer nonsense."""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import tiny_models

START_S = 600


def saved_teacher(folder: Path, seed: int = 1) -> Path:
    """A tiny teacher with its tokenizer."""
    tiny_models.tiny_model(seed=seed, width=48).save_pretrained(folder)
    tiny_models.tiny_tokenizer().save_pretrained(folder)
    return folder


@dataclass
class Serving:
    process: subprocess.Popen
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(folder: Path, *options: str, port: int = 0, secret: str = "") -> Iterator[Serving]:
    """A server that is up until the end of the block, if it was not killed before."""
    env = {**os.environ, "QTARGET_TEACHER_TOKEN": secret, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "qtarget", "teacher", "serve", str(folder), "--port", str(port), *options]
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield Serving(process, _address(process, Path(log.name)))
        finally:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen, log: Path) -> str:
    """What the server says once it answers; read by a handle of our own, since reading moves where a handle writes."""
    until = time.monotonic() + START_S
    while not (line := re.search(r"^config   teacher: (\S+)\n", log.read_text("utf-8", "replace"), re.MULTILINE)):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the server did not start: {log.read_text('utf-8', 'replace')}")
        time.sleep(0.1)
    return line[1]


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def answering(answer: Callable[[str, bytes], Answer]) -> Iterator[str]:
    """A server that gives the answer (status, headers, body) to whatever it is asked (path, body); its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = answer(self.path, asked)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
