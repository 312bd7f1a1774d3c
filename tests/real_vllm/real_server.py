"""vLLM's own server, of the environment that `tests/real_vllm/install` makes, over loopback."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tiny_models
import urllib3

VARIABLE = "QTARGET_VLLM"
"""Names the environment's folder; without it these tests do not run."""
ENVIRONMENT = Path(os.environ.get(VARIABLE, "") or "/nowhere").absolute()
START_S = 240
QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}


def tiny_llama(folder: Path, seed: int = 1, width: int = 256) -> Path:
    """A tiny model that vLLM's kernels for CPUs take (heads of 32), with its tokenizer."""
    sizes = {"num_attention_heads": width // 32, "num_key_value_heads": width // 64, "initializer_range": 0.05}
    tiny_models.tiny_model("llama", seed=seed, width=width, max_position_embeddings=512, **sizes).save_pretrained(
        folder
    )
    tiny_models.tiny_tokenizer().save_pretrained(folder)
    return folder


@dataclass
class RealServer:
    """A server's process, and the address of its teacher."""

    process: subprocess.Popen
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def teacher(self) -> str:
        return f"vllm+{self.url}"

    def kill(self) -> None:
        """kill -9, of the server and the processes of its engine."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self) -> None:
        """Until it answers."""
        since = time.monotonic()
        while time.monotonic() - since < START_S:
            if self.process.poll() is not None:
                break
            try:
                if urllib3.request("GET", f"{self.url}/health", retries=False, timeout=2).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                time.sleep(0.5)
        raise RuntimeError(f"vLLM did not start; its words are in {self.process.args}")


def begun(model: Path, *flags: str, port: int = 0, log: Path | None = None) -> RealServer:
    """Start a server; it answers after half a minute to two."""
    port = port or _free_port()
    flags = flags or ("--max-logprobs", "128", "--logprobs-mode", "raw_logprobs")
    command = [str(ENVIRONMENT / "bin/vllm"), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--max-model-len", "512", "--enforce-eager", "--max-num-batched-tokens", "512"]
    with (log or Path(os.devnull)).open("w") as said:
        process = subprocess.Popen(
            [*command, *flags],
            env={**os.environ, **QUIET, "PYTHONPATH": ""},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return RealServer(process, port)


@contextmanager
def real_server(model: Path, *flags: str, port: int = 0) -> Iterator[RealServer]:
    """A server that is up until the end of the block, if it was not killed before."""
    server = begun(model, *flags, port=port)
    try:
        server.wait()
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]
