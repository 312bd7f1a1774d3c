"""Address, start and stop of a teacher's server."""

import ipaddress
import signal
import socket
import sys
from dataclasses import dataclass

import uvicorn

from qtarget.console import SafeConsole
from qtarget.servers.secret import secret_in
from qtarget.teacher.served.app import serving_app
from qtarget.teacher.served.model import ServedModel, load_served_model
from qtarget.teacher.served.wire import TOKEN_VARIABLE, Limits

STOP_S = 30
"""Seconds for requests under way to be answered after the signal to stop."""
KEEP_ALIVE_S = 300
"""Seconds that a connection stays open between a training's steps."""


@dataclass(frozen=True, eq=False)
class Server:
    """A loaded model and a bound socket; `run` serves."""

    served: ServedModel
    listener: socket.socket
    secret: str | None

    @property
    def url(self) -> str:
        host, port = self.listener.getsockname()[:2]
        if ipaddress.ip_address(host).is_unspecified:
            host = socket.gethostname()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self) -> None:
        """Answer until SIGTERM or Ctrl-C; then finish what is under way, and exit."""
        self.listener.listen()  # before the address is printed
        health = self.served.health
        console = SafeConsole(soft_wrap=True)
        console.print(f"model    {health.model} ({health.dtype}, {health.vocab:,} tokens, {health.weights[-12:]})")
        console.print(f"address  {self.url}{'' if self.secret is None else f', for who knows {TOKEN_VARIABLE}'}")
        console.print(f"config   teacher: {self.url}")
        app = serving_app(self.served, self.secret)
        config = uvicorn.Config(
            app,
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _exit)  # uvicorn hands the signal on to these when all is answered
        uvicorn.Server(config).run(sockets=[self.listener])


def _exit(*_: object) -> None:
    sys.exit(0)


def open_server(
    model: str, host: str, port: int, dtype: str, limits: Limits, *, allow_pickled_weights: bool = False
) -> Server:
    """Bind the address, then load the model. Nothing is answered before `run`.

    Args:
        model: directory or hub name.  port: 0 for any that is free.
        allow_pickled_weights: read weights that are a pickle too.

    Raises:
        ValueError: an address that is taken, or that others reach where no token is set; a model that cannot be served.
    """
    secret = secret_in(TOKEN_VARIABLE)
    if secret is None and not is_loopback(host):
        raise ValueError(
            f"{host} can be reached from other machines, so the server needs a token; write: "
            f"export {TOKEN_VARIABLE}=$(openssl rand -hex 32) here and where you train."
        )
    listener = _bound_socket(host, port)
    try:
        return Server(load_served_model(model, dtype, limits, allow_pickled_weights), listener, secret)
    except BaseException:
        listener.close()
        raise


def is_loopback(host: str) -> bool:
    """Whether every address of a host is a loopback address; ValueError where the host has none."""
    try:
        addresses = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)  # noqa: S104  (asked, not bound)
    except OSError as error:
        raise ValueError(f"--host {host} is no address of this machine ({error}); write --host 127.0.0.1.") from error
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in addresses)


def _bound_socket(host: str, port: int) -> socket.socket:
    """A socket that has the address and does not listen yet, so clients are refused until the model is there."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ValueError(f"{host}:{port} cannot be served at ({error.strerror}); write another --port.") from error
    return listener
