"""An OpenAI-shaped server of chats, in a thread: it finds right what holds the right answer."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JUDGE = "a-judge"


class JudgeServer(ThreadingHTTPServer):
    """What it was asked, and how it answers: `away` with 503 from so many questions on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.away_from: int | None = None
        self.reply: str | None = None
        self.finish = "stop"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self._answer({"data": [{"id": JUDGE}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.away_from is not None and len(self.server.asked) >= self.server.away_from:
            return self._answer({"error": "busy"}, 503)
        self.server.asked.append(body)
        self.server.keys.add(self.headers["Authorization"])
        content = body["messages"][0]["content"]
        gold, answer = (
            re.search(rf"<{part}>\n(.*?)\n</{part}>", content, re.S) for part in ("right_answer", "answer_to_grade")
        )
        right = gold and answer and gold[1] in answer[1]
        text = (
            self.server.reply
            or f"It says {'the same' if right else 'another'}.\n**{'CORRECT' if right else 'INCORRECT'}**"
        )
        self._answer({"choices": [{"message": {"content": text}, "finish_reason": self.server.finish}]})

    def _answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def judging() -> Iterator[JudgeServer]:
    """A server that runs, at a port of its own."""
    server = JudgeServer()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
