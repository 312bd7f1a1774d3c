"""A hub on this machine, for the hub's own client: data sets of plain files at one commit."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "1" * 40


@contextmanager
def local_hub(patch: pytest.MonkeyPatch, cache: Path, files: Mapping[str, str], gated: str = "") -> Iterator[list[str]]:
    """Serve `files`, by "owner/name/file", and point the client at them. Yields the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            asked.append(self.path)
            if gated and gated in self.path:
                return self.answer(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts[:2] == ["api", "datasets"]:
                known = any(name.startswith("/".join(parts[2:4])) for name in files)
                body = json.dumps({"id": "/".join(parts[2:4]), "sha": COMMIT}).encode()
                return self.answer(200, body, {}) if known else self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            owner, name, _, commit, *path = parts[1:]
            body = files["/".join([owner, name, *path])].encode()
            etag = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": commit}
            return self.answer(200, body, etag)

        def answer(self, status: int, body: bytes, headers: Mapping[str, str]):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    patch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    patch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()
