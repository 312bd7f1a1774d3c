"""A port for a server that a test starts later, or twice."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_port() -> Iterator[int]:
    """A port of this machine that nobody else is given until the end of the block, whether somebody listens there or
    not: a socket has it that does not listen. Servers, which set SO_REUSEADDR, may have it too, by its number.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        port = keeper.getsockname()[1]
        if not sys.platform.startswith("linux"):  # where such a socket would keep the server away
            keeper.close()
        yield port
